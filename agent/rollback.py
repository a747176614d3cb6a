"""Going back by hand: which release is good, is it still believed, and then the flip."""

import contextlib

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import AgentError, NotFoundError, RollbackError, translated
from agent.model import Decision, Generation, Kind, Outcome
from agent.telemetry import Telemetry


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
        BusyError: Another process holds the tree.
    """
    with telemetry.span("agent.rollback", plugin_id=plugin_id), contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(context.tree.lock(timeout_s=LOCK_TIMEOUT_S))
            context.activation.recover()
        leaving = context.activation.live(plugin_id)
        if leaving is None:
            raise NotFoundError(
                f"cannot roll back {plugin_id}: it is not installed", hint="agent list"
            )
        try:
            target = _target(context, leaving, to_version)
            _require_loadable(context, target)
        except AgentError as cause:
            return Outcome(
                plugin_id,
                Kind.FAILED,
                "rollback",
                cause.message,
                before=leaving.version,
                error=cause,
            )
        if not dry_run:
            context.activation.turn_back(
                leaving,
                target,
                kind="rollback",
                reason=f"rolled back to {target.version} by hand",
            )
    outcome = Outcome(
        plugin_id,
        Kind.PLANNED if dry_run else Kind.ROLLED_BACK,
        "rollback",
        f"would leave {leaving.version}" if dry_run else f"{leaving.version} is rejected",
        before=leaving.version,
        after=target.version,
        release=target.release,
        digest=target.digest,
    )
    if not dry_run:
        context.ledger.note_decision(Decision.of(outcome, at=context.clock()))
    return outcome


def _target(context: Context, leaving: Generation, to_version: str | None) -> Generation:
    """The release before a trial, else the newest committed one that is not rejected."""
    plugin_id, ledger = leaving.plugin_id, context.ledger
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
    from sandbox import read_set

    manifest = context.tree.folder(target) / f"{target.stem}.toml"
    try:
        with contextlib.closing(context.open_sandbox()) as sandbox:
            sandbox.load(read_set(manifest)).close()
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        raise RollbackError(
            f"cannot roll back {target.plugin_id} to {target.version}: {cause.message}",
            hint=cause.hint or f"agent history {target.plugin_id}",
        ) from error
