"""A network link that breaks: a relay between a client and a registry."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_WAIT_S = 60
_PIECE_BYTES = 16384


@dataclass
class Link:
    """What is on the way, and what went over it.

    Attributes:
        host: ``127.0.0.1:port``: where clients connect.
        down_every: A connection is cut when this many bytes have come down over it.
        up_every: The same for what goes up.
        cuts: How many more connections may be cut.
        stop_at: No more is carried down once this many bytes came down over all connections.
        is_stopped: Set when that is so.
        goes_on: Set to have the rest carried; ``stop_at`` is over then.
        down: Bytes that came down, over all connections.
        up: Bytes that went up.
        connections: How many there were.
    """

    host: str
    down_every: int = 1 << 62
    up_every: int = 1 << 62
    cuts: int = 1 << 62
    stop_at: int = 1 << 62
    is_stopped: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)
    down: int = 0
    up: int = 0
    connections: int = 0


def _relay(link: Link, client: socket.socket, registry: socket.socket) -> None:
    """Carry bytes both ways until an end, or until it is time to cut."""
    down = up = 0
    with contextlib.suppress(OSError):
        while True:
            readable, _, _ = select.select([client, registry], [], [], _WAIT_S)
            if not readable:
                return
            for source in readable:
                data = source.recv(_PIECE_BYTES)
                if not data:
                    return
                if source is registry:
                    down += len(data)
                    link.down += len(data)
                    client.sendall(data)
                    if link.down >= link.stop_at and not link.goes_on.is_set():
                        link.is_stopped.set()
                        link.goes_on.wait(_WAIT_S)
                else:
                    up += len(data)
                    link.up += len(data)
                    registry.sendall(data)
            if link.cuts > 0 and (down >= link.down_every or up >= link.up_every):
                link.cuts -= 1
                # The registry sees it first, so that it knows what it has once it is asked.
                registry.shutdown(socket.SHUT_WR)
                while up >= link.up_every and registry.recv(_PIECE_BYTES):
                    pass
                return


@contextlib.contextmanager
def breaking_link(target: str) -> Iterator[Link]:
    """Run a link to a ``host:port``; it breaks nothing until it is told to."""
    address, _, port = target.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(f"127.0.0.1:{server.getsockname()[1]}")
        threads: list[threading.Thread] = []
        ends: list[socket.socket] = []

        def carry(client: socket.socket) -> None:
            with client, socket.create_connection((address, int(port)), _WAIT_S) as up:
                ends.extend([client, up])
                _relay(link, client, up)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    link.connections += 1
                    threads.append(threading.Thread(target=carry, args=(client,)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield link
        finally:
            link.goes_on.set()
            server.shutdown(socket.SHUT_RDWR)
            accepting.join(_WAIT_S)
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(_WAIT_S)
