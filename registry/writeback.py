"""Bytes that go to the disk while more of them come, so that the flush at the end is short."""

import os
from typing import BinaryIO

_EVERY_BYTES = 32 << 20


class EarlyWriteback:
    """An open file to be filled from its beginning, or from where it was broken off.

    Args:
        file: Gets the bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting_bytes = 0

    def write(self, data: memoryview, /) -> None:
        """Take all of ``data``."""
        self._file.write(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _EVERY_BYTES:
            self._begin()

    def _begin(self) -> None:
        """Have the system begin to write what it was given; nobody waits for that."""
        end = self._file.tell()
        if hasattr(os, "posix_fadvise"):  # Linux begins to write what is said not to be needed
            begin = end - self._waiting_bytes
            os.posix_fadvise(
                self._file.fileno(), begin, self._waiting_bytes, os.POSIX_FADV_DONTNEED
            )
        self._waiting_bytes = 0
