"""What verbs that change something do first: look for what was copied into the plugin folder."""

from collections.abc import Collection

from agent.cli.app import App
from agent.cli.progress import pipeline
from agent.model import Kind, Outcome
from agent.pipeline.dropins import DropIns


def take_drop_ins(
    app: App, ids: Collection[str] | None = None, *, have_rows: bool = False
) -> tuple[Outcome, ...]:
    """Take drop-ins, and tell what came of each on stderr.

    Args:
        app: The run.
        ids: Only those of these plugins; None = all.
        have_rows: Those that serve now get rows of the verb's own: they are not told here.

    Returns:
        Those that serve now.
    """
    with pipeline(app.out) as progress:
        outcomes = DropIns(app.context, app.telemetry, progress).adopt(ids)
    taken = tuple(o for o in outcomes if o.kind in (Kind.TRIAL, Kind.COMMITTED))
    for outcome in outcomes:
        if have_rows and outcome in taken:
            continue
        # A fault of the disk: whose files they are is not known.
        what = "flat files" if outcome.step == "check" else "drop-in"
        app.out.message(f"{outcome.plugin_id}: {what} {outcome.kind}: {outcome.detail}")
        if outcome.error is not None and outcome.error.hint:
            app.out.message(f"  try: {outcome.error.hint}")
    return taken


def foreseen_drop_ins(app: App, ids: Collection[str] | None = None) -> tuple[Outcome, ...]:
    """What would come of each drop-in that lies there; nothing is done."""
    return DropIns(app.context, app.telemetry).foresee(ids)
