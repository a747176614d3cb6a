"""Reading files that someone else may have put there: regular ones only, and never waiting."""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def open_regular(path: Path, *, follow: bool = True) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading.

    Args:
        path: The file.
        follow: Whether a symbolic link under this name is followed.

    Raises:
        OSError: It can't be opened, or is a folder, FIFO, socket or device.
    """
    # Without O_NONBLOCK a FIFO at this place would hold us for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)
