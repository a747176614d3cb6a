"""The host's side of one child: its channels, and its end."""

import contextlib
import os
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from sandbox.code import Code
from sandbox.isolate.nursery import Nursery
from sandbox.isolate.orders import Orders
from sandbox.isolate.serving import OPEN, STOP
from sandbox.isolate.wire import Channel, ChannelClosedError

_ORDERS_S = 1.0


@dataclass(frozen=True, slots=True)
class Folder:
    """The data folder as it was when a child started.

    Attributes:
        descriptor: It, open; None where it could not be opened.
        identity: Its device and inode; None where there was none.
    """

    descriptor: int | None
    identity: tuple[int, int] | None


class Child:
    """A process that serves one plugin.

    Args:
        nursery: Forks and buries it.
        code: The compiled module.
        folder: What it may read, None = nothing; closed with it.
        orders: What it is told first.
        deadline_s: Until when it must have taken them, on the clock of ``time.monotonic()``; a
            second at least, for where its start took all of a call's time it serves the next.
        ahead: It will stand by for its first call.

    Raises:
        SandboxError: It can't be started.
        TimeoutError: It was not there until then, or did not take its orders.
    """

    def __init__(
        self,
        nursery: Nursery,
        code: Code,
        folder: Folder | None,
        orders: Orders,
        deadline_s: float,
        *,
        ahead: bool,
    ) -> None:
        self.folder = folder
        self._nursery = nursery
        self._lock = threading.Lock()
        self._exit_code: int | None = None
        self._is_buried = False
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.first, channel = _pair()
        self._control.settimeout(0)  # one that is full is not listened to
        try:
            given: list[socket.socket | int] = [control, channel, code.descriptor]
            if folder is not None and folder.descriptor is not None:
                given.append(folder.descriptor)
            self._pid, self._handle = nursery.fork(given, deadline_s, ahead=ahead)
        except BaseException:
            self._control.close()
            self.first.close()
            self._close_folder()
            raise
        finally:
            control.close()
            channel.close()
        try:
            with contextlib.suppress(ChannelClosedError):  # it died; who calls it will find out
                until_s = max(deadline_s, time.monotonic() + _ORDERS_S)
                self.first.send(*orders.frame(nursery.key), deadline_s=until_s)
        except BaseException:
            self.let_go()
            raise

    @property
    def pid(self) -> int:
        """Its process id, for messages."""
        return self._pid

    def open_channel(self) -> Channel:
        """A further channel.

        Raises:
            OSError: The child is gone or does not listen.
        """
        ours, theirs = _pair()
        try:
            socket.send_fds(self._control, [OPEN], [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def stop(self, number: int) -> None:
        """Have a call end; one that is over, or a child that is, is no error."""
        with contextlib.suppress(OSError):
            self._control.send(STOP + str(number).encode("ascii"))

    def bury(self) -> int | None:
        """Kill it, if it runs, and let go of it; again is fine.

        Returns:
            See ``Nursery.bury``.
        """
        with self._lock:
            if not self._is_buried:
                self._is_buried = True
                self._control.close()
                self._exit_code = self._nursery.bury(self._pid, self._handle)
                self._close_folder()
            return self._exit_code

    def is_over(self) -> bool:
        """Whether its process has ended."""
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        return bool(waiting.poll(0))

    def let_go(self) -> None:
        """Bury one that nobody has called."""
        self.first.close()
        self.bury()

    def _close_folder(self) -> None:
        if self.folder is not None and self.folder.descriptor is not None:
            os.close(self.folder.descriptor)


@dataclass(slots=True)
class Kept:
    """A child with what is lent of it.

    Attributes:
        child: It.
        idle: Channels that nobody uses, the last used last.
        opened: How many channels there are.
        in_flight: How many are lent.
        is_retired: It gets no more calls, and goes with the last one.
        has_crashed: Its end has been counted.
        since_s: When it began to serve.
    """

    child: Child
    idle: list[Channel] = field(default_factory=list)
    opened: int = 1
    in_flight: int = 0
    is_retired: bool = False
    has_crashed: bool = False
    since_s: float = field(default_factory=time.monotonic)


class MakeChild(Protocol):
    """Starts a child."""

    def __call__(self, folder: Folder | None, deadline_s: float, *, ahead: bool) -> Child:
        """Start one that may read the folder, if one is given; raises as ``Child`` does."""


def _pair() -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), theirs
