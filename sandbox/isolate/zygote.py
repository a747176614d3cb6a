"""The zygote: a small process that forks a child for each plugin, and never runs one itself.

It has one thread and the engine's library loaded, so a fork is quick and safe. It is started
afresh, not forked from the host: nothing of the host's memory is in it or its children. It
believes the host, who is alone at the other end of its socket, and ends when the host does.

    python -I -m sandbox.isolate.zygote FD
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys

from sandbox.isolate import serving
from sandbox.isolate.lockdown import die_with_parent, go_first
from sandbox.log import escape_text
from sandbox.token import KEY_BYTES
from sandbox.way import best

MAX_MESSAGE_BYTES = 4096
MOST_DESCRIPTORS = 4
READY = b"ready"


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
        gc.collect()
        gc.freeze()  # what is here now is shared with every child, and never looked at again
        host.send(READY)
        waiting = select.poll()
        waiting.register(host, select.POLLIN)
        waiting.register(parent, select.POLLIN)
        with contextlib.suppress(OSError):
            while all(ready == host.fileno() for ready, _ in waiting.poll()):
                message, given, _, _ = socket.recv_fds(host, MAX_MESSAGE_BYTES, MOST_DESCRIPTORS)
                if not message:
                    return
                _obey(host, json.loads(message), given, key)


def _obey(host: socket.socket, order: list[object], given: list[int], key: bytes) -> None:
    match order:
        case ["fork"]:
            _fork(host, given, key)
        case ["reap", int(pid)]:
            code = None
            with contextlib.suppress(ChildProcessError):  # another zygote's, before this one
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            host.send(json.dumps(["reaped", code]).encode("ascii"))


def _fork(host: socket.socket, given: list[int], key: bytes) -> None:
    own = os.getpid()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            die_with_parent(own)
            control, first, code, *folder = _alone_with(given)
            serving.serve(control, first, code, folder[0] if folder else None, key)
            status = 0
        finally:
            os._exit(status)
    for descriptor in given:
        os.close(descriptor)
    handle = os.pidfd_open(pid)
    try:
        socket.send_fds(host, [json.dumps(["forked", pid]).encode("ascii")], [handle])
    finally:
        os.close(handle)


def _alone_with(given: list[int]) -> list[int]:
    """Close every descriptor but the streams, which are nowhere, and those given."""
    keep = sorted(given)
    begin = 3
    for descriptor in keep:
        os.closerange(begin, descriptor)
        begin = descriptor + 1
    os.closerange(begin, os.sysconf("SC_OPEN_MAX"))
    return given


if __name__ == "__main__":
    main(int(sys.argv[1]))
