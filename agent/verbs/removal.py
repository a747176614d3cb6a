"""Removing a plugin: what goes, what stays, and where its data lies."""

import contextlib

from agent.context import LOCK_TIMEOUT_S, Context
from agent.model import Kind, Outcome
from agent.settings.data import data_dir
from agent.telemetry import Telemetry
from agent.tree.pruning import prune_compiled
from agent.tree.system_sets import is_in_system
from agent.verbs.disabling import end_of_trial, noted
from agent.verbs.inventory import require_own


def remove(context: Context, telemetry: Telemetry, plugin_id: str, *, dry_run: bool) -> Outcome:
    """Remove a plugin's releases, its grants and its hold; running hosts refuse its calls.

    Its data folder stays, and in the ledger the floor, the rejections, the denials and the
    history. An open trial is judged first, so that what failed stays rejected.

    Args:
        context: The installation.
        telemetry: Where the span of a trial's end goes.
        plugin_id: The plugin.
        dry_run: Change nothing.

    Raises:
        NotFoundError: It was never installed.
        PolicyError: It is the system's.
        BusyError: Another process holds the tree.
    """
    activation = context.activation
    if activation.is_removed(plugin_id):
        row = Outcome(plugin_id, Kind.CURRENT, "remove", "already removed")
        return noted(context, row, dry_run=dry_run)
    require_own(context, plugin_id, "remove")
    before = activation.live(plugin_id) or activation.good(plugin_id)
    data = data_dir(context.config, context.places, plugin_id)
    stays = f"its data stays in {data}" if data.exists() else "it has no data"
    if is_in_system(context, plugin_id):
        stays = f"{stays}; the system's copy is served instead"
    outcome = Outcome(
        plugin_id,
        Kind.PLANNED if dry_run else Kind.COMMITTED,
        "remove",
        f"would be removed; {stays}" if dry_run else f"removed; {stays}",
        before=before.version if before else None,
        release=before.release if before else None,
        digest=before.digest if before else None,
        extra={"data": str(data) if data.exists() else None},
    )
    if dry_run:
        return outcome
    end_of_trial(context, telemetry, plugin_id)
    with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
        # What was settled just now may have been a removal that a crash cut short.
        if not activation.is_removed(plugin_id):
            activation.remove(plugin_id)
    # Compiled code that can't be removed now is removed by the next prune.
    with contextlib.suppress(OSError):
        prune_compiled(context)
    return noted(context, outcome, dry_run=dry_run)
