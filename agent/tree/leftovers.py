"""What runs that died left behind: inert, and in the way of nobody but the disk."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.context import Context
from agent.errors import BusyError

_PREFIXES = (".tmp-", ".staging-")
_IN_THE_TREE_S = 60
_INCOMING_S = 86_400
"""What is older is in no run's use: what is fetched needs no lock, and may take its time."""


def leftovers(context: Context, *, overdue_s: float = 0) -> tuple[Path, ...]:
    """Temporary files and folders that no run uses any more.

    Args:
        context: The installation.
        overdue_s: Only those that might have been swept up so long ago.
    """
    now = context.clock() - overdue_s
    store = context.tree.root / ".store"
    ours = [context.tree.root, store, *(store / name for name in context.tree.homes())]
    in_the_tree = (
        path
        for folder in ours
        for path in _older(folder, now - _IN_THE_TREE_S)
        if path.name.startswith(_PREFIXES)
    )
    return (*in_the_tree, *_older(context.places.cache / "incoming", now - _INCOMING_S))


def _older(folder: Path, before: float) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_mtime < before:
                    yield path


def remove_leftovers(context: Context, paths: Iterable[Path]) -> None:
    """Remove some of them.

    Raises:
        OSError: One can't be removed.
    """
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            context.files.remove_tree(path)
        else:
            context.files.remove(path)


def sweep(context: Context) -> None:
    """Remove all of them; what can't be removed now is removed the next time."""
    if leftovers(context) and context.stranger() is None:
        with contextlib.suppress(OSError, BusyError), context.tree.lock(timeout_s=0):
            remove_leftovers(context, leftovers(context))
