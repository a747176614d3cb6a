"""The folder of the blob cache: what is in it, what goes, and that it is the user's alone."""

import errno
import io
import os
import stat
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from registry.repository import Files

_HEX_DIGITS = 64


class CacheFiles(Files, Protocol):
    """What the cache needs of the disk beside that."""

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """Create a folder and its parents, if missing."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        ...

    def move(self, source: Path, target: Path) -> None:
        """Rename what may be lost: nothing is flushed."""
        ...

    def held(
        self, path: Path, *, timeout_s: float, make: bool = True
    ) -> AbstractContextManager[io.BufferedRandom]:
        """Open a file to go on with, locked between processes; ``TimeoutError`` if it can't be."""
        ...

    def share(self, file: BinaryIO, path: Path) -> bool:
        """Put an open file under another name too, durably; says whether that could be done."""
        ...


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One file of the cache.

    Attributes:
        path: Where it is.
        size_bytes: How large.
        used_at_ns: When it was used last.
        is_whole: A blob, and no part of one.
    """

    path: Path
    size_bytes: int
    used_at_ns: int
    is_whole: bool

    @property
    def digest(self) -> str:
        """Of the blob that it is, or a part of."""
        return f"sha256:{self.path.name}"


class CacheFolder:
    """See ``BlobCache``.

    Args:
        folder: Where.
        files: Performs every change on disk.
        max_bytes: How much it may hold.
    """

    def __init__(self, folder: Path, files: CacheFiles, max_bytes: int) -> None:
        self.path = folder
        self._files = files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._room_bytes = -1

    def whole(self, digits: str) -> Path:
        """Where a blob is, once it was whole."""
        return self.path / "sha256" / digits

    def part(self, digits: str) -> Path:
        """Where what came of a blob is."""
        return self.path / "partial" / digits

    def entries(self) -> list[CacheEntry]:
        """What it holds, what was not used for longest first; of strangers' files none."""
        found = []
        for name, is_whole in (("sha256", True), ("partial", False)):
            for path in _listed(self.path / name):
                try:
                    stat_ = path.lstat()
                except OSError:
                    continue  # another process was quicker
                if stat.S_ISREG(stat_.st_mode) and len(path.name) == _HEX_DIGITS:
                    used_at_ns = stat_.st_atime_ns if is_whole else stat_.st_mtime_ns
                    found.append(CacheEntry(path, stat_.st_size, used_at_ns, is_whole))
        return sorted(found, key=lambda entry: entry.used_at_ns)

    def surplus(self) -> list[CacheEntry]:
        """What is too much, what was not used for longest first."""
        entries = self.entries()
        left = sum(entry.size_bytes for entry in entries)
        going = []
        for entry in entries:
            if left <= self._max_bytes:
                break
            left -= entry.size_bytes
            going.append(entry)
        return going

    def came(self, size_bytes: int) -> None:
        """Note that so much came, and remove what is too much.

        It is listed at first, and again once we have filled the room that was found then: what
        other processes bring meanwhile is theirs to look at.
        """
        with self._lock:
            self._room_bytes -= size_bytes
            if self._room_bytes < 0:
                self.trim()
                self._room_bytes = self._max_bytes - sum(one.size_bytes for one in self.entries())

    def trim(self) -> list[CacheEntry]:
        """Remove what is too much, but what some process is at; says what went."""
        return [entry for entry in self.surplus() if self.remove(entry)]

    def empty(self) -> list[CacheEntry]:
        """Remove everything, but what some process is at; says what went."""
        return [entry for entry in self.entries() if self.remove(entry)]

    def remove(self, entry: CacheEntry) -> bool:
        """Remove a file, but a part that some process is at; says whether it went."""
        try:
            if entry.is_whole:
                self._files.remove(entry.path)
            else:
                with self._files.held(entry.path, timeout_s=0, make=False):
                    self._files.remove(entry.path)
        except OSError:  # a part that somebody is at, or a disk that is read only
            return False
        return True

    def require(self) -> None:
        """Make the folders, and see that they are the user's alone.

        Raises:
            OSError: They are not, or can't be made.
        """
        for folder in (self.path, self.path / "sha256", self.path / "partial"):
            self._files.make_folder(folder, mode=0o700)
            stat_ = folder.lstat()
            if not stat.S_ISDIR(stat_.st_mode) or stat_.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "not a folder of our own", str(folder))
            if stat_.st_mode & 0o077:
                raise PermissionError(errno.EPERM, "others may enter it; chmod 700", str(folder))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
