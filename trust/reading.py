"""Reading a file that someone else may have put there: bounded, and never waiting."""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, *, max_bytes: int) -> tuple[os.stat_result, bytes]:
    """Read the start of a regular file.

    Args:
        path: The file; a symbolic link is followed.
        max_bytes: One byte more than this is read at most, so that the caller sees an excess.

    Returns:
        The status of the very file that was read, and its bytes.

    Raises:
        OSError: It cannot be opened or read, or is a folder, FIFO, socket or device.
    """
    # O_NONBLOCK: a FIFO under this name must not make us wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return status, file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
