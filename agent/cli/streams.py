"""The process's standard streams, so that a reader who goes away never cuts work short."""

import io
import os
import select
import sys
from typing import Any, TextIO


class _UntilGone(io.FileIO):
    """Writes as long as somebody reads; what comes after is dropped.

    ``agent update | head -1`` so updates every plugin, and ends with the code it would have
    without the pipe.
    """

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer, which 3.11 has no type for
        """Write, or drop what nobody reads."""
        try:
            return super().write(data)
        except BrokenPipeError:
            silence(self.fileno())
            return len(data)


def harden() -> None:
    """Make stdout and stderr safe to write to, also where one of them was closed (``2>&-``)."""
    if sys.stdout is None or sys.stderr is None:
        # Whatever is opened first would take a free number, and be written to as if it were ours.
        for descriptor in (0, 1, 2):
            try:
                os.fstat(descriptor)
            except OSError:
                silence(descriptor)
    sys.stdout = _stream(1, sys.stdout)
    sys.stderr = _stream(2, sys.stderr)


def drop_unwritten() -> None:
    """Let go of what could not be written, so that the end of the process does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout.fileno())


def is_read(descriptor: int) -> bool:
    """Whether somebody may still read what is written: a pipe whose reader is gone says so."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(said & (select.POLLERR | select.POLLNVAL) for _, said in poll.poll(0))


def silence(descriptor: int) -> None:
    """Let what is written to a descriptor vanish."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)


def _stream(descriptor: int, given: TextIO | None) -> io.TextIOWrapper:
    raw = _UntilGone(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=given.encoding if given else "utf-8",
        errors=given.errors if given else "backslashreplace",
        # A person sees each line at once, and messages before whatever comes after them.
        line_buffering=descriptor == 2 or raw.isatty(),  # noqa: PLR2004 - stderr's number
    )
