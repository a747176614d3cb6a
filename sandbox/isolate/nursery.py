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
from collections.abc import Sequence

from sandbox.errors import SandboxError
from sandbox.isolate.zygote import MAX_MESSAGE_BYTES, READY
from sandbox.token import KEY_BYTES

_START_S = 30.0
_ANSWER_S = 10.0
_END_S = 2.0
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

    def fork(self, given: Sequence[socket.socket | int]) -> tuple[int, int]:
        """Start a child.

        Args:
            given: Its control socket, its first channel, the code, and the folder if any.

        Returns:
            Its process id, for ``bury``; and a descriptor of it, the caller's to close.

        Raises:
            SandboxError: There is no zygote to be had, or no room for a child.
        """
        numbers = [item if isinstance(item, int) else item.fileno() for item in given]
        with self._lock:
            self._refuse_closed()
            for is_last in (False, True):  # a zygote that was killed is replaced once
                zygote = self._greet()
                try:
                    socket.send_fds(zygote, [_spelled("fork", len(numbers))], numbers)
                    message, handles, _, _ = socket.recv_fds(zygote, MAX_MESSAGE_BYTES, 1)
                    match json.loads(message or b"[]"), handles:
                        case ["forked", int(pid)], [handle]:
                            self._children += 1
                            return pid, handle
                        case ["refused", str(reason)], []:  # the children there are live on
                            raise _no_zygote(reason)
                except (OSError, ValueError) as error:
                    self._end()
                    if is_last:
                        raise _no_zygote(str(error)) from error
                else:
                    self._end()
            raise _no_zygote("it does not answer")

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
                    self._end()

    def close(self) -> None:
        """End the zygote, or have the last child's burial end it."""
        with self._lock:
            self._closed = True
            if not self._children:
                self._end()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise SandboxError("cannot start a plugin's process: the sandbox is closed")

    def _reap(self, pid: int) -> int | None:
        if self._socket is None:
            return None
        try:
            self._socket.send(_spelled("reap", pid))
            match json.loads(self._socket.recv(MAX_MESSAGE_BYTES) or b"[]"):
                case ["reaped", None | int() as code]:
                    return code
        except (OSError, ValueError):
            pass
        self._end()  # one that died takes its children along, this one too
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
        self._socket, self._is_ready = ours, False
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
                self._end()
                raise _no_zygote(f"{sys.executable} does not find this package, or failed")
            zygote.settimeout(_ANSWER_S)
            self._is_ready = True
        return zygote

    def _end(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is gone
                self._socket.shutdown(socket.SHUT_RDWR)  # a process forked from this one has it too
            self._socket.close()
            self._socket = None
        if self._process is not None:
            # it buries the child that stands by: where this process is the first of a container
            # nobody else would
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._process.kill()
            self._process.wait()
            self._process = None
        self._is_ready = self._closed  # a call of what is closed has nothing to wait for


def _spelled(*words: object) -> bytes:
    return json.dumps(words).encode("ascii")


def _no_zygote(reason: str) -> SandboxError:
    return SandboxError(
        f"cannot start a process for plugins: {reason}; run them in this one with "
        'sandbox.isolation = "inline"'
    )
