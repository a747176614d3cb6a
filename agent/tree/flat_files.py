"""How flat files lie in a plugin folder: looked at, compared, never changed here."""

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from agent.reading import is_no_file, open_regular
from agent.tree.flat_model import FLAT_PARTS, FlatSet

STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PIECE_BYTES = 1 << 20


def flat_set(folder: Path, stem: str) -> FlatSet:
    """How the flat files of a stem lie there; no byte of them is read.

    Raises:
        OSError: The folder can't be looked at.
    """
    stats: dict[str, os.stat_result] = {}
    for part in FLAT_PARTS:
        with contextlib.suppress(FileNotFoundError):
            stats[part] = (folder / f"{stem}.{part}").lstat()
    return _flat_set(stem, stats)


def flat_sets(folder: Path) -> dict[str, FlatSet]:
    """How all flat files lie there, by stem: one look at the folder, one at each file.

    Raises:
        OSError: The folder can't be looked at; one that is not there has none.
    """
    found: dict[str, dict[str, os.stat_result]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, _, part = entry.name.rpartition(".")
                if part in FLAT_PARTS and STEM.fullmatch(stem) and ".." not in stem:
                    # Gone while we look: it was not there.
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        found.setdefault(stem, {})[part] = status
    except FileNotFoundError:
        return {}
    return {stem: _flat_set(stem, stats) for stem, stats in found.items()}


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; what is no file equals nothing.

    Raises:
        OSError: One of them can't be read.
    """
    try:
        with open_regular(one) as left, open_regular(other) as right:
            while True:
                piece = left.read(_PIECE_BYTES)
                if piece != right.read(_PIECE_BYTES):
                    return False
                if not piece:
                    return True
    except OSError as error:
        if is_no_file(error):
            return False
        raise


def _flat_set(stem: str, stats: Mapping[str, os.stat_result]) -> FlatSet:
    regular = frozenset(part for part, s in stats.items() if stat.S_ISREG(s.st_mode))
    stamp = " ".join(
        f"{part}:{s.st_size}:{s.st_mtime_ns}:{s.st_ino}:{s.st_ctime_ns}"
        for part, s in sorted(stats.items())
    )
    return FlatSet(stem, stamp, regular)
