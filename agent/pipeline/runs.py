"""One run for one plugin: whatever goes wrong becomes its outcome, and what decided is kept."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace

from agent.context import Context
from agent.errors import NotFoundError, translated
from agent.model import Decision, Kind, Outcome
from agent.pipeline.steps import Steps


def run(
    context: Context,
    steps: Steps,
    plugin_id: str,
    work: Callable[[], Outcome],
    *,
    decides: bool,
) -> Outcome:
    """Do the work for one plugin; one's failure never touches another's.

    Args:
        context: The installation.
        steps: Where the work shows its place.
        plugin_id: The plugin.
        work: What is done.
        decides: Whether the outcome is written down: to the audit log, and for ``agent why``.
            That a ledger does not know the tree is not written into that ledger's books.

    Returns:
        What the work came to; ``refused`` or ``failed`` with the error where it raised one.
    """
    steps.begin()
    live = context.activation.live(plugin_id)
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
        span.set_attribute("agent.outcome", outcome.kind.value)
        if outcome.digest is not None:
            span.set_attribute("oci.manifest.digest", outcome.digest)
    outcome = replace(outcome, before=live.version if live else None)
    if decides and (outcome.error is None or context.stranger() is None):
        context.audit.outcome(outcome)
        try:
            context.ledger.note_decision(Decision.of(outcome, at=context.clock()))
        except sqlite3.Error:
            # What failed is told, and that it can't be written down has most likely one cause.
            if outcome.error is None:
                raise
    return outcome
