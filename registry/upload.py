"""Uploading a blob: streamed, resumed by what the registry says it has, never blindly repeated.

OCI distribution specification 1.1, "Pushing Blobs": small blobs by POST and PUT, others by PATCH
in between, because only what came by PATCH outlives a broken connection.
"""

import re
from collections.abc import Callable
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


class Upload:
    """One blob on its way into a repository.

    Args:
        transport: To the registry.
        path: The repository's.
        descriptor: What is sent.
        file: Its bytes.
        progress: Called with the number of bytes of each piece; what is sent twice counts twice.
        sibling: A repository of the same registry that may have it: nothing is sent then.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        descriptor: Descriptor,
        file: BinaryIO,
        progress: Progress | None,
        sibling: str | None = None,
    ) -> None:
        self._sibling = sibling
        self._transport = transport
        self._path = path
        self._descriptor = descriptor
        self._file = file
        self._progress = progress
        self._url: str | None = None
        self._has = 0
        self._is_closing = False
        # None = all that is missing at once.
        self._chunk_bytes: int | None = None
        self._least_chunk_bytes = 1

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
            if self._start():
                return
            if size_bytes <= _SMALL_BYTES:
                self._finish(size_bytes)
                return
        while self._has < size_bytes:
            self._send_chunk(min(self._chunk_bytes or size_bytes, size_bytes - self._has))
        self._finish(0)

    def _start(self) -> bool:
        """Ask for a place to upload to; says whether the blob could be mounted instead."""
        self._has, self._is_closing = 0, False
        mount = ""
        if self._sibling is not None:
            mount = "?" + urlencode({"mount": self._descriptor.digest, "from": self._sibling})
        with self._transport.request(
            "POST",
            f"{self._path}/blobs/uploads/{mount}",
            expected=(HTTPStatus.ACCEPTED, HTTPStatus.CREATED),
            writes=True,
        ) as reply:
            if mount and reply.status == HTTPStatus.CREATED:
                return True
            self._take_place(reply)
            least = reply.header("OCI-Chunk-Min-Length") or ""
        if least.isascii() and least.isdigit():
            self._least_chunk_bytes = min(int(least[:20]), _MAX_CHUNK_BYTES)
        return False

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
            self._take_place(reply)
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
                    self._take_place(reply, place)
        except RegistryError:
            self._url, self._has = None, 0

    @property
    def _place(self) -> str:
        """Where the upload is."""
        if self._url is None:
            raise AssertionError("an upload is started before it is sent")
        return self._url

    def _take_place(self, reply: Reply, before: str | None = None) -> None:
        place = reply.header("Location") or before
        if place is None:
            message = f"cannot push to {self._path}: the registry names no upload location"
            raise ContentError(message)
        self._url = follow(reply.url, place)


class _TooLargeError(RegistryError):
    """A gateway on the way takes no body of this size."""


def _require_room(reply: Reply) -> None:
    if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        message = "cannot push: got HTTP 413, a body that is too large for what is on the way"
        raise _TooLargeError(message)
