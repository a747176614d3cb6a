"""One connection: whose it is, and how long and how much it may take.

uvicorn parses and writes; what it leaves unbounded is bounded here. Its protocol is a class that
may be subclassed (facts.md: it gives no peer by itself).
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from agent.control.bounds import Bounds
from agent.control.peers import Access, Connected, Peer, Rights, peer_of

_LOG = logging.getLogger("stack_composer.control")


@dataclass(slots=True)
class Gate:
    """Lets connections in.

    Attributes:
        others: How many connections are open that are not the owner's or root's.
    """

    rights: Rights
    bounds: Bounds
    others: int = 0

    def is_full(self, open_connections: int, *, is_owner: bool) -> bool:
        """Whether there is no room for another connection."""
        most = self.bounds.connections
        return open_connections >= most or (not is_owner and self.others >= most // 2)

    def is_owner(self, peer: Peer) -> bool:
        """Whether nobody may keep this peer out."""
        return peer.uid in (0, self.rights.owner)


@dataclass(slots=True)
class Caller:
    """What a request knows of its connection: ``scope["state"]["caller"]``."""

    peer: Peer
    access: Access
    is_owner: bool
    """Or root: nobody may keep them out."""


class GuardedProtocol(HttpToolsProtocol):
    """Knows its peer; drops who is slow, endless or too much."""

    gate: ClassVar[Gate]

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **settings)
        self._is_counted = False
        self._timer: asyncio.TimerHandle | None = None
        self._deaf: asyncio.TimerHandle | None = None
        self._is_head = True
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask who it is, and let it in where there is room."""
        self.transport = cast("asyncio.Transport", transport)
        gate = self.gate
        try:
            peer = peer_of(cast("Connected", transport.get_extra_info("socket")))
            is_owner = gate.is_owner(peer)
            if gate.is_full(len(self.connections), is_owner=is_owner):
                self.transport.abort()
                return
            super().connection_made(self.transport)
            if not is_owner:
                gate.others += 1
                self._is_counted = True
            caller = Caller(peer, gate.rights.of(peer), is_owner)
            self.app_state = {"caller": caller}
            self._wait_for_head()
        except Exception:  # noqa: BLE001 - whatever it is
            # A peer that is not known gets nothing; and without this it would get everything.
            _LOG.exception("cannot say who connected")
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._stop_waiting()
        self._stop_listening()
        if self._is_counted:
            self.gate.others -= 1
            self._is_counted = False
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and bound the head, of which the parser keeps what is not whole."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if not self._is_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.gate.bounds.head_bytes:
            self._refuse(431)
        elif self._timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        self._is_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop_waiting()
        self._is_head = False
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Its buffer is full: whoever does not read on is dropped, answer and stream alike."""
        super().pause_writing()
        self._deaf = self.loop.call_later(self.gate.bounds.idle_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        self._stop_listening()

    def on_response_complete(self) -> None:
        """Whoever does not read the answer to a last request does not keep it."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(self.gate.bounds.idle_s, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came, or the answer was not read: what is not sent yet is dropped."""
        self.transport.abort()

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self.gate.bounds.head_s, self._refuse, 408)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_listening(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None

    def _refuse(self, status: int) -> None:
        """Say why in a line, and hang up."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        is_answering = bool(self.cycle) and not self.cycle.response_complete
        if not is_answering:
            head = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head)
            self.transport.close()
        else:
            self.transport.abort()


def guarded(gate: Gate) -> type[GuardedProtocol]:
    """The protocol of a server with this gate; uvicorn makes one for each connection."""
    return type("Guarded", (GuardedProtocol,), {"gate": gate})
