"""Holding a plugin where it is: the operator's word that binds update runs (contract §7)."""

from agent.context import LOCK_TIMEOUT_S, Context
from agent.model import Event, Hold, Kind, Outcome
from agent.pipeline.plan import held, longest_hold
from agent.tree.remembering import remembering
from agent.verbs.inventory import moment, require_own

FOREVER = "forever"


def hold_on(context: Context, plugin_id: str) -> Hold | None:
    """The hold on a plugin, over or not: the config's or ``agent hold``'s, whichever is longer."""
    configured = context.config.plugin(plugin_id).hold_until
    return longest_hold(configured, context.ledger.hold_of(plugin_id))


def held_until(context: Context, plugin_id: str) -> str | None:
    """The end of the hold in force: a moment or "forever"; None where there is none."""
    hold = hold_on(context, plugin_id)
    return None if held(hold, context.clock()) is None else _end(hold)


def hold(context: Context, plugin_id: str, *, for_s: int | None, dry_run: bool) -> Outcome:
    """Keep update runs from changing a plugin; in the place of an earlier ``agent hold``.

    An open trial is judged all the same, and ``pull``, ``rollback`` and ``remove`` are not bound:
    somebody asks for those.

    Args:
        context: The installation.
        plugin_id: The plugin.
        for_s: For how long; None = until ``unhold``.
        dry_run: Change nothing.

    Raises:
        NotFoundError: It is not installed.
        PolicyError: It is the system's.
        BusyError: Another process holds the tree.
    """
    require_own(context, plugin_id, "hold")
    # Whole seconds: what is shown is what binds.
    wanted = Hold(None if for_s is None else float(int(context.clock()) + for_s))
    if context.ledger.hold_of(plugin_id) == wanted:
        return _outcome(context, plugin_id, Kind.CURRENT, "hold", f"already held {_until(wanted)}")
    if dry_run:
        return _outcome(context, plugin_id, Kind.PLANNED, "hold", f"would be held {_until(wanted)}")
    # Under the tree's lock: no update that was planned before goes live after this returns.
    with (
        context.tree.lock(timeout_s=LOCK_TIMEOUT_S),
        remembering(context.ledger, context.tree, plugin_id),
        context.audit.deciding("held", _until(wanted), plugin=plugin_id),
        context.ledger.transaction(),
    ):
        now = context.clock()
        context.ledger.hold(plugin_id, until=wanted.until, at=now)
        context.ledger.record(Event(now, plugin_id, "held", None, None, _until(wanted)))
    return _outcome(context, plugin_id, Kind.COMMITTED, "hold", f"held {_until(wanted)}")


def unhold(context: Context, plugin_id: str, *, dry_run: bool) -> Outcome:
    """Take back ``agent hold``; a hold in the config stays, and is named.

    Raises:
        NotFoundError: It is not installed.
        PolicyError: It is the system's.
        BusyError: Another process holds the tree.
    """
    require_own(context, plugin_id, "unhold")
    commanded = context.ledger.hold_of(plugin_id)
    configured = longest_hold(context.config.plugin(plugin_id).hold_until, None)
    still = ""
    if configured is not None and held(configured, context.clock()) is not None:
        still = f"; the config still holds it {_until(configured)}"
    if commanded is None:
        return _outcome(context, plugin_id, Kind.CURRENT, "unhold", f"no agent hold{still}")
    if dry_run:
        return _outcome(context, plugin_id, Kind.PLANNED, "unhold", f"would be let go{still}")
    was = f"was held {_until(commanded)}"
    with (
        context.tree.lock(timeout_s=LOCK_TIMEOUT_S),
        remembering(context.ledger, context.tree, plugin_id),
        context.audit.deciding("unheld", was, plugin=plugin_id),
        context.ledger.transaction(),
    ):
        context.ledger.unhold(plugin_id)
        context.ledger.record(Event(context.clock(), plugin_id, "unheld", None, None, was))
    return _outcome(context, plugin_id, Kind.COMMITTED, "unhold", f"let go{still}")


def _end(hold: Hold | None) -> str | None:
    if hold is None:
        return None
    return FOREVER if hold.until is None else moment(hold.until)


def _until(hold: Hold) -> str:
    return "until agent unhold" if hold.until is None else f"until {_end(hold)}"


def _outcome(context: Context, plugin_id: str, kind: Kind, step: str, detail: str) -> Outcome:
    live = context.activation.live(plugin_id)
    version = live.version if live else None
    return Outcome(
        plugin_id,
        kind,
        step,
        detail,
        before=version,
        after=version,
        release=live.release if live else None,
        digest=live.digest if live else None,
        extra={"held_until": held_until(context, plugin_id)},
    )
