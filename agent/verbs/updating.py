"""An update run over installed plugins, as a person asks for it: what lies there is taken first."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.context import Context
from agent.model import Kind, Outcome
from agent.pipeline.dropins import DropIns
from agent.pipeline.settling import refuse_strangers
from agent.pipeline.source import look_ahead
from agent.pipeline.steps import Progress
from agent.pipeline.update import Pipeline
from agent.telemetry import Telemetry
from agent.verbs.own import own_ids

Showing = Callable[[], contextlib.AbstractContextManager[Progress]]
"""Shows what goes on with one plugin for the length of a block."""


def _nobody_watches() -> contextlib.AbstractContextManager[Progress]:
    return contextlib.nullcontext(Progress.silent())


def update(
    context: Context,
    telemetry: Telemetry,
    plugin_ids: Sequence[str],
    *,
    dry_run: bool,
    taken: Mapping[str, Outcome] | None = None,
    showing: Showing = _nobody_watches,
) -> tuple[Outcome, ...]:
    """Run an update now: by no interval, window or mode, but by hold, cooldown and consent.

    Args:
        context: The installation.
        telemetry: Where spans go.
        plugin_ids: Those that a person named; none = all that are installed.
        dry_run: Only say what would be done.
        taken: What came of drop-ins that were taken, or would be, by plugin: their rows.
        showing: Shows each plugin's progress.

    Returns:
        A row for each plugin, in the order they were named, else by id.

    Raises:
        LedgerError, PolicyError: There is none, and this state may not know the tree.
    """
    outcomes = dict(taken or {})
    ids = tuple(plugin_ids) or tuple(sorted({*own_ids(context), *outcomes}))
    if not ids:
        refuse_strangers(context)
    ahead = look_ahead(context)
    for plugin_id in ahead.over(one for one in ids if one not in outcomes):
        with showing() as progress:
            work = Pipeline(context, telemetry, progress, ahead)
            outcomes[plugin_id] = work.update(plugin_id, named=bool(plugin_ids), dry_run=dry_run)
    return tuple(outcomes[plugin_id] for plugin_id in ids)


def take_and_update(
    context: Context, telemetry: Telemetry, plugin_ids: Sequence[str], *, dry_run: bool
) -> tuple[Outcome, ...]:
    """Take drop-ins, or foresee it, then update; see ``update``. Nobody watches.

    Raises:
        LedgerError, PolicyError: See ``update``.
    """
    drop_ins, wanted = DropIns(context, telemetry), tuple(plugin_ids) or None
    found = drop_ins.foresee(wanted) if dry_run else drop_ins.adopt(wanted)
    return update(context, telemetry, plugin_ids, dry_run=dry_run, taken=rows_of(found))


def rows_of(found: Iterable[Outcome]) -> dict[str, Outcome]:
    """The drop-ins that serve now, or would: what their plugins' rows say."""
    live = (Kind.PLANNED, Kind.TRIAL, Kind.COMMITTED)
    return {outcome.plugin_id: outcome for outcome in found if outcome.kind in live}
