"""The host's side of the zygote: started at the first need, gone with the last child."""

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from sandbox.errors import SandboxError
from sandbox.isolate.zygote import MAX_MESSAGE_BYTES, READY
from sandbox.token import KEY_BYTES

_START_S = 30.0
_ANSWER_S = 10.0
_END_S = 2.0
"""What a zygote has at least for an answer, and at most for its end."""
_POLL_MS = 10_000


class Nursery:
    """Forks the children of one sandbox, and buries them.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._is_deaf = False
        self._children = 0
        self._closed = False

    def start(self) -> None:
        """Start the zygote, and don't wait for it.

        Raises:
            SandboxError: It can't be started.
        """
        with self._lock:
            self._refuse_closed()
            self._open()

    def wait_until_ready(self) -> None:
        """Wait until the zygote can fork, if it can't yet.

        Raises:
            SandboxError: It did not start.
        """
        if not self._is_ready:
            with self._lock:
                self._refuse_closed()
                self._greet()

    def fork(
        self, given: Sequence[socket.socket | int], deadline_s: float, *, ahead: bool
    ) -> tuple[int, int]:
        """Start a child.

        Args:
            given: Its control socket, its first channel, the code, and the folder if any.
            deadline_s: Until when to wait, on the clock of ``time.monotonic()``, but two
                seconds at least and ten at most; then the zygote is replaced.
            ahead: It is for a plugin that has a child, and no other need stand by.

        Returns:
            Its process id, for ``bury``; and a descriptor of it, the caller's to close.

        Raises:
            SandboxError: There is no zygote to be had, or no room for a child.
            TimeoutError: There was none until then.
        """
        numbers = [item if isinstance(item, int) else item.fileno() for item in given]
        if not self._lock.acquire(timeout=_until(deadline_s)):
            raise TimeoutError
        try:
            for is_last in (False, True):  # a zygote that was killed is replaced once
                self._refuse_closed()
                zygote = self._greet()
                left_s = deadline_s - time.monotonic()
                zygote.settimeout(min(_ANSWER_S, max(_END_S, left_s)))
                try:
                    socket.send_fds(zygote, [_spelled("fork", len(numbers), ahead)], numbers)
                    match _heard(zygote):
                        case ["forked", int(pid)], [handle]:
                            self._is_deaf = False
                            self._children += 1
                            return pid, handle
                        case ["refused", str(reason)], []:  # the children there are live on
                            raise _no_zygote(reason)
                except (OSError, ValueError) as error:
                    self._end(0)
                    if time.monotonic() >= deadline_s:
                        raise TimeoutError from error
                    if is_last:
                        raise _no_zygote(str(error)) from error
                else:
                    self._end(0)
            raise _no_zygote("it does not answer")
        finally:
            self._lock.release()

    def bury(self, pid: int, handle: int) -> int | None:
        """Kill a child and wait for its end.

        Args:
            pid: As ``fork`` returned it.
            handle: The same; closed.

        Returns:
            Its exit code, or the signal it died of, negative; None where that is not known.
        """
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        is_over = bool(waiting.poll(_POLL_MS))
        os.close(handle)
        with self._lock:
            self._children -= 1
            try:
                return self._reap(pid) if is_over else None
            finally:
                if self._closed and not self._children:
                    self._end(_END_S)

    def close(self) -> None:
        """Fork no more, and end the zygote, or have the last child's burial end it.

        Whatever becomes of the zygote, this takes two seconds at most.
        """
        self._closed = True
        until_s = time.monotonic() + _END_S
        if not self._lock.acquire(timeout=_END_S):
            zygote = self._socket
            with contextlib.suppress(OSError):  # it is gone meanwhile
                if zygote is not None:
                    zygote.shutdown(socket.SHUT_RDWR)  # whoever waits for it waits no more
            self._lock.acquire()
        try:
            if not self._children:
                self._end(until_s - time.monotonic())
        finally:
            self._lock.release()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise SandboxError("cannot start a plugin's process: the sandbox is closed")

    def _reap(self, pid: int) -> int | None:
        if self._socket is None:
            return None
        self._socket.settimeout(0 if self._is_deaf else _END_S)
        try:
            self._socket.send(_spelled("reap", pid))
            while True:
                match json.loads(self._socket.recv(MAX_MESSAGE_BYTES) or b"[]"):
                    case ["reaped", int(who), None | int() as code]:
                        if who == pid:  # else one that nobody waited for any more
                            return code
                    case _:
                        break
        except (TimeoutError, BlockingIOError):
            self._is_deaf = True  # once it is not any more it reaps this one too
            return None
        except (OSError, ValueError):
            pass
        self._end(0)  # one that died takes its children along, this one too
        return None

    def _open(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        if not sys.platform.startswith("linux") or not sys.executable:
            raise _no_zygote("it needs Linux and a Python interpreter")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "sandbox.isolate.zygote", str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                pass_fds=(number,),
                start_new_session=True,  # Ctrl-C in the host's terminal is the host's alone
            )
            ours.send(self.key)
        except OSError as error:
            ours.close()
            raise _no_zygote(str(error)) from error
        finally:
            theirs.close()
        self._socket, self._is_ready, self._is_deaf = ours, False, False
        return ours

    def _greet(self) -> socket.socket:
        zygote = self._open()
        if not self._is_ready:
            zygote.settimeout(_START_S)
            try:
                said = zygote.recv(len(READY))
            except OSError:
                said = b""
            if said != READY:
                self._end(0)
                raise _no_zygote(f"{sys.executable} does not find this package, or failed")
            self._is_ready = True
        return zygote

    def _end(self, patience_s: float) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is gone
                self._socket.shutdown(socket.SHUT_RDWR)  # a process forked from this one has it too
            self._socket.close()
            self._socket = None
        if self._process is not None:
            # it buries the child that stands by: where this process is the first of a container
            # nobody else would
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0 if self._is_deaf else max(0.0, patience_s))
            self._process.kill()
            self._process.wait()
            self._process = None
        self._is_ready = self._closed  # a call of what is closed has nothing to wait for


def _until(deadline_s: float) -> float:
    return min(threading.TIMEOUT_MAX, max(0.0, deadline_s - time.monotonic()))


def _heard(zygote: socket.socket) -> tuple[list[object], list[int]]:
    """What a zygote answers to the last order, and the descriptors with it."""
    while True:
        message, handles, _, _ = socket.recv_fds(zygote, MAX_MESSAGE_BYTES, 1)
        answer = json.loads(message or b"[]")
        if answer[:1] != ["reaped"]:  # for which nobody waited any more
            return answer, handles


def _spelled(*words: object) -> bytes:
    return json.dumps(words).encode("ascii")


def _no_zygote(reason: str) -> SandboxError:
    return SandboxError(
        f"cannot start a process for plugins: {reason}; run them in this one with "
        'sandbox.isolation = "inline"'
    )
