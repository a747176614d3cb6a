"""doctor: what is not as it should be, what it means, and what to do."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.app import App, dry_run_flag, format_flag, verb
from agent.doctor.finding import Finding
from agent.errors import AgentError, UsageError

if TYPE_CHECKING:
    from agent.context import Context

_INDENT = " " * 19
_WIDTH = 100


@verb(
    name="doctor",
    examples="agent doctor\nagent doctor --fix --dry-run\nagent doctor --bundle support.tar.gz",
)
@click.option("--fix", is_flag=True, help="Mend what can be mended.")
@click.option(
    "--take-over", is_flag=True, help="With --fix: take the tree from another state that uses it."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what others need to help, without secrets, to a .tar.gz.",
)
@dry_run_flag
@format_flag
def doctor_command(
    app: App, *, fix: bool, take_over: bool, bundle: Path | None, dry_run: bool
) -> None:
    """Find every inconsistency, say what it means and what to do.

    Ends with 0 where all is well, or was mended, else with 1. Changes nothing without --fix.
    """
    if (take_over or dry_run) and not fix:
        raise UsageError(
            f"cannot use {'--take-over' if take_over else '--dry-run'} alone: it goes with --fix",
            hint="agent doctor --help",
        )
    context, findings = _examined(app, fix=fix and not dry_run, take_over=take_over)
    if bundle is not None:
        from agent.doctor.bundle import write_bundle

        write_bundle(context, findings, bundle)
        app.out.message(f"wrote {bundle}: look through it before you hand it on")
    if not all(finding.ok for finding in findings):
        app.exit_code = 1
    if app.out.as_json:
        app.out.document(findings=[finding.row() for finding in findings])
        return
    for finding in findings:
        _print(app, finding, would=fix and dry_run)


def _examined(app: App, *, fix: bool, take_over: bool) -> "tuple[Context | None, list[Finding]]":
    """The installation, unless its config can't be used, and what was found."""
    from agent.doctor.examination import examine

    try:
        context = app.context
    except AgentError as error:
        detail = f"{error.message}; nothing else can be checked"
        return None, [Finding("config", ok=False, detail=detail, fix=error.hint)]
    return context, list(examine(context, fix=fix, take_over=take_over))


def _print(app: App, finding: Finding, *, would: bool) -> None:
    word = "mended" if finding.mended else "ok" if finding.ok else "WRONG"
    _wrapped(app, f"{word:<6}  {finding.check:<9}  ", finding.detail)
    for line in finding.told:
        _wrapped(app, _INDENT, line)
    if finding.fix and not finding.mended:
        label = "would" if would and finding.mend else "try"
        _wrapped(app, _INDENT, f"{label}: {finding.fix}")


def _wrapped(app: App, first: str, text: str) -> None:
    """Print a text below itself where it is long; paths and commands stay in one piece."""
    for line in textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    ):
        app.out.line(line)
