"""What a child gives up before it runs a guest, by the operating system's means."""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import threading
from pathlib import Path

from sandbox.isolate import landlock

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITIES_V3 = 0x20080522
_MOST_DESCRIPTORS = 1024  # eight calls, each with 64 files open, and some of our own
_PAGE_BYTES = resource.getpagesize()


def go_first() -> None:
    """Have the kernel, when memory is short, kill this process and its children before others."""
    with contextlib.suppress(OSError):  # no /proc, or a stricter one
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end now if it is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def lock_down(*, data_bytes: int, folder: int | None, code: int) -> None:
    """Give up what a plugin's process needs not.

    Args:
        data_bytes: Private memory that it may take beyond what it has.
        folder: The descriptor of the one folder that it may read; None = none.
        code: That of the one file that it may read.

    Raises:
        OSError: The kernel refused.
        RuntimeError: There is another thread, which would give up nothing.
    """
    if _threads() != 1:
        message = "cannot lock down one of several threads"
        raise RuntimeError(message)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _drop_capabilities()
    # Not the address space: wasmtime reserves gigabytes that it never touches. This counts what
    # can be written to, reserved pages from the moment they become so.
    _limit(resource.RLIMIT_DATA, _data_in_use() + data_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS)
    landlock.give_up(folder, code)


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:  # no /proc
        return threading.active_count()


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def _data_in_use() -> int:
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[5]) * _PAGE_BYTES
    except OSError:
        return 0


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def _drop_capabilities() -> None:
    if _LIBC.capset(struct.pack("=Ii", _CAPABILITIES_V3, 0), bytes(24)):
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
