"""The one folder that a guest may read, and what it has opened there. Nothing leads out of it.

Each path is resolved beneath the folder by the kernel (``openat2``), or without it component by
component and through no link. Only regular files and folders are opened, and they only to read:
a named pipe, which might keep its reader for ever, and a device are refused untouched.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox.count import Count

ROOT = 3
"""The guest's descriptor of the folder itself."""

_MOST_OPEN = 64
_MOST_TOGETHER = 512
"""Files that all guests of this process have open: half of what a process mostly may have."""

_MOST_PATH_BYTES = 4096
_MOST_ENTRIES = 1 << 18
"""In all listings of an instance together: they lie in our memory, not in the guest's."""

_OPENAT2 = 437
_HOW = struct.Struct("=3Q")
_BENEATH, _NO_MAGIC_LINKS = 0x08, 0x02
_TRIES = 8  # where somebody renames folders meanwhile
_LIBC = ctypes.CDLL(None, use_errno=True)
_IS_LINUX = hasattr(os, "O_PATH")
_LOOK = (os.O_PATH if _IS_LINUX else os.O_NONBLOCK) | os.O_CLOEXEC

_together = Count()

Entry = tuple[bytes, int, int]
"""What lies in a folder: its name, its inode, the type of its mode (0 = another)."""


@dataclass(slots=True)
class Opened:
    """A file or a folder that is open.

    Attributes:
        descriptor: Ours.
        is_folder: It is one.
        entries: What was in it when its listing began.
    """

    descriptor: int
    is_folder: bool
    entries: list[Entry] | None = None


class Folder:
    """What one instance sees of the disk; for one thread at a time.

    Args:
        path: The folder, which is there.

    Raises:
        OSError: It can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._open: dict[int, Opened] = {}
        self._open[ROOT] = Opened(os.open(path, _LOOK | os.O_DIRECTORY), is_folder=True)

    def __del__(self) -> None:
        self.close_all()  # a plugin may be dropped without being closed

    def get(self, number: int) -> Opened:
        """What the guest has open under a number.

        Raises:
            OSError: Nothing (EBADF).
        """
        try:
            return self._open[number]
        except KeyError:
            raise _error(errno.EBADF) from None

    def open(self, base: int, path: bytes, *, follows: bool) -> int:
        """Open a regular file or a folder, to read.

        Args:
            base: A folder that the guest has open.
            path: Beneath it.
            follows: Whether the last part may be a link.

        Returns:
            The guest's number for it.

        Raises:
            OSError: It can't be opened; EXDEV for what leads out, ENFILE where all guests
                together have too many open.
        """
        number = next(n for n in range(ROOT + 1, ROOT + 2 + len(self._open)) if n not in self._open)
        if len(self._open) >= _MOST_OPEN:
            raise _error(errno.EMFILE)
        if _together.add(1) > _MOST_TOGETHER:
            _together.add(-1)
            raise _error(errno.ENFILE)
        try:
            self._open[number] = self._opened(base, path, follows=follows)
        except BaseException:
            _together.add(-1)
            raise
        return number

    def _opened(self, base: int, path: bytes, *, follows: bool) -> Opened:
        found = self.look_up(base, path, follows=follows)
        try:
            mode = os.fstat(found).st_mode
            if stat.S_ISLNK(mode):
                raise _error(errno.ELOOP)
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise _error(errno.EACCES)
            # the very file that was looked at, whatever has its name by now
            return Opened(reopened(found), stat.S_ISDIR(mode))
        finally:
            os.close(found)

    def look_up(self, base: int, path: bytes, *, follows: bool) -> int:
        """A descriptor of whatever lies at a path, good for nothing but a look; the caller's.

        Raises:
            OSError: Nothing does, or it leads out (EXDEV).
        """
        if len(path) > _MOST_PATH_BYTES:
            raise _error(errno.ENAMETOOLONG)
        if b"\0" in path:
            raise _error(errno.EINVAL)
        folder = self.get(base).descriptor
        how = _HOW.pack(_LOOK | (0 if follows else os.O_NOFOLLOW), 0, _BENEATH | _NO_MAGIC_LINKS)
        if not _IS_LINUX:
            return _walk(folder, path)
        for _ in range(_TRIES):
            found = int(_LIBC.syscall(_OPENAT2, folder, path, how, ctypes.c_size_t(len(how))))
            if found >= 0:
                return found
            number = ctypes.get_errno()
            if number in {errno.ENOSYS, errno.EPERM}:  # an older kernel, or one that is told so
                return _walk(folder, path)
            if number != errno.EAGAIN:
                break
        raise _error(number)

    def list(self, number: int, pay: Callable[[], None]) -> list[Entry]:
        """What lies in a folder that is open, now; kept as its ``entries``.

        Args:
            number: The guest's for it.
            pay: Called for each entry; what it raises ends the listing.

        Raises:
            OSError: It can't be read; ENOMEM where there is more than may be kept.
        """
        folder = self.get(number)
        folder.entries = None
        room = _MOST_ENTRIES - sum(len(other.entries or ()) for other in self._open.values())
        own = os.fstat(folder.descriptor).st_ino
        entries: list[Entry] = [(name, own, stat.S_IFDIR) for name in (b".", b"..")]
        readable = reopened(folder.descriptor)
        try:
            with os.scandir(readable) as found:
                for entry in found:
                    pay()
                    if len(entries) >= room:
                        raise _error(errno.ENOMEM)
                    entries.append((os.fsencode(entry.name), entry.inode(), _type(entry)))
        finally:
            os.close(readable)
        folder.entries = entries
        return entries

    def close(self, number: int) -> None:
        """Close what the guest has open under a number.

        Raises:
            OSError: Nothing (EBADF).
        """
        os.close(self.get(number).descriptor)
        del self._open[number]
        if number != ROOT:
            _together.add(-1)

    def close_all(
        self,
        close: Callable[[int], None] = os.close,
        together: Count = _together,
        root: int = ROOT,
    ) -> None:
        """Close whatever is open; again is fine."""
        # what it needs is given: at the end of the process there are no globals any more
        while self._open:
            number, opened = self._open.popitem()
            close(opened.descriptor)
            if number != root:
                together.add(-1)


def reopened(descriptor: int) -> int:
    """The same file or folder, open to read; the caller's.

    Raises:
        OSError: It can't be opened so.
    """
    if not _IS_LINUX:
        return os.dup(descriptor)
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def _type(entry: os.DirEntry[str]) -> int:
    """As the folder itself tells: what it names may be gone by now."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def _walk(folder: int, path: bytes) -> int:
    if path.startswith(b"/"):
        raise _error(errno.EXDEV)
    if not path:
        raise _error(errno.ENOENT)
    found = os.dup(folder)
    for part in path.split(b"/"):
        if part in {b"", b"."}:
            continue
        here = found
        try:
            if part == b"..":
                raise _error(errno.EXDEV)
            found = os.open(part, _LOOK | os.O_NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)
    return found


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
