"""All checks in their order; what can be mended is, where that is asked for."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from agent.context import LOCK_TIMEOUT_S, Context
from agent.doctor.finding import Finding
from agent.doctor.state import check_ledger, check_owner
from agent.errors import translated

Check = Callable[[], Iterable[Finding]]


def examine(context: Context, *, fix: bool = False, take_over: bool = False) -> Iterator[Finding]:
    """Run every check; those of the tree only where the ledger can be asked.

    Args:
        context: The installation.
        fix: Mend what can be mended, each under the tree's lock.
        take_over: Take the tree away from another state that uses it.

    Raises:
        BusyError: Another agent held the tree.
    """
    for check in (
        functools.partial(check_ledger, context),
        functools.partial(check_owner, context, take_over=take_over),
    ):
        found = _run(context, check, fix=fix, guarded=False)
        yield from found
        if not all(finding.ok for finding in found):
            return


def _run(context: Context, check: Check, *, fix: bool, guarded: bool) -> list[Finding]:
    """The findings of a check, after mending where that is asked for."""
    found = list(check())
    if not fix or not any(finding.mend for finding in found if not finding.ok):
        return found
    with context.tree.lock(timeout_s=LOCK_TIMEOUT_S, guarded=guarded):
        # Looked at again under the lock: another agent may have been at work before.
        results = [_mended(finding) for finding in list(check())]
        left = {finding.detail for finding in check() if not finding.ok}
    return [
        replace(one, ok=False, mended=False) if one.mended and one.detail in left else one
        for one in results
    ]


def _mended(finding: Finding) -> Finding:
    if finding.ok or finding.mend is None:
        return finding
    try:
        told = tuple(finding.mend())
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        detail = f"{finding.detail}; it could not be mended: {cause.message}"
        return replace(finding, detail=detail, fix=cause.hint or finding.fix)
    return replace(finding, ok=True, mended=True, told=told)
