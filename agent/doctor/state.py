"""The ledger: whole, in its place, and the one that knows the tree."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.context import Context
from agent.doctor.finding import Finding
from agent.errors import AgentError, DamagedError, LedgerError
from agent.files import Files
from agent.tree.ownership import stranger
from agent.tree.rebuild import LOST, Rebuilt, rebuild

_REBUILDS = "agent doctor --fix makes a new ledger from the sealed releases, each verified again"


def check_ledger(context: Context) -> Iterator[Finding]:
    """Whether the ledger's file is whole; all else asks it."""
    path = context.ledger_path
    if not path.exists():
        # Not made here: a look changes nothing. Whether one was lost is the next check's.
        yield Finding("ledger", ok=True, detail=f"there is no {path} yet")
        return
    try:
        context.ledger.check()
    except DamagedError as error:
        yield Finding(
            "ledger",
            ok=False,
            detail=f"{error}; nothing can be changed or loaded until it is replaced",
            fix=f"{_REBUILDS}; the damaged file is kept beside it",
            mend=lambda: _replace(context),
        )
    except (sqlite3.Error, OSError) as error:
        yield Finding(
            "ledger",
            ok=False,
            detail=f"cannot use {path}: {error}",
            fix=f"see to the disk and to who may write {path.parent}",
        )
    except AgentError as error:
        yield Finding("ledger", ok=False, detail=error.message, fix=error.hint)
    else:
        yield Finding("ledger", ok=True, detail=f"{path} is whole")


def check_owner(context: Context, *, take_over: bool) -> Iterator[Finding]:
    """Whether this ledger is the one that knows the tree."""
    for path in context.tree.in_the_way():
        yield Finding(
            "owner",
            ok=False,
            detail=f"{path} is a folder, expected a file: nothing can be changed, nor be stopped",
            fix=f"move {path} away, then agent doctor",
        )
    ledger = context.ledger if context.ledger_path.exists() else None
    problem = stranger(context.tree, ledger, context.ledger_path)
    if problem is None:
        yield Finding("owner", ok=True, detail=f"{context.tree.root} is this state's")
        return
    may_mend = isinstance(problem, LedgerError)
    yield Finding(
        "owner",
        ok=False,
        detail=f"{problem.message}; hosts serve on, but nothing is recorded or changed",
        fix=problem.hint,
        mend=(lambda: _rebuild(context)) if may_mend or take_over else None,
    )


def set_aside(files: Files, path: Path) -> Path:
    """Move a damaged ledger away, never over another; returns its new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(f"{path.name}{suffix}")
        if part.exists():
            files.rename(part, aside.with_name(f"{aside.name}{suffix}"))
    return aside


def _replace(context: Context) -> Sequence[str]:
    context.close()
    aside = set_aside(context.files, context.ledger_path)
    return (f"the damaged ledger is now {aside}", *_rebuild(context))


def _rebuild(context: Context) -> Sequence[str]:
    reason = f"{context.ledger_path} from the sealed releases in {context.tree.root}"
    with context.audit.deciding("rebuilt", reason):
        found = rebuild(context)
    lost = (f"  {line}" for line in LOST)
    return (*(_line(one) for one in found), "the new ledger does not know:", *lost)


def _line(one: Rebuilt) -> str:
    releases = ", ".join(one.releases) or "none"
    line = f"{one.plugin_id}: {one.serves or 'nothing'} serves, kept {releases}, floor {one.floor}"
    return "; ".join((line, *one.problems))
