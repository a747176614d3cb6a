"""The zygote: a small process that forks a child for each plugin, and never runs one itself.

It has one thread and the engine's library loaded, so a fork is quick and safe. It is started
afresh, not forked from the host: nothing of the host's memory is in it or its children. It
believes the host, who is alone at the other end of its socket, and ends when the host does.

    python -I -m sandbox.isolate.zygote FD
"""

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass

from sandbox.isolate import serving
from sandbox.isolate.lockdown import die_with_parent, go_first
from sandbox.isolate.pages import let_go_of_code
from sandbox.isolate.rehearsal import Rehearsal
from sandbox.log import escape_text
from sandbox.token import KEY_BYTES
from sandbox.way import best

MAX_MESSAGE_BYTES = 4096
MOST_DESCRIPTORS = 4
_ENGINE = "_libwasmtime.so"
_LULL_MS = 50
"""After an order a child has this long for its first call, before it shares the processor."""
READY, GO, AHEAD = b"ready", b"go", b"ahead"


def main(descriptor: int) -> None:
    """Serve the host at the other end of a socket, until it is gone.

    Args:
        descriptor: A Unix socket of whole messages (SOCK_SEQPACKET).
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the host says when to end
    with socket.socket(fileno=descriptor) as host:
        key = host.recv(KEY_BYTES)
        if len(key) != KEY_BYTES:
            return
        # a process that the host forked keeps the socket open for it: look at the host as well
        parent = os.pidfd_open(os.getppid())
        go_first()
        # what is loaded when it is used first: a child can't read files
        escape_text("\x1b")
        best()
        zygote = Zygote(host, key)
        gc.collect()
        gc.freeze()  # what is here now is shared with every child, and never looked at again
        let_go_of_code(_ENGINE)  # the compiler's, above all: what comes is compiled already
        host.send(READY)
        waiting = select.poll()
        waiting.register(host, select.POLLIN)
        waiting.register(parent, select.POLLIN)
        try:
            while True:
                events = waiting.poll(zygote.patience_ms)
                if any(ready != host.fileno() for ready, _ in events):
                    return
                if not events:
                    zygote.have_one_stand_by()
                    continue
                message, given, _, _ = socket.recv_fds(host, MAX_MESSAGE_BYTES, MOST_DESCRIPTORS)
                if not message:
                    return
                zygote.obey(json.loads(message), given)
        except OSError:
            return
        finally:
            zygote.close()


@dataclass(frozen=True, slots=True)
class _Standby:
    """A child that waits for its plugin.

    Attributes:
        pid: Its process id.
        link: Takes the descriptors that it is to serve by.
    """

    pid: int
    link: socket.socket


class Zygote:
    """Forks children, one ahead of the orders.

    Args:
        host: Who gives the orders.
        key: What tokens are sealed with.
    """

    def __init__(self, host: socket.socket, key: bytes) -> None:
        self._host = host
        self._key = key
        self._rehearsal = Rehearsal()
        self._standby: _Standby | None = None
        self._is_relieved = False

    @property
    def patience_ms(self) -> int | None:
        """How long to wait for an order before the next child is forked; None = for ever.

        Once the host has a child of its own stand by none is forked ahead.
        """
        return None if self._standby is not None or self._is_relieved else _LULL_MS

    def have_one_stand_by(self) -> None:
        """Fork a child for the next order; where the system has no room for it, try again."""
        with contextlib.suppress(OSError):
            self._standby = self._fork(rehearses=True)

    def close(self) -> None:
        """End who stands by: nobody else may be there to bury it."""
        if self._standby is not None:
            os.kill(self._standby.pid, signal.SIGKILL)
            os.waitpid(self._standby.pid, 0)
            self._standby = None

    def obey(self, order: list[object], given: list[int]) -> None:
        """Do as the host says."""
        match order:
            case ["fork", int(count), bool(ahead)]:
                self._is_relieved = self._is_relieved or ahead
                self._hand_over(given, count, AHEAD if ahead else GO)
            case ["reap", int(pid)]:
                code = None
                with contextlib.suppress(ChildProcessError):  # another zygote's, before this one
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                self._host.send(json.dumps(["reaped", pid, code]).encode("ascii"))

    def _hand_over(self, given: list[int], count: int, word: bytes) -> None:
        try:
            pid, handle = self._start_one(given, count, word)
        except OSError as error:
            told = json.dumps(["refused", error.strerror]).encode("ascii")
            self._host.send(told)
            return
        finally:
            for descriptor in given:
                os.close(descriptor)
        try:
            told = json.dumps(["forked", pid]).encode("ascii")
            socket.send_fds(self._host, [told], [handle])
        finally:
            os.close(handle)

    def _start_one(self, given: list[int], count: int, word: bytes) -> tuple[int, int]:
        if len(given) != count:  # there was no room for all that the host gave
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        child, self._standby = self._standby, None
        if child is not None:
            with contextlib.suppress(OSError):  # it was killed while it waited
                return _started(child, given, word)
        return _started(self._fork(rehearses=word == AHEAD), given, word)

    def _fork(self, *, rehearses: bool) -> _Standby:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = os.getpid()
        with theirs:
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    die_with_parent(own)
                    self._stand_by(theirs, rehearses=rehearses)
                    status = 0
                finally:
                    os._exit(status)
        return _Standby(pid, ours)

    def _stand_by(self, link: socket.socket, *, rehearses: bool) -> None:
        if rehearses:
            self._rehearsal.play(self._key)
        _close_all_but(link.fileno())
        word, given, _, _ = socket.recv_fds(link, len(AHEAD), MOST_DESCRIPTORS)
        if given:  # else the zygote is gone, and this process goes with it
            link.close()
            control, first, code, *folder = given
            seen = folder[0] if folder else None
            serving.serve(control, first, code, seen, self._key, ahead=word == AHEAD)


def _started(child: _Standby, given: list[int], word: bytes) -> tuple[int, int]:
    """Have a child serve; its process id and a descriptor of it."""
    with child.link:
        try:
            socket.send_fds(child.link, [word], given)
            return child.pid, os.pidfd_open(child.pid)
        except OSError:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise


def _close_all_but(descriptor: int) -> None:
    """Close every descriptor but the streams, which are nowhere, and this one."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)  # there is nothing to tidy up, and the host waits
