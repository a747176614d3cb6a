"""pull, update, rollback, prune: the verbs that change which release serves."""

import contextlib
import functools
import time
from dataclasses import replace
from pathlib import Path

import click

import registry
from agent.cli.app import (
    App,
    dry_run_flag,
    format_flag,
    plugin_id_type,
    require_no_path,
    verb,
)
from agent.cli.dropins import foreseen_drop_ins, take_drop_ins
from agent.cli.progress import pipeline
from agent.cli.remote import service_in_stead
from agent.cli.rows import report
from agent.errors import BusyError
from agent.model import Kind, Outcome
from agent.pipeline.outcomes import reverted
from agent.pipeline.probation import Judgement, Verdict
from agent.pipeline.settling import settle
from agent.pipeline.update import Pipeline
from agent.pipeline.wish import Wish
from agent.verbs.rollback import roll_back
from agent.verbs.updating import rows_of, update

_WAIT_LOOK_S = 0.2


@verb(
    name="pull",
    examples="agent pull org.example.hello:0.2.0\n"
    "agent pull registry.example.com/plugins/org.example.hello --output ./fetched",
)
@click.argument("reference_text", metavar="REF")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the verified files there; install nothing.",
)
@click.option("--no-activate", is_flag=True, help="Stop before it serves.")
@click.option("--wait", is_flag=True, help="Wait until its probation ends.")
@click.option("--allow-downgrade", is_flag=True, help="Go below the highest committed version.")
@dry_run_flag
@format_flag
def pull_command(
    app: App,
    reference_text: str,
    *,
    output: Path | None,
    no_activate: bool,
    wait: bool,
    allow_downgrade: bool,
    dry_run: bool,
) -> None:
    """Fetch a plugin, verify it, stage it, probe it, and make it serve.

    REF is an ID (newest version), ID:VERSION, ID:CHANNEL, ID@sha256:…, HOST/PATH/ID or
    oci:DIR/ID. A release that replaces another is on trial until its probation ends.
    """
    require_no_path("pull", reference_text)
    reference = registry.parse_reference(reference_text, app.context.bases())
    if output is None and not dry_run:
        take_drop_ins(app, (reference.location.plugin_id,))
    with pipeline(app.out) as progress:
        work = Pipeline(app.context, app.telemetry, progress)
        if output is not None:
            outcome = work.fetch_to(reference, output, dry_run=dry_run)
        else:
            outcome = work.pull(
                Wish(
                    reference,
                    named=reference.version is not None or reference.digest is not None,
                    allow_downgrade=allow_downgrade,
                    activate=not no_activate,
                    dry_run=dry_run,
                )
            )
    if wait and outcome.kind is Kind.TRIAL:
        outcome = _wait_for(app, outcome)
    report(app, [outcome], named=True)


@verb(name="update", examples="agent update\nagent update org.example.hello --dry-run")
@click.argument("plugins", metavar="[ID]...", nargs=-1, type=plugin_id_type)
@dry_run_flag
@format_flag
def update_command(app: App, plugins: tuple[str, ...], *, dry_run: bool) -> None:
    """Run an update now, for all installed plugins or those named.

    What was copied into the plugin folder is taken first.

    Ignores interval, windows and mode; respects hold, cooldown, constraint and consent. One
    plugin's failure never keeps the others from being updated. Who may ask the service and not
    write to the plugins has the service do it.
    """
    with service_in_stead(app) as service:
        if service is not None:
            outcomes = service.update(plugins, dry_run=dry_run)
        else:
            outcomes = _update_here(app, plugins, dry_run=dry_run)
    if not outcomes:
        app.out.message("no plugins are installed")
    report(app, outcomes, named=bool(plugins))


@verb(name="rollback", examples="agent rollback org.example.hello --to 0.1.0")
@click.argument("plugin_id", metavar="ID", type=plugin_id_type)
@click.option("--to", "to_version", metavar="VERSION", help="Default: the last good release.")
@dry_run_flag
@format_flag
def rollback_command(app: App, plugin_id: str, *, to_version: str | None, dry_run: bool) -> None:
    """Go back to the last good release, and reject the one it leaves."""
    if not dry_run:
        take_drop_ins(app, (plugin_id,))
    outcome = roll_back(
        app.context, app.telemetry, plugin_id, to_version=to_version, dry_run=dry_run
    )
    report(app, [outcome], named=True)


def _update_here(app: App, plugins: tuple[str, ...], *, dry_run: bool) -> tuple[Outcome, ...]:
    if dry_run:
        found = foreseen_drop_ins(app, plugins or None)
    else:
        found = take_drop_ins(app, plugins or None, have_rows=True)
    return update(
        app.context,
        app.telemetry,
        plugins,
        dry_run=dry_run,
        taken=rows_of(found),
        showing=functools.partial(pipeline, app.out),
    )


def _wait_for(app: App, outcome: Outcome) -> Outcome:
    """Look at the trial until it can be judged; say how it ended, whoever judged it."""
    context, plugin_id = app.context, outcome.plugin_id
    app.out.message(f"{plugin_id}: waiting for its probation to end")
    detail = "judged by another agent"
    while (trial := context.ledger.trial(plugin_id)) and trial.release == outcome.release:
        if context.activation.judgement(trial).verdict is not Verdict.TOO_EARLY:
            # Whoever holds the tree may be judging it: look again.
            with contextlib.suppress(BusyError):
                judged = settle(context, app.telemetry, plugin_id)
                detail = judged[1].detail if judged else detail
                continue
        time.sleep(_WAIT_LOOK_S)
    # Whoever ended it may be between its word and its flip: wait for that, or do it in its stead.
    with contextlib.suppress(BusyError):
        settle(context, app.telemetry, plugin_id)
    live = context.activation.live(plugin_id)
    rejection = context.ledger.rejections(plugin_id).get(str(outcome.release))
    if rejection is None and live is not None and live.release == outcome.release:
        return replace(outcome, kind=Kind.COMMITTED, step="commit", detail=detail)
    if rejection is None:
        took = f"{live.version if live else 'nothing'} serves now: another agent took it"
        return replace(outcome, step="trial", detail=took)
    judgement = Judgement(Verdict.UNHEALTHY, rejection.reason)
    return replace(reverted(plugin_id, live, judgement), before=outcome.before)
