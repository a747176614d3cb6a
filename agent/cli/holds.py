"""hold, unhold: keeping update runs away from a plugin."""

import click

from agent.cli.app import App, dry_run_flag, duration_type, format_flag, plugin_id_type, verb
from agent.cli.rows import report
from agent.verbs.holding import hold, unhold


@verb(name="hold", examples="agent hold org.example.hello\nagent hold org.example.hello --for 7d")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@click.option(
    "--for", "for_s", type=duration_type, metavar="D", help="90s, 10m, 7d; else until unhold."
)
@dry_run_flag
@format_flag
def hold_command(app: App, plugin_id: str, *, for_s: int | None, dry_run: bool) -> None:
    """Keep a plugin at its version: update runs leave it alone.

    A trial that is open is judged all the same. agent pull, rollback and remove are not bound.
    """
    report(app, [hold(app.context, plugin_id, for_s=for_s, dry_run=dry_run)], named=True)


@verb(name="unhold", examples="agent unhold org.example.hello")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@dry_run_flag
@format_flag
def unhold_command(app: App, plugin_id: str, *, dry_run: bool) -> None:
    """Take back agent hold; a hold_until in the config stays."""
    report(app, [unhold(app.context, plugin_id, dry_run=dry_run)], named=True)
