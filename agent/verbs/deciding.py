"""Granting and denying by command: in the ledger, and beside it (contract §6)."""

import sqlite3

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import LedgerError
from agent.ledger.memory import Decided
from agent.model import Event
from agent.tree.remembering import remembering
from agent.verbs.beside import deny_beside, why_unwritten
from agent.verbs.inventory import moment


def decision(
    context: Context,
    capability: str,
    *,
    yes: bool,
    for_s: int | None = None,
    max_calls: int | None = None,
) -> Decided:
    """What would be decided now.

    Args:
        context: The installation.
        capability: The word.
        yes: Whether it is granted.
        for_s: For how long; None = without an end.
        max_calls: In how many calls it may be used; None = in any number.
    """
    now = context.clock()
    # Whole seconds: what is shown is what binds.
    until = None if for_s is None else float(int(now) + for_s)
    return Decided(capability, yes, now, until, max_calls, max_calls)


def decide(context: Context, plugin_id: str, decided: Decided) -> LedgerError | None:
    """Grant a capability to a plugin or deny it; the later takes back the earlier.

    Args:
        context: The installation.
        plugin_id: The plugin, installed or not.
        decided: See ``decision``.

    Returns:
        What to tell of a denial that holds by the tree's word alone, because the ledger or its
        log can't be written; None where it is in the ledger.

    Raises:
        BusyError: Another process holds the tree.
        LedgerError, PolicyError: The ledger does not know the tree: see ``Context.stranger``.
    """
    try:
        _decide(context, plugin_id, decided)
    except (sqlite3.Error, OSError, LedgerError) as error:
        why = None if decided.granted else why_unwritten(context, plugin_id, error)
        if why is None:
            raise
        return deny_beside(context, plugin_id, decided, why)
    return None


def _decide(context: Context, plugin_id: str, decided: Decided) -> None:
    word, outcome = ("grant", "granted") if decided.granted else ("deny", "denied")
    capability = decided.capability
    what = f"{capability}{extent(decided)}"
    with (
        context.tree.lock(timeout_s=LOCK_TIMEOUT_S),
        remembering(context.ledger, context.tree, plugin_id),
        context.audit.deciding(outcome, what, plugin=plugin_id, capability=capability),
        context.ledger.transaction(),
    ):
        context.ledger.decide(
            plugin_id,
            capability,
            granted=decided.granted,
            at=decided.at,
            until=decided.until,
            max_calls=decided.max_calls,
        )
        context.ledger.record(Event(decided.at, plugin_id, word, None, None, what))


def extent(decided: Decided) -> str:
    """How far a grant goes, to be put after what it is of: nothing where it has no end."""
    said = "" if decided.until is None else f" until {moment(decided.until)}"
    if decided.max_calls is not None:
        said += f" in {calls(decided.max_calls)}"
    return said


def calls(number: int) -> str:
    """A number of calls, for people."""
    return "1 call" if number == 1 else f"{number} calls"
