"""Giving up what is under way on other threads.

What waits for its peer in a read or a send, or pauses, ends at once. A name that is looked up and a
connection that is made run out: nothing here can reach them.
"""

import contextlib
import contextvars
import socket
import threading
import time
from collections.abc import Iterator


class CancelledError(Exception):
    """Others than this one failed; nobody waits for it any more."""


class Cancellation:
    """Of some works that stand or fall together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._over = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether they were given up."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Give them up; may be called again."""
        with self._lock:
            self._over.set()
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def ends(self, connection: socket.socket) -> None:
        """Let reads and sends of a connection end where all is given up."""
        with self._lock:
            self._sockets.add(connection)
        self.check()

    def leaves(self, connection: socket.socket) -> None:
        """Leave a connection alone from now on."""
        with self._lock:
            self._sockets.discard(connection)

    def pause(self, seconds: float) -> None:
        """Wait, for as long as it is wanted.

        Raises:
            CancelledError: It was given up.
        """
        self._over.wait(seconds)
        self.check()

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


def pause(seconds: float) -> None:
    """Wait, for as long as what this thread is at is wanted; see ``Cancellation.pause``."""
    cancellation = CURRENT.get()
    if cancellation is None:
        time.sleep(seconds)
    else:
        cancellation.pause(seconds)


@contextlib.contextmanager
def given_up_with(connection: socket.socket) -> Iterator[None]:
    """End what is done with a connection where what this thread is at is given up.

    Raises:
        CancelledError: It was.
    """
    cancellation = CURRENT.get()
    if cancellation is None:
        yield
        return
    cancellation.ends(connection)
    try:
        yield
    finally:
        cancellation.leaves(connection)
        # What is given up ends so, however the connection took it.
        cancellation.check()
