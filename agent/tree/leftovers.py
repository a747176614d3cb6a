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


def leftovers(
    context: Context, *, homes: Iterable[str] | None = None, overdue_s: float = 0
) -> tuple[Path, ...]:
    """Temporary files and folders that no run uses any more.

    Args:
        context: The installation.
        homes: The plugins whose folders are looked into, beside those that all share; None = all.
        overdue_s: Only those that might have been swept up so long ago.
    """
    now = context.clock() - overdue_s
    store = context.tree.root / ".store"
    own = (store / name for name in (context.tree.homes() if homes is None else homes))
    found = [
        path
        for folder in (context.tree.root, store, *own)
        for path in _older(folder, _PREFIXES, now - _IN_THE_TREE_S)
    ]
    return (*found, *_older(context.places.cache / "incoming", ("",), now - _INCOMING_S))


def _older(folder: Path, prefixes: tuple[str, ...], before: float) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(path for path in folder.iterdir() if path.name.startswith(prefixes)):
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
