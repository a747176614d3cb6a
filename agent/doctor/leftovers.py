"""What runs that died left behind: inert, and in the way of nobody but the disk."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.context import Context
from agent.doctor.finding import Finding

_OLD_S = 86_400
_YOUNG_S = 60
_PREFIXES = (".tmp-", ".staging-")


def check_leftovers(context: Context) -> Iterator[Finding]:
    """Whether temporary files and folders are left; what is a minute old is in no run's use."""
    found = [*_in_the_tree(context), *_incoming(context)]
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


def _in_the_tree(context: Context) -> Iterator[Path]:
    store = context.tree.root / ".store"
    folders = [context.tree.root, store, *(store / name for name in context.tree.homes())]
    oldest = context.clock() - _YOUNG_S
    for folder in folders:
        if folder.is_dir():
            yield from sorted(
                path
                for path in folder.iterdir()
                if path.name.startswith(_PREFIXES) and path.lstat().st_mtime < oldest
            )


def _incoming(context: Context) -> Iterator[Path]:
    """What was fetched; a younger one may be at work, because that needs no lock."""
    folder = context.places.cache / "incoming"
    if folder.is_dir():
        oldest = context.clock() - _OLD_S
        yield from sorted(p for p in folder.iterdir() if p.lstat().st_mtime < oldest)


def _remove(context: Context, paths: Sequence[Path]) -> Sequence[str]:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            context.files.remove_tree(path)
        else:
            context.files.remove(path)
    return ()
