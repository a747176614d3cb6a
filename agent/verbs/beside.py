"""Stops and denials while the ledger can't be written: the tree's word, which hosts heed.

The state disk may be full or read only, another process may hold the ledger, or it is an older
copy. A word that only takes away is then written where hosts look as well
(``agent.tree.remembering.say_beside``), and the doctor takes it up, with its line in the audit log,
once the ledger can be written.
"""

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import AgentError, DamagedError, LedgerError, in_words, translated
from agent.ledger.memory import Decided, Memory
from agent.model import Event, Kind, Outcome, Stop
from agent.pipeline.settling import refuse_strangers
from agent.tree.remembering import behind, say_beside, stop_on
from agent.verbs.inventory import known_own

_HINT = (
    "agent doctor --fix writes it to the ledger, once that can be written (free some space, make "
    "it writable); until then nothing else of the plugin is changed"
)
_TAKEN_UP = "said while the ledger could not be written, or forgotten by an older one: taken up"


def why_unwritten(context: Context, plugin_id: str, error: Exception) -> AgentError | None:
    """Why a word can't be written to the ledger or its log; None where something else is wrong.

    Args:
        context: The installation.
        plugin_id: The plugin that it is on.
        error: What ended the attempt.
    """
    if isinstance(error, DamagedError | TimeoutError):
        return None
    if isinstance(error, LedgerError):
        # Perhaps by a word that was said so before. A disk that is nearly full takes the one
        # write and not the next: whether it could be written now is not asked.
        return behind(context.ledger, context.tree, plugin_id)
    return translated(error)


def disable_beside(context: Context, plugin_id: str, why: AgentError) -> Outcome:
    """Take a plugin out of service by the tree's word.

    Args:
        context: The installation.
        plugin_id: The plugin.
        why: Why the ledger can't be told.

    Returns:
        ``committed``, or ``current`` where that was said already, with an error (1) all the same:
        something is left to do.

    Raises:
        AgentError: The tree can't be written either: it serves on.
        NotFoundError, PolicyError, BusyError: See ``disable``.
    """
    refuse_strangers(context)
    known_own(context, plugin_id, "disable")
    ledger, tree, activation = context.ledger, context.tree, context.activation
    with tree.lock(timeout_s=LOCK_TIMEOUT_S):
        before = activation.live(plugin_id)
        was_said = stop_on(ledger, tree, plugin_id) is Stop.DISABLED
        left = ""
        try:
            activation.disable_beside(plugin_id)
        except OSError as error:
            if stop_on(ledger, tree, plugin_id) is not Stop.DISABLED:
                raise _neither(plugin_id, "disable", why, error) from error
            left = f"; not all of it could be taken away: {in_words(error)}"
    is_current = was_said and before is None
    cause = LedgerError(
        f"{why.message}; {plugin_id} is disabled all the same, by the plugin tree's word, and "
        f"hosts refuse its calls{left}",
        hint=_HINT,
    )
    return Outcome(
        plugin_id,
        Kind.CURRENT if is_current else Kind.COMMITTED,
        "disable",
        f"{'already ' if is_current else ''}disabled, beside the ledger",
        before=before.version if before else None,
        release=before.release if before else None,
        digest=before.digest if before else None,
        error=cause,
    )


def deny_beside(context: Context, plugin_id: str, denied: Decided, why: AgentError) -> LedgerError:
    """Deny a capability by the tree's word.

    Returns:
        What to tell: it holds, and what is left to do.

    Raises:
        AgentError: The tree can't be written either: nothing is denied.
        BusyError, LedgerError, PolicyError: See ``decide``.
    """
    refuse_strangers(context)
    with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
        try:
            say_beside(context.ledger, context.tree, plugin_id, denied=denied)
        except OSError as error:
            raise _neither(plugin_id, f"deny {denied.capability} to", why, error) from error
    return LedgerError(
        f"{why.message}; {denied.capability} is denied to {plugin_id} all the same, by the plugin "
        "tree's word, and hosts heed it",
        hint=_HINT,
    )


def tell_taken_up(
    context: Context, plugin_id: str, mine: Memory | None, ahead: Memory | None
) -> None:
    """Write to the audit log what the ledger is about to learn of stops and denials.

    Before it learns it, like any decision. What another ledger's tree says is told by the line
    on the rebuilt ledger.

    Args:
        context: The installation.
        plugin_id: The plugin.
        mine: What the ledger knows; None = nothing.
        ahead: What the tree knows more; None = nothing.

    Raises:
        OSError, sqlite3.Error: It can't be written.
    """
    for event, capability in _news(context, plugin_id, mine, ahead):
        outcome = "disabled" if capability is None else "denied"
        with context.audit.deciding(outcome, event.detail, plugin=plugin_id, capability=capability):
            context.ledger.record(event)


def _news(
    context: Context, plugin_id: str, mine: Memory | None, ahead: Memory | None
) -> list[tuple[Event, str | None]]:
    """What only the tree knows, as events of the history, each with the capability it is of."""
    if ahead is None or ahead.ledger != context.ledger.ledger_id:
        return []
    found: list[tuple[Event, str | None]] = []
    if ahead.stop is Stop.DISABLED and (mine is None or mine.stop is not Stop.DISABLED):
        good = context.activation.live(plugin_id) or context.activation.good(plugin_id)
        version, release = (good.version, good.release) if good else (None, None)
        event = Event(context.clock(), plugin_id, "disabled", version, release, _TAKEN_UP)
        found.append((event, None))
    known = {d.capability for d in mine.decisions if not d.granted} if mine else set()
    for one in ahead.decisions:
        if not one.granted and one.capability not in known:
            what = f"{one.capability}: {_TAKEN_UP}"
            found.append((Event(one.at, plugin_id, "deny", None, None, what), one.capability))
    return found


def _neither(plugin_id: str, what: str, why: AgentError, error: OSError) -> AgentError:
    return AgentError(
        f"cannot {what} {plugin_id}: {why.message}; nor can it be said in the plugin tree: "
        f"{in_words(error)}; it is as before",
        hint="end the programs that run it; free some space or make one of the two disks writable, "
        "then run the command again",
    )
