"""The audit log's chain."""

import functools
from collections.abc import Iterator, Sequence

from agent.context import Context
from agent.doctor.finding import Finding


def check_audit(context: Context) -> Iterator[Finding]:
    """Whether no line of the audit log was edited, removed or cut off."""
    report = context.audit.log.verify()
    if report.is_sound:
        yield Finding("audit", ok=True, detail=f"{report.lines} lines, each chained to the last")
        return
    first = report.problems[0]
    if report.may_be_rejoined:
        yield Finding(
            "audit",
            ok=False,
            detail=f"{first.segment}: {first.what}: an older copy of the ledger was put back, or "
            "somebody added lines",
            fix="agent audit show, and see that the lines are yours; agent doctor --fix takes them "
            "as they are, and says so in a line of its own",
            mend=functools.partial(_rejoin, context),
        )
        return
    yield Finding(
        "audit",
        ok=False,
        detail=f"{first.segment}: {first.what}: the log was changed, or a part of it is lost",
        fix="agent audit verify lists every break; keep the files, and ask who may write there",
    )


def _rejoin(context: Context) -> Sequence[str]:
    told = context.audit.rejoin()
    return () if told is None else (told,)
