"""Pages of a library's code that only a process's start needed: a compiler's, say."""

import contextlib
import ctypes
import mmap
from pathlib import Path

_LIBC = ctypes.CDLL(None)


def let_go_of_code(library: str) -> None:
    """Have the system take back what is in memory of a library's code.

    What is needed again is read again; a forked process has to do so in any case.

    Args:
        library: The name of its file.
    """
    with contextlib.suppress(OSError):  # no /proc
        for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
            span, rights, *rest = line.split(maxsplit=5)
            # Code alone: what was written to a page of our own would be lost with it.
            if rights == "r-xp" and Path(rest[-1]).name == library:
                begin, end = (int(number, 16) for number in span.split("-"))
                length = ctypes.c_size_t(end - begin)
                _LIBC.madvise(ctypes.c_void_p(begin), length, mmap.MADV_DONTNEED)
