"""Giving up what is under way on other threads: a read that waits for its peer ends at once."""

import contextlib
import contextvars
import socket
import threading


class CancelledError(Exception):
    """Others than this one failed; nobody waits for it any more."""


class Cancellation:
    """Of some works that stand or fall together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.is_cancelled = False

    def cancel(self) -> None:
        """Give them up; may be called again."""
        with self._lock:
            self.is_cancelled = True
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def reads(self, connection: socket.socket) -> None:
        """Let reads of a connection end where all is given up."""
        with self._lock:
            self._sockets.add(connection)
        self.check()

    def has_read(self, connection: socket.socket) -> None:
        """Leave a connection alone from now on."""
        with self._lock:
            self._sockets.discard(connection)

    def check(self) -> None:
        """Go on only if it is wanted.

        Raises:
            CancelledError: It was given up.
        """
        if self.is_cancelled:
            raise CancelledError("another part of it failed")


CURRENT: contextvars.ContextVar[Cancellation | None] = contextvars.ContextVar(
    "cancellation", default=None
)
"""What the work of this thread is part of."""


def check_cancelled() -> None:
    """Go on only if what this thread is at is wanted; see ``Cancellation.check``."""
    cancellation = CURRENT.get()
    if cancellation is not None:
        cancellation.check()
