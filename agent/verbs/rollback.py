"""Going back by hand: which release is good, is it still believed, and then the flip."""

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import BusyError, NotFoundError, RollbackError, translated
from agent.model import Decision, Generation, Kind, Outcome
from agent.pipeline.rules import refuse_if_disabled
from agent.pipeline.settling import refuse_strangers, settle
from agent.telemetry import Telemetry
from agent.tree.remembering import refuse_behind
from agent.tree.sealed import require_loadable
from agent.verbs.inventory import is_whole


def roll_back(
    context: Context,
    telemetry: Telemetry,
    plugin_id: str,
    *,
    to_version: str | None,
    dry_run: bool,
) -> Outcome:
    """Go back to the last good release, and reject the one that serves.

    Args:
        context: The installation.
        telemetry: Where the span goes.
        plugin_id: The plugin.
        to_version: The version to go back to; None = the last good one.
        dry_run: Change nothing.

    Returns:
        What was done; ``failed`` where there is nothing to go back to (``NotFoundError``), or
        where that is no longer trusted, or is broken (``RollbackError``).

    Raises:
        NotFoundError: It is not installed.
        PolicyError: It is disabled.
        BusyError: Another process holds the tree.
    """
    refuse_strangers(context)
    refuse_behind(context.ledger, context.tree, plugin_id)
    before = context.activation.live(plugin_id)
    if not dry_run:
        settle(context, telemetry, plugin_id)
    refuse_if_disabled(context, plugin_id, "roll back")
    if not dry_run and before is not None and _is_left(context, before, to_version):
        return _done(context, before, context.activation.live(plugin_id) or before)
    leaving = _leaving(context, plugin_id)
    try:
        target = _target(context, leaving, to_version)
        # Compiled, if need be, before the lock.
        _require_loadable(context, target)
    except (NotFoundError, RollbackError) as cause:
        outcome = Outcome(
            plugin_id,
            Kind.FAILED,
            "rollback",
            cause.message,
            before=leaving.version,
            error=cause,
        )
        if not dry_run:
            context.audit.refused(plugin_id, to_version, cause, kind=Kind.FAILED)
            context.ledger.note_decision(Decision.of(outcome, at=context.clock()))
        return outcome
    with telemetry.span("agent.rollback", plugin_id=plugin_id):
        if not dry_run:
            with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
                if context.activation.live(plugin_id) != leaving:
                    raise BusyError(
                        f"cannot roll back {plugin_id}: another agent changed it just now",
                        hint=f"agent rollback {plugin_id}",
                    )
                context.activation.turn_back(
                    leaving,
                    target,
                    kind="rollback",
                    reason=f"rolled back to {target.version} by hand",
                )
    if dry_run:
        return _outcome(leaving, target, Kind.PLANNED, f"would leave {leaving.version}")
    return _done(context, leaving, target)


def _is_left(context: Context, before: Generation, to_version: str | None) -> bool:
    """Whether what served was left just now: a rollback that was cut short is finished.

    Who then asks for it again wants that one, and not one more.
    """
    live = context.activation.live(before.plugin_id)
    if live is None or live.release == before.release:
        return False
    rejected = before.release in context.ledger.rejections(before.plugin_id)
    return rejected and to_version in (None, live.version)


def _done(context: Context, leaving: Generation, target: Generation) -> Outcome:
    outcome = _outcome(leaving, target, Kind.ROLLED_BACK, f"{leaving.version} is rejected")
    context.ledger.note_decision(Decision.of(outcome, at=context.clock()))
    return outcome


def _outcome(leaving: Generation, target: Generation, kind: Kind, detail: str) -> Outcome:
    return Outcome(
        leaving.plugin_id,
        kind,
        "rollback",
        detail,
        before=leaving.version,
        after=target.version,
        release=target.release,
        digest=target.digest,
    )


def _leaving(context: Context, plugin_id: str) -> Generation:
    """What serves now."""
    leaving = context.activation.live(plugin_id)
    if leaving is None:
        raise NotFoundError(f"cannot roll back {plugin_id}: it is not installed", hint="agent list")
    return leaving


def _target(context: Context, leaving: Generation, to_version: str | None) -> Generation:
    """The release before a trial, else the newest committed one that is not rejected."""
    plugin_id, ledger = leaving.plugin_id, context.ledger
    if to_version == leaving.version:
        raise NotFoundError(
            f"cannot roll back {plugin_id} to {to_version}: it serves",
            hint=f"agent history {plugin_id}",
        )
    others = [g for g in ledger.generations(plugin_id) if g.release != leaving.release]
    served = [g for g in others if g.committed_at is not None]
    if to_version is not None:
        for generation in served:
            if generation.version == to_version:
                return generation
        kept = ", ".join(g.version for g in served) or "none"
        raise NotFoundError(
            f"cannot roll back {plugin_id} to {to_version}: kept and once committed are {kept}",
            hint=f"agent pull {plugin_id}:{to_version} --allow-downgrade",
        )
    trial = ledger.trial(plugin_id)
    if trial is not None and trial.previous is not None:
        for generation in others:
            if generation.release == trial.previous:
                return generation
    rejected = ledger.rejections(plugin_id)
    good = [g for g in served if g.release not in rejected]
    if not good:
        raise NotFoundError(
            f"cannot roll back {plugin_id}: no good release is kept beside {leaving.version}",
            hint=f"agent history {plugin_id}",
        )
    return max(good, key=lambda g: g.committed_at or 0)


def _require_loadable(context: Context, target: Generation) -> None:
    """Load the target's sealed bytes: verified, compiled, its imports there."""
    try:
        require_loadable(context, target)
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        hint = cause.hint or f"agent history {target.plugin_id}"
        if not is_whole(context, target):
            hint = (
                f"agent pull {target.plugin_id}:{target.version} --allow-downgrade fetches it "
                "anew; or agent doctor --fix, which forgets it"
            )
        raise RollbackError(
            f"cannot roll back {target.plugin_id} to {target.version}: {cause.message}", hint=hint
        ) from error
