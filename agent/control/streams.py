"""Server-sent events: what is new, by number, to readers who may come back.

No queue stands before a reader: it remembers the last number it was sent, and what is newer is
read anew. Who does not read is dropped; ``Last-Event-ID`` goes on where it was.
"""

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Receive, Send

from agent.control.answers import encoded
from agent.control.bounds import Bounds
from agent.control.pool import Pool
from agent.errors import BusyError

_LOOK_S = 1.0


class Source(Protocol):
    """What has numbered entries."""

    def last(self) -> int:
        """The newest number."""

    def wait(self, number: int, timeout_s: float) -> bool:
        """Block until there is a newer one, or the time is over."""


class Bell:
    """Tells the readers on an event loop that a source has something new: one thread for all.

    Args:
        source: Waited for while anybody listens.
        name: Of the thread.
    """

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def listen(self) -> asyncio.Event:
        """An event that is set when there is something new, until ``leave``."""
        event = asyncio.Event()
        with self._changed:
            self._listeners[event] = asyncio.get_running_loop()
            if self._thread.ident is None and not self._is_closed:
                self._thread.start()
            self._changed.notify_all()
        return event

    def leave(self, event: asyncio.Event) -> None:
        """Listen no more."""
        with self._changed:
            self._listeners.pop(event, None)

    def ring(self) -> None:
        """Wake every listener."""
        with self._changed:
            listeners = list(self._listeners.items())
        for event, loop in listeners:
            loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(2 * _LOOK_S)

    def _watch(self) -> None:
        seen = self._source.last()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._listeners or self._is_closed)
                if self._is_closed:
                    return
            if self._source.wait(seen, _LOOK_S):
                seen = self._source.last()
                self.ring()


@dataclass(frozen=True, slots=True)
class Numbered:
    """A document and the number that ``Last-Event-ID`` gives back."""

    number: int
    fields: dict[str, object]


class Streams:
    """All streams of a server.

    Args:
        pool: What reads for them.
        bounds: How many, how long.
    """

    def __init__(self, pool: Pool, bounds: Bounds) -> None:
        self._pool = pool
        self._bounds = bounds
        self._open = 0
        self._others = 0
        self._is_closing = False
        self._bells: list[Bell] = []

    def bell(self, source: Source, name: str) -> Bell:
        """A bell of its own for a source; closed with the streams."""
        bell = Bell(source, name)
        self._bells.append(bell)
        return bell

    def end(self) -> None:
        """Let every stream end; on the event loop's thread."""
        self._is_closing = True
        for bell in self._bells:
            bell.ring()

    def close(self) -> None:
        """End the bells' threads."""
        for bell in self._bells:
            bell.close()

    async def serve(
        self,
        receive: Receive,
        send: Send,
        bell: Bell,
        read: Callable[[int], Sequence[Numbered]],
        after: int,
        *,
        is_owner: bool,
    ) -> None:
        """Send what comes after a number, for as long as it is read.

        Args:
            receive: Says when the reader has gone.
            send: To the reader.
            bell: Rings when ``read`` may find more.
            read: What comes after a number, oldest first, a bounded piece at a time; blocks.
            after: The number to begin after.
            is_owner: Whether the owner or root reads; others have half of the streams.

        Raises:
            BusyError: There are as many streams as may be.
        """
        most = self._bounds.streams
        is_full = self._open >= most or (not is_owner and self._others >= most // 2)
        if is_full or self._is_closing:
            raise BusyError(
                "cannot follow: as many streams are open as may be, or the service ends",
                hint="try again later, or ask without follow",
            )
        self._open += 1
        self._others += not is_owner
        event = bell.listen()
        gone = asyncio.ensure_future(_gone(receive, event))
        try:
            await _begin(send)
            await self._follow(send, event, gone, read, after)
        finally:
            gone.cancel()
            bell.leave(event)
            self._open -= 1
            self._others -= not is_owner

    async def _follow(
        self,
        send: Send,
        event: asyncio.Event,
        gone: "asyncio.Future[None]",
        read: Callable[[int], Sequence[Numbered]],
        after: int,
    ) -> None:
        end = time.monotonic() + self._bounds.stream_s
        while True:
            event.clear()
            found = await self._pool.run(functools.partial(read, after), is_owner=True)
            if found:
                after = found[-1].number
                data = b"".join(map(_spelled, found))
                await _write(send, data)
                if not gone.done() and not self._is_closing:
                    continue
            left_s = end - time.monotonic()
            if self._is_closing or gone.done() or left_s <= 0:
                break
            try:
                async with asyncio.timeout(min(self._bounds.beat_s, left_s)):
                    await event.wait()
            except TimeoutError:
                await _write(send, b": nothing new\n\n")
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive, event: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    event.set()


async def _begin(send: Send) -> None:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _write(send, b": begins\n\n")


async def _write(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _spelled(one: Numbered) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (one.number, encoded(one.fields))
