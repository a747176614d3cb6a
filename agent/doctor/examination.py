"""All checks in their order; what can be mended is, where that is asked for."""

import functools
from collections.abc import Iterator
from dataclasses import replace

from agent.context import LOCK_TIMEOUT_S, Context
from agent.doctor.copies import check_copies, check_drop_ins
from agent.doctor.finding import Finding
from agent.doctor.leftovers import check_leftovers
from agent.doctor.logs import check_audit
from agent.doctor.places import check_folders, check_socket, check_space
from agent.doctor.settings import check_config, check_trust
from agent.doctor.state import check_ledger, check_owner
from agent.doctor.tree import check_generations, check_memories, check_serving
from agent.doctor.trials import check_clock, check_stops, check_trials
from agent.errors import translated

Check = functools.partial[Iterator[Finding]]
_ROUNDS = 3


def examine(context: Context, *, fix: bool = False, take_over: bool = False) -> Iterator[Finding]:
    """Run every check; those of the tree only where the ledger can be asked.

    Args:
        context: The installation.
        fix: Mend what can be mended, each under the tree's lock.
        take_over: Take the tree away from another state that uses it.

    Raises:
        BusyError: Another agent held the tree.
    """
    for check in (check_config, check_folders, check_space, check_socket):
        yield from _run(context, functools.partial(check, context), fix=fix, guarded=False)
    for check in (check_ledger, functools.partial(check_owner, take_over=take_over)):
        found = _run(context, functools.partial(check, context), fix=fix, guarded=False)
        yield from found
        if not all(finding.ok for finding in found):
            return
    if not context.ledger_path.exists():
        yield from _run(context, functools.partial(check_trust, context), fix=fix, guarded=True)
        return
    for check in (
        *(check_trust, check_clock, check_memories, check_serving, check_generations),
        *(check_copies, check_drop_ins, check_stops, check_trials, check_leftovers, check_audit),
    ):
        yield from _run(context, functools.partial(check, context), fix=fix, guarded=True)


def _run(context: Context, check: Check, *, fix: bool, guarded: bool) -> list[Finding]:
    """The findings of a check, after mending where that is asked for."""
    found = _found(check)
    if not fix or not any(finding.mend for finding in found if not finding.ok):
        return found
    tried: dict[str, Finding] = {}
    with context.tree.lock(timeout_s=LOCK_TIMEOUT_S, guarded=guarded):
        # Opened anew: another doctor may have replaced the ledger while this one waited.
        context.close()
        for _ in range(_ROUNDS):
            # Looked at again under the lock, and after each mending: it may bring more to light.
            found = _found(check)
            due = [f for f in found if not f.ok and f.mend and f.detail not in tried]
            if not due:
                break
            tried |= {finding.detail: _mended(finding) for finding in due}
    left = {finding.detail: finding for finding in found if not finding.ok}
    done = [_after(one, left.get(detail)) for detail, one in tried.items()]
    helped = any(one.mended for one in done)
    return done + [f for f in found if f.detail not in tried and not (f.ok and helped)]


def _after(tried: Finding, left: Finding | None) -> Finding:
    """What mending came to; where all is as before, what it had to say of that is told."""
    return replace(left, told=tried.told) if left is not None and tried.mended else tried


def _found(check: Check) -> list[Finding]:
    """What a check finds; where it can't look, that is what it found."""
    try:
        return list(check())
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        name = check.func.__name__.removeprefix("check_")
        return [Finding(name, ok=False, detail=f"{cause.message}: not checked", fix=cause.hint)]


def _mended(finding: Finding) -> Finding:
    if finding.mend is None:
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
