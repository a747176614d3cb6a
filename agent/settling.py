"""What every run and every open host does first for a plugin: finish, judge, tidy up."""

import contextlib

from agent.context import LOCK_TIMEOUT_S, Context
from agent.model import Trial
from agent.probation import Judgement, Verdict
from agent.pruning import prune
from agent.telemetry import Telemetry

_SPANS = {Verdict.HEALTHY: "agent.commit", Verdict.UNHEALTHY: "agent.rollback"}


def settle(
    context: Context, telemetry: Telemetry, plugin_id: str, *, timeout_s: float | None = None
) -> tuple[Trial, Judgement] | None:
    """Finish what a crash left, and judge the open trial: commit or go back.

    Args:
        context: The installation.
        telemetry: Where a commit's or rollback's span goes.
        plugin_id: The plugin; one that was never installed, or has nothing to be done, is left
            alone.
        timeout_s: How long a host may wait for the tree's lock, and hardly for the ledger;
            None = as long as a command does.

    Returns:
        The trial that was open and what was judged; None where none was.

    Raises:
        BusyError: Another process held the tree's lock.
    """
    activation = context.activation
    # Most plugins have nothing to finish and nothing to judge: that is seen without a lock.
    if context.ledger.trial(plugin_id) is None and not activation.is_unfinished(plugin_id):
        return None
    with contextlib.ExitStack() as held:
        # The tree's lock before the ledger's turn, as everybody takes them.
        held.enter_context(
            context.tree.lock(timeout_s=LOCK_TIMEOUT_S if timeout_s is None else timeout_s)
        )
        if timeout_s is not None:
            held.enter_context(context.ledger.impatient())
        judged = activation.judge(plugin_id)
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
