"""One request and its answer: what is sent, what is read, and never more than was agreed."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead
from typing import BinaryIO

import urllib3
from urllib3.exceptions import HTTPError

from registry.cancelling import check_cancelled
from registry.connections import body_of
from registry.deadline import Deadline, Pace
from registry.errors import ContentError, NetworkError
from registry.failures import network_error
from registry.repository import Progress
from registry.throttle import Throttle

# One piece has to leave within one time-out, on a thin uplink too.
_SEND_BYTES = 64 << 10
_READ_BYTES = 64 << 10
_MAX_ERROR_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries.

    Attributes:
        media_type: Its ``Content-Type``.
        data: Bytes, or an open file.
        size_bytes: How many.
        start: Where in the data they begin.
        progress: Called with the number of bytes of each piece sent.
        headers: More headers that say what the body is.
    """

    media_type: str
    data: bytes | BinaryIO = field(repr=False)
    size_bytes: int
    start: int = 0
    progress: Progress | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def pieces(self, deadline: Deadline, pace: Pace, throttle: Throttle | None) -> Iterator[bytes]:
        """Read it as it is sent: as much as was announced, and only while there is time.

        Raises:
            ContentError: The file became shorter.
            TimeoutError: The other side takes it too slowly.
        """
        file = io.BytesIO(self.data) if isinstance(self.data, bytes) else self.data
        file.seek(self.start)
        missing = self.size_bytes
        most = _SEND_BYTES if throttle is None else min(_SEND_BYTES, throttle.piece_bytes)
        while missing:
            check_cancelled()
            deadline.remaining_s()
            piece = file.read(min(most, missing))
            if not piece:
                message = f"cannot send {self.size_bytes} bytes: the source ends {missing} before"
                raise ContentError(message)
            yield piece
            pace.took(len(piece))
            missing -= len(piece)
            if self.progress is not None:
                self.progress(len(piece))
            if throttle is not None and (wait_s := throttle.took(len(piece))):
                deadline.pause(wait_s)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; the body is still to be read.

    Attributes:
        url: Where it came from in the end.
        response: Status, headers and the body's stream.
    """

    url: str
    response: urllib3.BaseHTTPResponse

    @property
    def status(self) -> int:
        """The status code."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """Return a header's value; several lines of it come joined by commas."""
        return self.response.headers.get(name)

    def read(self, size: int, /) -> bytes:
        """Return what has arrived, at most ``size`` bytes; none means the end.

        Raises:
            NetworkError: The connection broke, the other side was silent or slow too long, or
                the operation took too long as a whole.
        """
        try:
            return self.response.read1(size, decode_content=False)
        except (HTTPError, OSError) as error:
            raise network_error(self.url, error) from error

    def readinto(self, buffer: memoryview, /) -> int:
        """Put what has arrived into a buffer and say how much it is; none means the end.

        Raises:
            NetworkError: See ``read``.
        """
        if self.response.closed:
            return 0
        try:
            body = body_of(self.response)
            if body.chunked:
                return _put(body.read1(len(buffer)), buffer)
            count = body.readinto(buffer)
            if not count and body.length:
                raise IncompleteRead(b"", body.length)
        except (HTTPException, OSError) as error:
            self.response.close()
            raise network_error(self.url, error) from error
        return count

    def read_all(self, max_bytes: int, what: str) -> bytes:
        """Return the whole body.

        Raises:
            ContentError: It is larger than ``max_bytes``.
            NetworkError: See ``read``.
        """
        data = bytearray()
        while piece := self.read(min(_READ_BYTES, max_bytes + 1 - len(data))):
            data += piece
            if len(data) > max_bytes:
                message = f"cannot accept {what}: got more than {max_bytes} bytes"
                raise ContentError(message)
        return bytes(data)

    def error_bytes(self) -> bytes:
        """Read as much of an error's body as anyone needs; its connection can be used again."""
        data = bytearray()
        try:
            while piece := self.read(_MAX_ERROR_BYTES - len(data)):
                data += piece
        except NetworkError:
            return b""
        return bytes(data)

    def finish(self) -> None:
        """Give the connection back if nothing of the body is left, else close it."""
        if self.response.closed:
            self.response.release_conn()
        else:
            self.response.close()


def _put(data: bytes, buffer: memoryview) -> int:
    if len(data) > len(buffer):  # http.client believes a chunk that is less than empty
        raise HTTPException("it sent a chunk of no size")
    buffer[: len(data)] = data
    return len(data)
