"""What an update run does first where nothing serves, or by an operator's word must not."""

from agent.context import Context
from agent.model import Outcome, Stop
from agent.pipeline.outcomes import disabled, put_right, removed
from agent.pipeline.settling import settle
from agent.telemetry import Telemetry
from agent.tree.effects import Standing


def finish(
    context: Context, telemetry: Telemetry, plugin_id: str, seen: Standing, *, dry_run: bool
) -> Outcome | None:
    """Finish a removal, put back a link that is gone, or undo what died before its flip.

    Args:
        context: The installation.
        telemetry: Where the span of a trial's end goes.
        plugin_id: The plugin.
        seen: How it stood.
        dry_run: Only say what would be done.

    Returns:
        What the run came to; None where it goes on.
    """
    activation = context.activation
    if not dry_run:
        settle(context, telemetry, plugin_id)
    if seen.stop is Stop.REMOVING:
        return removed(plugin_id, dry_run=dry_run)
    if activation.standing(plugin_id).stop is Stop.DISABLED:
        return disabled(plugin_id)
    good = activation.good(plugin_id)
    if good is not None and dry_run and activation.has_good(plugin_id):
        return put_right(good)
    return None
