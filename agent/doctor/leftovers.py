"""What runs that died left behind, where no later run and no service has swept it up."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.context import Context
from agent.doctor.finding import Finding
from agent.tree.leftovers import leftovers, remove_leftovers

_OVERDUE_S = 600


def check_leftovers(context: Context) -> Iterator[Finding]:
    """Whether temporary files and folders are left that a service would have removed."""
    found = leftovers(context, overdue_s=_OVERDUE_S)
    if not found:
        yield Finding("leftovers", ok=True, detail="nothing was left behind")
        return
    yield Finding(
        "leftovers",
        ok=False,
        detail=f"{len(found)} temporary files or folders were left by runs that ended in the "
        f"middle, such as {found[0]}",
        fix="agent doctor --fix removes them",
        mend=functools.partial(_remove, context, found),
    )


def _remove(context: Context, paths: Sequence[Path]) -> Sequence[str]:
    remove_leftovers(context, paths)
    return ()
