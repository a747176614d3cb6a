"""check, outdated: what an update run would do, and what is newer; changing nothing."""

import datetime as dt
from collections.abc import Sequence

import click

from agent.cli.app import App, format_flag, plugin_id_type, verb
from agent.cli.dropins import foreseen_drop_ins
from agent.cli.installed import not_installed, tell_stranger
from agent.cli.progress import pipeline
from agent.errors import AgentError, PolicyError
from agent.model import Kind, Outcome
from agent.pipeline.requirement import is_newer
from agent.pipeline.restraint import restraint
from agent.pipeline.source import look_ahead
from agent.pipeline.update import Pipeline
from agent.settings.windows import read_windows
from agent.verbs.inventory import Serving, serving

_UPDATES = 100
_ACTIONS = {
    Kind.PLANNED: "update",
    Kind.PENDING: "wait",
    Kind.CURRENT: "none",
    Kind.REFUSED: "skip",
    Kind.FAILED: "skip",
}


@verb(name="check", examples="agent check\nagent check --exit-code || echo updates")
@click.argument("plugins", metavar="[ID]...", nargs=-1, type=plugin_id_type)
@click.option("--exit-code", is_flag=True, help="End with 100 where there are updates.")
@format_flag
def check_command(app: App, plugins: tuple[str, ...], *, exit_code: bool) -> None:
    """Say what an update run would do for each plugin, and why."""
    foreseen = foreseen_drop_ins(app, plugins or None)
    rows = [_plan(app, *planned, newest_first=False) for planned in _plans(app, plugins, foreseen)]
    _print_plans(app, _with_drop_ins(rows, foreseen))
    if exit_code and not app.exit_code and any(row["action"] == "update" for row in rows):
        app.exit_code = _UPDATES


@verb(name="outdated", examples="agent outdated")
@click.argument("plugins", metavar="[ID]...", nargs=-1, type=plugin_id_type)
@format_flag
def outdated_command(app: App, plugins: tuple[str, ...]) -> None:
    """List the installed plugins for which a newer version is there, taken or not."""
    plans = _plans(app, plugins)
    rows = [_plan(app, *planned, newest_first=True) for planned in plans]
    rows = [row for row in rows if row["candidate"] is not None]
    _print_plans(app, rows)
    for one, outcome in plans:
        if (error := _failed_look(outcome)) is not None:
            app.out.message(f"{one.plugin_id}: {error.message}")
    if not rows and not app.exit_code:
        app.out.message("nothing newer")


def _plans(
    app: App, plugins: Sequence[str], foreseen: Sequence[Outcome] = ()
) -> list[tuple[Serving, Outcome | None]]:
    """What an update run would do; None for the system's; failed look-ups set the exit code.

    A drop-in that would be taken is what the run would do for its plugin.
    """
    tell_stranger(app)
    found = {one.plugin_id: one for one in serving(app.context, warn=app.out.message)}
    taken = {o.plugin_id: o for o in foreseen if o.kind is Kind.PLANNED}
    for plugin_id in plugins:
        if plugin_id not in found and plugin_id not in taken:
            raise not_installed(app.context, plugin_id)
    plans: dict[str, tuple[Serving, Outcome | None]] = {}
    for plugin_id, outcome in taken.items():
        new = Serving(plugin_id, None, (), is_system=False)
        plans[plugin_id] = found.get(plugin_id, new), outcome
    ids = plugins or sorted({*found, *taken})
    codes = []
    ahead = look_ahead(app.context)
    for plugin_id in ahead.over(one for one in ids if one not in taken):
        if found[plugin_id].is_system:
            plans[plugin_id] = found[plugin_id], None
            continue
        with pipeline(app.out) as progress:
            work = Pipeline(app.context, app.telemetry, progress, ahead)
            outcome = work.update(plugin_id, named=False, dry_run=True)
        error = _failed_look(outcome)
        codes.append(error.exit_code if error is not None else 0)
        plans[plugin_id] = found[plugin_id], outcome
    app.end_with(codes)
    return [plans[plugin_id] for plugin_id in ids]


def _failed_look(outcome: Outcome | None) -> AgentError | None:
    """Why nothing is known of a plugin; that something would be refused is an answer."""
    if outcome is None or (outcome.kind is not Kind.FAILED and outcome.step != "check"):
        return None
    return outcome.error


def _plan(
    app: App, one: Serving, outcome: Outcome | None, *, newest_first: bool
) -> dict[str, object]:
    """The row of a plugin.

    Args:
        app: The run.
        one: What serves.
        outcome: What a run would come to; None = the system's, left alone.
        newest_first: Name the newest version that is there, taken or not, before the one that
            a run would take.
    """
    candidate: str | None = None
    if outcome is not None:
        is_other = outcome.kind is Kind.PLANNED or (
            outcome.after and one.version and is_newer(outcome.after, one.version)
        )
        taken = outcome.after if is_other else None
        newest = outcome.newest
        candidate = newest or taken if newest_first else taken or newest
    return {
        "id": one.plugin_id,
        "current": one.version,
        "candidate": candidate,
        "action": "system" if outcome is None else _action(outcome),
        "reason": _why(app, one, outcome),
    }


def _why(app: App, one: Serving, outcome: Outcome | None) -> str:
    """Why a plugin's row is what it is; for what would be taken also what the service waits for."""
    if outcome is None:
        return "never changed by a user's agent"
    if outcome.kind is not Kind.PLANNED:
        return _reason(outcome)
    config, now = app.context.config, dt.datetime.fromtimestamp(app.context.clock(), dt.UTC)
    bound = restraint(config.mode(one.plugin_id), read_windows(config.update.windows), now)
    waits = "" if bound is None else f"; the service waits: {bound.detail}"
    return f"{_reason(outcome)}{waits}"


def _action(outcome: Outcome) -> str:
    if isinstance(outcome.error, PolicyError) and outcome.error.reason == "disabled":
        return "skip"  # no run will take anything
    return _ACTIONS[outcome.kind]


def _with_drop_ins(
    rows: list[dict[str, object]], foreseen: Sequence[Outcome]
) -> list[dict[str, object]]:
    """Say which drop-ins lie there and would not be taken: beside their plugin's row, or alone."""
    known = {row["id"]: row for row in rows}
    for outcome in foreseen:
        why = f"drop-in {outcome.after or 'of no version'}: {_reason(outcome)}"
        row = known.get(outcome.plugin_id)
        if outcome.kind is Kind.PLANNED:
            continue
        if row is not None:
            row["reason"] = f"{row['reason']}; {why}"
            continue
        rows.append(
            {
                "id": outcome.plugin_id,
                "current": None,
                "candidate": outcome.after,
                "action": _ACTIONS[outcome.kind],
                "reason": why,
            }
        )
    return rows


def _reason(outcome: Outcome) -> str:
    if isinstance(outcome.error, PolicyError):
        return f"{outcome.error.reason}: {outcome.detail}"
    return outcome.detail


def _print_plans(app: App, rows: list[dict[str, object]]) -> None:
    if app.out.as_json:
        app.out.document(plugins=rows)
        return
    names = ("id", "current", "candidate", "action", "reason")
    app.out.table([n.upper() for n in names], [[row[n] for n in names] for row in rows])
