"""``/v1/events`` and ``/v1/plugins/{id}/logs``: a page of them, or a stream (``?follow``)."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from agent.control.agency import Agency
from agent.control.answers import answer, bad, encoded
from agent.control.bounds import Bounds
from agent.control.pool import Pool
from agent.control.reads import within
from agent.control.requests import LONGEST_PAGE, PAGE, caller_of, number, plugin_id, query
from agent.control.rows import happening_row, record_row
from agent.control.streams import Bell, Numbered, Source, Streams

_PIECE = 100
_KNOWN = {"follow": bool, "after": int, "limit": int}


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is read: its numbers, and what comes after one, oldest first.

    Attributes:
        name: Of the list in a page.
        source: Its numbers.
        after: At most so many after a number.
        newest: The last so many.
    """

    name: str
    source: Source
    after: Callable[[int, int], Sequence[Numbered]]
    newest: Callable[[int], Sequence[Numbered]]


class Following:
    """An ASGI application.

    Args:
        streams: For ``?follow``.
        bell: Rings when there is more.
        pool: What reads a page.
        bounds: How long that may take.
        shelf: What a request is about.
    """

    def __init__(
        self,
        streams: Streams,
        bell: Bell,
        pool: Pool,
        bounds: Bounds,
        shelf: Callable[[Scope], Shelf],
    ) -> None:
        self._streams = streams
        self._bell = bell
        self._pool = pool
        self._bounds = bounds
        self._shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        shelf = self._shelf(scope)
        asked = query(scope, _KNOWN)
        limit = asked.get("limit", PAGE)
        if not 1 <= limit <= LONGEST_PAGE:
            raise bad(f"cannot use limit: got {limit}, expected 1 to {LONGEST_PAGE}")
        headers = dict(scope["headers"])
        wants_stream = headers.get(b"accept", b"").startswith(b"text/event-stream")
        if not asked.get("follow", wants_stream):
            page = functools.partial(_page, shelf, asked.get("after"), limit)
            await answer(send, await within(scope, self._bounds.read_s, self._pool, page))
            return
        after = asked.get("after")
        last_id = headers.get(b"last-event-id")
        if last_id is not None:
            after = number("Last-Event-ID", last_id.decode("latin-1"))
        last = shelf.source.last()
        # A number of another life of the service, or of a ledger that was lost: from now on.
        after = last if after is None or after > last else after
        read = functools.partial(_piece, shelf)
        is_owner = caller_of(scope).is_owner
        await self._streams.serve(receive, send, self._bell, read, after, is_owner=is_owner)


def events(agency: Agency) -> Callable[[Scope], Shelf]:
    """What happens to plugins."""
    feed = agency.feed

    def after(number: int, limit: int) -> list[Numbered]:
        return [Numbered(one.number, happening_row(one)) for one in feed.after(number, limit)]

    def newest(limit: int) -> list[Numbered]:
        return after(max(0, feed.last() - limit), limit)

    shelf = Shelf("events", feed, after, newest)
    return lambda _: shelf


def logs(agency: Agency) -> Callable[[Scope], Shelf]:
    """What the plugin says that the path names."""
    book = agency.logs

    def of(scope: Scope) -> Shelf:
        wanted = plugin_id(scope)

        def kept(number: int) -> list[Numbered]:
            return [
                Numbered(one.number, {"number": one.number, **record_row(one.record)})
                for one in book.after(wanted, number)
            ]

        return Shelf(
            "logs",
            book,
            lambda number, limit: kept(number)[:limit],
            lambda limit: kept(0)[-limit:],
        )

    return of


def _page(shelf: Shelf, after: int | None, limit: int) -> bytes:
    last = shelf.source.last() if after is None else after
    found = shelf.newest(limit) if after is None else shelf.after(after, limit)
    last = found[-1].number if found else last
    return encoded({shelf.name: [one.fields for one in found], "last": last})


def _piece(shelf: Shelf, after: int) -> Sequence[Numbered]:
    return shelf.after(after, _PIECE)
