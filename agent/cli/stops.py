"""disable, enable, remove: taking plugins out of service, and back."""

import click

from agent.cli.app import App, dry_run_flag, format_flag, plugin_id_type, verb
from agent.cli.rows import report
from agent.errors import UsageError
from agent.verbs.disabling import disable, disable_all, enable
from agent.verbs.inventory import serving
from agent.verbs.removal import remove


@verb(name="disable", examples="agent disable org.example.hello\nagent disable --all")
@click.argument("plugin_id", metavar="[ID]", required=False, type=plugin_id_type)
@click.option("--all", "is_all", is_flag=True, help="Every plugin of yours.")
@dry_run_flag
@format_flag
def disable_command(app: App, plugin_id: str | None, *, is_all: bool, dry_run: bool) -> None:
    """Take a plugin out of service until agent enable: the emergency stop.

    Running hosts refuse its calls within 100 ms; calls in flight finish. It needs neither the
    registry nor the trust store nor the plugin's bytes.
    """
    if is_all == (plugin_id is not None):
        raise UsageError(
            "cannot choose what to disable: expected either an ID or --all", hint="agent list"
        )
    if plugin_id is not None:
        outcomes = [disable(app.context, app.telemetry, plugin_id, dry_run=dry_run)]
    else:
        outcomes = disable_all(app.context, app.telemetry, dry_run=dry_run)
        if not outcomes:
            app.out.message("no plugins are installed")
        _tell_what_goes_on(app)
    report(app, outcomes, named=True)


def _tell_what_goes_on(app: App) -> None:
    """Who stops everything must know of what is not theirs to stop."""
    left = [one.plugin_id for one in serving(app.context, warn=app.out.message) if one.is_system]
    if left:
        app.out.message(f"still served from {app.context.system_folder}: {', '.join(left)}")
        app.out.message("  try: agent --system disable --all")


@verb(name="enable", examples="agent enable org.example.hello")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@dry_run_flag
@format_flag
def enable_command(app: App, plugin_id: str, *, dry_run: bool) -> None:
    """Let a disabled plugin serve again: its last good release, verified anew.

    Where that is no longer trusted (7) or can't be run any more (10), it stays disabled.
    """
    report(app, [enable(app.context, app.telemetry, plugin_id, dry_run=dry_run)], named=True)


@verb(name="remove", examples="agent remove org.example.hello --dry-run")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@dry_run_flag
@format_flag
def remove_command(app: App, plugin_id: str, *, dry_run: bool) -> None:
    """Remove a plugin with all its releases, its grants and its hold.

    Its data stays, and so do the floor, the rejections, the denials and the history: a later pull
    below the floor wants --allow-downgrade.
    """
    report(app, [remove(app.context, app.telemetry, plugin_id, dry_run=dry_run)], named=True)
