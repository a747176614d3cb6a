"""Reading files that someone else may have put there: regular ones only, and never waiting."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# O_NONBLOCK: a FIFO under this name must not make us wait for its writer.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE_BYTES = 64 * 1024


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a symbolic link is followed.

    Raises:
        OSError: It can't be opened, or is a folder, FIFO, socket or device.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        require_regular(descriptor, path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_start(path: Path, max_bytes: int, *, follow: bool = True) -> bytes:
    """Read a small regular file, or the start of a longer one.

    Args:
        path: The file.
        max_bytes: How much is read at most.
        follow: Whether a symbolic link under this name is followed.

    Raises:
        OSError: As of ``open_regular``, or it is a link that is not followed.
    """
    descriptor = os.open(path, _FLAGS | (0 if follow else os.O_NOFOLLOW))
    try:
        require_regular(descriptor, path)
        data = b""
        while piece := os.read(descriptor, min(_PIECE_BYTES, max_bytes - len(data))):
            data += piece
        return data
    finally:
        os.close(descriptor)


def require_regular(descriptor: int, path: Path) -> None:
    """Refuse an open file that is none on a disk.

    Raises:
        OSError: It is a folder, FIFO, socket or device.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def is_no_file(error: OSError) -> bool:
    """Whether ``open_regular`` found nothing, or nothing regular, under a name."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
