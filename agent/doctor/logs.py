"""The audit log's chain."""

from collections.abc import Iterator

from agent.context import Context
from agent.doctor.finding import Finding


def check_audit(context: Context) -> Iterator[Finding]:
    """Whether no line of the audit log was edited, removed or cut off."""
    report = context.audit.log.verify()
    if report.is_sound:
        yield Finding("audit", ok=True, detail=f"{report.lines} lines, each chained to the last")
        return
    first = report.problems[0]
    yield Finding(
        "audit",
        ok=False,
        detail=f"{first.segment}: {first.what}: the log was changed, or a part of it is lost",
        fix="agent audit verify lists every break; keep the files, and ask who may write there",
    )
