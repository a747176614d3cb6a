"""list, info, history, why: looking at what is installed, changing nothing."""

import click

from agent.cli.app import App, format_flag, plugin_id_type, verb
from agent.context import Context
from agent.durations import format_duration
from agent.errors import AgentError, NotFoundError
from agent.model import Stop
from agent.pipeline.settling import tell_behind
from agent.tree.remembering import behind, stop_on
from agent.verbs.holding import held_until
from agent.verbs.inventory import Entry, entries, moment
from agent.verbs.rows import decision_row, details


@verb(name="list", examples="agent list\nagent list --format json")
@format_flag
def list_command(app: App) -> None:
    """List the installed plugins: the user's, then the system's."""
    found = entries(app.context, warn=app.out.message)
    if app.out.as_json:
        app.out.document(plugins=[entry.row() for entry in found])
        return
    rows = []
    for entry in found:
        note = f" (shadows {entry.shadowed})" if entry.shadowed else ""
        note += " (binding: bare)" if entry.binding == "bare" else ""
        rows.append((entry.plugin_id, entry.version, _state(entry), f"{entry.source}{note}"))
    app.out.table(("ID", "VERSION", "STATE", "SOURCE"), rows)
    if not tell_stranger(app) and not found:
        app.out.message("no plugins are installed")
        app.out.message("  try: agent pull ID")


@verb(name="info", examples="agent info org.example.hello")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@format_flag
def info_command(app: App, plugin_id: str) -> None:
    """Print everything about one installed plugin."""
    row = details(app.context, _entry(app, plugin_id))
    if app.out.as_json:
        app.out.document(plugins=[row])
        return
    app.out.fields(row)


@verb(name="history", examples="agent history org.example.hello")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@format_flag
def history_command(app: App, plugin_id: str) -> None:
    """Print what happened to a plugin, oldest first."""
    events = app.context.ledger.history(plugin_id)
    if not events:
        message = f"cannot find a history of {plugin_id}"
        raise not_known(app.context, plugin_id, message, hint="agent list")
    tell_behind(app.context, plugin_id, app.out.message)
    if app.out.as_json:
        app.out.document(
            events=[
                {
                    "at": moment(event.at),
                    "event": event.kind,
                    "version": event.version,
                    "release": event.release,
                    "detail": event.detail,
                }
                for event in events
            ]
        )
        return
    app.out.table(
        ("WHEN", "WHAT", "VERSION", "RELEASE", "DETAIL"),
        [
            (moment(e.at), e.kind, e.version, (e.release or "-")[:12], e.detail or "-")
            for e in events
        ],
    )


@verb(name="why", examples="agent why org.example.hello")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@format_flag
def why_command(app: App, plugin_id: str) -> None:
    """Say why a plugin is at the version it is at: what the last run decided, and what binds."""
    context, ledger = app.context, app.context.ledger
    decision, installed = ledger.decision(plugin_id), ledger.installed(plugin_id)
    if decision is None and installed is None:
        message = f"cannot say anything about {plugin_id}: it was never installed"
        raise not_known(context, plugin_id, message, hint=f"agent pull {plugin_id}")
    live, trial = context.activation.live(plugin_id), ledger.trial(plugin_id)
    is_disabled = stop_on(ledger, context.tree, plugin_id) is Stop.DISABLED
    tell_behind(context, plugin_id, app.out.message)
    section = context.config.plugin(plugin_id)
    bounds: dict[str, object] = {
        "floor": installed.floor if installed else None,
        "channel": section.channel or (installed.channel if installed else None),
        "constraint": section.constraint,
        "hold_until": held_until(context, plugin_id),
        "cooldown": format_duration(context.config.update.cooldown),
    }
    rejected = [
        {"version": r.version, "release": r.release, "reason": r.reason, "at": moment(r.at)}
        for r in ledger.rejections(plugin_id).values()
    ]
    last = decision_row(decision) if decision is not None else None
    judged = context.activation.judgement(trial).detail if trial is not None else None
    if app.out.as_json:
        app.out.document(
            id=plugin_id,
            version=live.version if live else None,
            last=last,
            disabled=is_disabled,
            trial=judged,
            rejected=rejected,
            bounds=bounds,
        )
        return
    app.out.line(f"{plugin_id} is at {live.version if live else 'no version'}")
    if is_disabled:
        app.out.line("  disabled: agent enable brings it back")
    if decision is not None:
        app.out.line(f"  last run {moment(decision.at)}: {decision.outcome}, {decision.detail}")
    if trial is not None:
        left = format_duration(trial.ends_at - context.clock())
        app.out.line(f"  on trial, {left} left: {judged}")
    for item in rejected:
        app.out.line(f"  {item['version']} is rejected: {item['reason']}")
    for name, text in bounds.items():
        if text not in (None, "0s"):
            app.out.line(f"  {name}: {text}")


def _entry(app: App, plugin_id: str) -> Entry:
    for entry in entries(app.context, (plugin_id,), warn=app.out.message):
        return entry
    raise not_installed(app.context, plugin_id)


def tell_stranger(app: App) -> bool:
    """Say why this state may not change the plugin tree, if that is so: it may know nothing."""
    problem = app.context.stranger()
    if problem is not None:
        app.out.message(problem.message)
        app.out.message(f"  try: {problem.hint}")
    return problem is not None


def not_installed(context: Context, plugin_id: str) -> AgentError:
    """The error for a plugin that is not there; see ``not_known``."""
    message = f"cannot find {plugin_id}: it is not installed"
    return not_known(context, plugin_id, message, hint=f"agent pull {plugin_id}")


def not_known(context: Context, plugin_id: str, message: str, *, hint: str) -> AgentError:
    """The error where the ledger does not know a plugin: it may not be the one that did."""
    problem = context.stranger() or behind(context.ledger, context.tree, plugin_id)
    return problem or NotFoundError(message, hint=hint)


def _state(entry: Entry) -> str:
    return "trial (due)" if entry.due and entry.state == "trial" else entry.state
