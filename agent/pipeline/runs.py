"""One run for one plugin: whatever goes wrong becomes its outcome, and what decided is kept."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace

from agent.context import Context
from agent.errors import NotFoundError, translated
from agent.model import Decision, Event, Generation, Kind, Outcome
from agent.pipeline.steps import Steps
from agent.telemetry import Span

APPROVAL_NEEDED = "approval needed"
"""The history's word for a release that newly waits for consent."""


def run(
    context: Context,
    steps: Steps,
    plugin_id: str,
    live: Generation | None,
    work: Callable[[], Outcome],
    *,
    decides: bool,
) -> Outcome:
    """Do the work for one plugin; one's failure never touches another's.

    Args:
        context: The installation.
        steps: Where the work shows its place.
        plugin_id: The plugin.
        live: What serves before.
        work: What is done.
        decides: Whether the outcome is written down: to the audit log, and for ``agent why``.
            That a ledger does not know the tree is not written into that ledger's books.

    Returns:
        What the work came to; ``refused`` or ``failed`` with the error where it raised one.
    """
    steps.begin()
    with steps.telemetry.span("agent.update", plugin_id=plugin_id) as span:
        try:
            outcome = work()
        except Exception as error:
            cause = translated(error)
            if cause is None:
                raise
            if isinstance(cause, NotFoundError) and cause.hint is None:
                cause.hint = f"agent tags {plugin_id}"
            outcome = Outcome(
                plugin_id,
                Kind.REFUSED if cause.is_rule else Kind.FAILED,
                steps.now,
                cause.message,
                after=steps.version,
                error=cause,
            )
        outcome = replace(outcome, before=live.version if live else None)
        decision = Decision.of(outcome, at=context.clock())
        _tell(steps, outcome, decision, span, decides=decides)
    if decides and (outcome.error is None or context.stranger() is None):
        context.audit.outcome(outcome)
        try:
            context.ledger.note_decision(decision)
            if decision.reason == "consent":
                _announce(context, outcome, decision)
        except sqlite3.Error:
            # What failed is told, and that it can't be written down has most likely one cause.
            if outcome.error is None:
                raise
    return outcome


def _announce(context: Context, outcome: Outcome, decision: Decision) -> None:
    """Record that a release waits for the operator's consent; once for each."""
    plugin_id, release = outcome.plugin_id, outcome.release
    if not context.ledger.was_recorded(plugin_id, APPROVAL_NEEDED, release):
        said = (outcome.after, release, outcome.detail, outcome.before)
        context.ledger.record(Event(decision.at, plugin_id, APPROVAL_NEEDED, *said))


def _tell(steps: Steps, outcome: Outcome, decision: Decision, span: Span, *, decides: bool) -> None:
    """Trace what a run came to, and count it; a dry run only for what it refused to believe."""
    facts = {
        "agent.outcome": decision.outcome,
        "agent.reason": decision.reason,
        "plugin.version": outcome.after,
        "plugin.release": outcome.release,
        "oci.manifest.digest": outcome.digest,
    }
    for name, value in facts.items():
        if value:
            span.set_attribute(name, value)
    metrics = steps.telemetry.metrics
    refusals = [*steps.passed_over, *filter(None, [outcome.error])]
    metrics.distrusted(outcome.plugin_id, {id(error): error for error in refusals}.values())
    if decides:
        metrics.updated(outcome, at=decision.at)
