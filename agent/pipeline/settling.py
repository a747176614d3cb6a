"""What every run and every open host does first for a plugin: finish, judge, tidy up."""

import contextlib
from collections.abc import Callable

from agent.context import LOCK_TIMEOUT_S, Context
from agent.model import Trial
from agent.pipeline.probation import Judgement, Verdict
from agent.telemetry import Telemetry
from agent.tree.pruning import prune
from agent.tree.remembering import behind, refuse_behind

_SPANS = {Verdict.HEALTHY: "agent.commit", Verdict.UNHEALTHY: "agent.rollback"}


def refuse_strangers(context: Context) -> None:
    """Refuse to change a tree that this state's ledger does not know, before any work.

    Raises:
        LedgerError, PolicyError: See ``ownership.stranger``.
    """
    problem = context.stranger()
    if problem is not None:
        raise problem


def tell_behind(context: Context, plugin_id: str, warn: Callable[[str], object]) -> None:
    """Say that the tree knows more of a plugin than its ledger, if that is so."""
    problem = behind(context.ledger, context.tree, plugin_id)
    if problem is not None and context.stranger() is None:
        warn(problem.message)
        warn(f"  try: {problem.hint}")


def settle(
    context: Context, telemetry: Telemetry, plugin_id: str, *, timeout_s: float | None = None
) -> tuple[Trial, Judgement] | None:
    """Finish what a crash left, and judge the open trial: commit or go back.

    Args:
        context: The installation.
        telemetry: Where a commit's or rollback's span goes.
        plugin_id: The plugin; one that was never installed is left alone.
        timeout_s: How long a host may wait for the tree's lock, and hardly for the ledger;
            None = as long as a command does.

    Returns:
        The trial that was open and what was judged; None where none was.

    Raises:
        BusyError: Another process held the tree's lock.
        LedgerError: An older copy of the ledger was put back.
    """
    if context.ledger.installed(plugin_id) is None:
        refuse_behind(context.ledger, context.tree, plugin_id)
        return None
    with contextlib.ExitStack() as held:
        # The tree's lock before the ledger's turn, as everybody takes them.
        held.enter_context(
            context.tree.lock(timeout_s=LOCK_TIMEOUT_S if timeout_s is None else timeout_s)
        )
        if timeout_s is not None:
            held.enter_context(context.ledger.impatient())
        judged = context.activation.judge(plugin_id)
        if judged is None or judged[1].verdict not in _SPANS:
            return judged
        trial, judgement = judged
        span = telemetry.span(
            _SPANS[judgement.verdict], plugin_id=plugin_id, plugin_release=trial.release
        )
        # What can't be removed now is removed the next time.
        with span, contextlib.suppress(OSError):
            prune(context, plugin_id)
        return judged
