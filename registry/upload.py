"""Uploading a blob: streamed, resumed by what the registry says it has, never blindly repeated.

OCI distribution specification 1.1, "Pushing Blobs": small blobs by POST and PUT, others by PATCH
in between, because only what came by PATCH outlives a broken connection.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urlencode, urlsplit

from registry.errors import ContentError, NetworkError, NotFoundError, RegistryError
from registry.exchange import Body, Reply
from registry.links import follow
from registry.model import Descriptor
from registry.repository import Progress
from registry.transport import Transport

_MEDIA_TYPE = "application/octet-stream"
_SMALL_BYTES = 4 << 20
# What a gateway that refuses whole blobs (413) may let through.
_CHUNK_BYTES = 8 << 20
_MAX_CHUNK_BYTES = 1 << 30
# A body that is too large, and a part that does not follow on what is there.
_RECOVERED = (
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
)
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a registry wants a blob.

    Attributes:
        url: The upload's.
        least_chunk_bytes: A part that is not the last must have as many.
    """

    url: str
    least_chunk_bytes: int


def mount(transport: Transport, path: str, descriptor: Descriptor, sibling: str) -> Place | None:
    """Have a registry take a blob over from another of its repositories.

    Returns:
        ``None``: it did; else where the blob may be uploaded to, as the registry has it not.

    Raises:
        RegistryError: It knows no mounts, or not this repository.
    """
    query = urlencode({"mount": descriptor.digest, "from": sibling})
    with _asked_for(transport, f"{path}/blobs/uploads/?{query}") as reply:
        return None if reply.status == HTTPStatus.CREATED else _offered(reply, path)


def _asked_for(transport: Transport, url: str) -> AbstractContextManager[Reply]:
    answers = (HTTPStatus.ACCEPTED, HTTPStatus.CREATED)
    return transport.request("POST", url, expected=answers, writes=True)


def _offered(reply: Reply, path: str) -> Place:
    least = reply.header("OCI-Chunk-Min-Length") or ""
    least_bytes = int(least[:20]) if least.isascii() and least.isdigit() else 1
    return Place(_place_in(reply, path), min(least_bytes, _MAX_CHUNK_BYTES))


def _place_in(reply: Reply, path: str, before: str | None = None) -> str:
    place = reply.header("Location") or before
    if place is None:
        message = f"cannot push to {path}: the registry names no upload location"
        raise ContentError(message)
    return follow(reply.url, place)


class Upload:
    """One blob on its way into a repository.

    Args:
        transport: To the registry.
        path: The repository's.
        descriptor: What is sent.
        file: Its bytes.
        progress: Called with the number of bytes of each piece; what is sent twice counts twice.
        begun: Where the registry wants it, if it said so already.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        descriptor: Descriptor,
        file: BinaryIO,
        progress: Progress | None,
        begun: Place | None = None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._descriptor = descriptor
        self._file = file
        self._progress = progress
        self._url = None if begun is None else begun.url
        self._has = 0
        self._is_closing = False
        # None = all that is missing at once.
        self._chunk_bytes: int | None = None
        self._least_chunk_bytes = 1 if begun is None else begun.least_chunk_bytes

    def run(self, is_there: Callable[[], bool]) -> None:
        """Upload it.

        Args:
            is_there: Whether the registry has the blob: asked where an answer was lost.

        Raises:
            ContentError: The registry calls the bytes wrong or too large.
            NetworkError: It broke off too often without getting on, or took too long.
            RegistryError: See ``Transport.request``.
        """
        failures, reached = 0, 0
        with self._transport.operation(self._descriptor.size_bytes):
            while True:
                try:
                    self._go_on()
                    return
                except (NetworkError, NotFoundError) as error:
                    if self._url is None and isinstance(error, NotFoundError):
                        raise  # it is the repository that is not there, no upload that was lost
                    self._ask_status()
                    if self._is_closing and self._url is None and is_there():
                        return
                    failures = 1 if self._has > reached else failures + 1
                    reached = max(reached, self._has)
                    if failures >= self._transport.attempts:
                        raise
                    self._transport.pause(self._path, failures)
                except _TooLargeError as error:
                    if self._chunk_bytes is not None:
                        raise ContentError(str(error)) from error
                    self._chunk_bytes = max(_CHUNK_BYTES, self._least_chunk_bytes)
                    self._url, self._has = None, 0

    def _go_on(self) -> None:
        size_bytes = self._descriptor.size_bytes
        if self._url is None:
            self._start()
        if size_bytes <= _SMALL_BYTES:
            self._finish(size_bytes)
            return
        while self._has < size_bytes:
            self._send_chunk(min(self._chunk_bytes or size_bytes, size_bytes - self._has))
        self._finish(0)

    def _start(self) -> None:
        """Ask for a place to upload to."""
        self._has, self._is_closing = 0, False
        with _asked_for(self._transport, f"{self._path}/blobs/uploads/") as reply:
            place = _offered(reply, self._path)
        self._url, self._least_chunk_bytes = place.url, place.least_chunk_bytes

    def _send_chunk(self, count: int) -> None:
        # The whole at once goes without a range, as docker's own: every registry knows that.
        is_whole = count == self._descriptor.size_bytes
        said = () if is_whole else (("Content-Range", f"{self._has}-{self._has + count - 1}"),)
        body = Body(_MEDIA_TYPE, self._file, count, self._has, self._progress, said)
        with self._transport.request(
            "PATCH",
            self._place,
            expected=(HTTPStatus.ACCEPTED, *_RECOVERED),
            body=body,
            writes=True,
            transfer_bytes=count,
        ) as reply:
            _require_room(reply)
            if reply.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise NetworkError("cannot push: the registry has another part of it than it said")
            self._url = _place_in(reply, self._path)
        self._has += count

    def _finish(self, count: int) -> None:
        """Send the last bytes, and have the registry check them all."""
        self._is_closing = True
        # The location may have a query of its own, which has to come back as it was.
        joint = "&" if urlsplit(self._place).query else "?"
        with self._transport.request(
            "PUT",
            f"{self._place}{joint}digest={self._descriptor.digest}",
            expected=(HTTPStatus.CREATED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
            body=Body(_MEDIA_TYPE, self._file, count, self._has, self._progress),
            writes=True,
            transfer_bytes=count,
            attempts=1,
        ) as reply:
            _require_room(reply)

    def _ask_status(self) -> None:
        """Learn what the registry has of it; where it does not say, begin anew."""
        place, self._url = self._url, None
        self._has, had = 0, self._has
        if place is None or self._descriptor.size_bytes <= _SMALL_BYTES:
            return
        try:
            with self._transport.request(
                "GET", place, expected=(HTTPStatus.NO_CONTENT,), writes=True
            ) as reply:
                said = _RANGE.fullmatch(reply.header("Range") or "")
                has = 0 if said is None else int(said[1]) + 1
                # "0-0" is one byte or none: who knows.
                if max(had, 2) <= has <= self._descriptor.size_bytes:
                    self._has = has
                    self._url = _place_in(reply, self._path, place)
        except RegistryError:
            self._url, self._has = None, 0

    @property
    def _place(self) -> str:
        """Where the upload is."""
        if self._url is None:
            raise AssertionError("an upload is started before it is sent")
        return self._url


class _TooLargeError(RegistryError):
    """A gateway on the way takes no body of this size."""


def _require_room(reply: Reply) -> None:
    if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        message = "cannot push: got HTTP 413, a body that is too large for what is on the way"
        raise _TooLargeError(message)
