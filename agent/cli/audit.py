"""audit: the log of every decision, shown and checked."""

import click

from agent.cli.app import App, format_flag, global_flags, verb

_BROKEN = 6
_SHOWN = 1000


@click.group(name="audit", context_settings={"help_option_names": ["-h", "--help"]})
@global_flags
def audit_command() -> None:
    """The log of every decision: what went live, what was refused, who allowed what."""


@verb(name="verify", examples="agent audit verify\nagent audit verify --format json")
@format_flag
def verify_command(app: App) -> None:
    """Check that no line of the log was edited, removed, moved, put in or cut off.

    Ends with 6 where one was, and says where. What a crash left is said too, and is sound.
    """
    report = app.context.audit.log.verify()
    if app.out.as_json:
        app.out.document(
            sound=report.is_sound,
            lines=report.lines,
            segments=report.segments,
            problems=[
                {"segment": p.segment, "line": p.line, "what": p.what} for p in report.problems
            ],
            remarks=list(report.remarks),
        )
    else:
        for problem in report.problems:
            where = f"{problem.segment} line {problem.line}" if problem.line else problem.segment
            app.out.line(f"{where}: {problem.what}")
        for remark in report.remarks:
            app.out.line(remark)
        word = "sound" if report.is_sound else "broken"
        app.out.line(f"{word}: {report.lines} lines in {report.segments} segments")
    if not report.is_sound:
        app.exit_code = _BROKEN


@verb(name="show", examples="agent audit show\nagent audit show org.example.hello --format json")
@click.argument("plugin_id", metavar="[ID]", required=False)
@format_flag
def show_command(app: App, plugin_id: str | None) -> None:
    """Print the log, the latest line last; 1000 lines at most, with ID those of that plugin."""
    lines = app.context.audit.log.latest(plugin_id, limit=_SHOWN)
    if app.out.as_json:
        app.out.document(lines=lines)
        return
    names = ("at", "user", "by", "outcome", "plugin", "version", "reason")
    app.out.table([n.upper() for n in names], [[line.get(n) for n in names] for line in lines])
    if not lines:
        app.out.message("nothing was decided yet")


for _command in (verify_command, show_command):
    audit_command.add_command(_command)
