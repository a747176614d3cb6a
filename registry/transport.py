"""The only HTTP: time-outs, retries, redirects, and who may see the credentials.

What is above says what to ask and what the answer must look like; what is here says how long,
how often, and to whom.
"""

import io
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from registry.auth import Credential
from registry.connections import Deadline, is_loopback
from registry.errors import ContentError, NetworkError, RegistryError
from registry.failures import (
    RETRIED_STATUSES,
    is_certificate,
    join,
    network_error,
    shown,
    status_error,
)
from registry.kept import KeptConnections
from registry.repository import Progress
from registry.settings import HttpSettings

# One piece has to leave within one time-out, on a thin uplink too.
_SEND_BYTES = 64 << 10
_READ_BYTES = 64 << 10
_MAX_ERROR_BYTES = 64 << 10
_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_REPEATABLE = {"GET", "HEAD", "PUT"}


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries.

    Attributes:
        media_type: Its ``Content-Type``.
        data: Bytes, which may be sent again, or an open file, which is sent once.
        size_bytes: How many.
        progress: Called with the number of bytes of each piece sent.
    """

    media_type: str
    data: bytes | BinaryIO
    size_bytes: int
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose status was expected; the body is still to be read.

    Attributes:
        url: Where it came from in the end.
        response: Status, headers and the body's stream.
    """

    url: str
    response: urllib3.BaseHTTPResponse

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        return self.response.headers.get(name)

    def read(self, size: int, /) -> bytes:
        """Return what has arrived, at most ``size`` bytes; none means the end.

        Raises:
            NetworkError: The connection broke, the other side was silent too long, or the
                operation took too long as a whole.
        """
        try:
            return self.response.read1(size, decode_content=False)
        except (HTTPError, OSError) as error:
            raise network_error(self.url, error) from error

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


class Transport:
    """HTTP to one registry and to where it redirects.

    Args:
        host: The registry's host with its port.
        settings: Time-outs, certificates, proxy.
        credential: Sent to this registry's own origin and to no other.
        connections: Shared with others; None = its own, which end with it.
    """

    def __init__(
        self,
        host: str,
        settings: HttpSettings,
        credential: Credential | None,
        connections: KeptConnections | None = None,
    ) -> None:
        plain = settings.plain_http
        if plain is None:
            plain = is_loopback(urlsplit(f"//{host}").hostname or "")
        self.origin = f"{'http' if plain else 'https'}://{host}"
        self._settings = settings
        self._credential = credential
        self._connections = connections or KeptConnections()
        self._shares = connections is not None
        self._manager, self._deadline = self._connections.to(self.origin, settings)

    def close(self) -> None:
        """Close idle connections, unless others share them."""
        if not self._shares:
            self._connections.close()

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        expected: tuple[int, ...] = (HTTPStatus.OK,),
        accept: str = "*/*",
        body: Body | None = None,
        transfer_bytes: int = 0,
    ) -> Iterator[Reply]:
        """Send a request, again if that may help, and yield the answer.

        Args:
            method: GET, HEAD, POST or PUT.
            url: A path on the registry, or a whole URL that it gave.
            expected: The statuses that are an answer.
            accept: The ``Accept`` header.
            body: What to send.
            transfer_bytes: How many bytes are going to be sent or received: more take longer.

        Yields:
            The answer. Its connection is used again only if its body was read to the end.

        Raises:
            AuthenticationError: 401, 403.
            NotFoundError: 404.
            NetworkError: No answer in time, a broken connection, 429 or 5xx after all attempts.
            ContentError: The registry calls what we sent invalid, or encoded what it sent.
            RegistryError: Any other status, or a redirect that must not be followed.
        """
        url = urljoin(self.origin, url)
        self._deadline.start(
            self._settings.total_timeout_s + transfer_bytes / self._settings.min_bytes_per_s
        )
        reply = self._follow(method, url, accept, body)
        try:
            if reply.response.status not in expected:
                raise status_error(
                    method,
                    reply.url,
                    reply.response.status,
                    body=_error_bytes(reply),
                    challenge=reply.header("WWW-Authenticate"),
                )
            if reply.response.headers.get("Content-Encoding", "identity").lower() != "identity":
                message = (
                    f"cannot accept {shown(reply.url)}: got it compressed, which was not asked for"
                )
                raise ContentError(message)
            yield reply
        finally:
            _finish(reply.response)

    def _follow(self, method: str, url: str, accept: str, body: Body | None) -> Reply:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._attempts(method, url, accept, body)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None or method not in {"GET", "HEAD"}:
                return Reply(url, response)
            _finish(response)
            source, url = url, join(url, target)
            if urlsplit(url).scheme != "https" and urlsplit(url).scheme != urlsplit(source).scheme:
                message = (
                    f"cannot follow {shown(source)}: it redirects to {shown(url)}, expected https"
                )
                raise RegistryError(message)
        raise NetworkError(f"cannot get {shown(url)}: more than {_MAX_REDIRECTS} redirects")

    def _attempts(
        self, method: str, url: str, accept: str, body: Body | None
    ) -> urllib3.BaseHTTPResponse:
        settings = self._settings
        once = method not in _REPEATABLE or (body is not None and not isinstance(body.data, bytes))
        attempts = 1 if once else max(1, settings.attempts)
        attempt = 0
        while True:
            attempt += 1
            pause_s = settings.backoff_s * 2 ** (attempt - 1) * random.uniform(1, 2)  # noqa: S311 - jitter
            try:
                response = self._send(method, url, accept, body)
            except (HTTPError, OSError) as error:
                if attempt == attempts or is_certificate(error):
                    raise network_error(url, error) from error
            else:
                if attempt == attempts or response.status not in RETRIED_STATUSES:
                    return response
                pause_s = max(pause_s, _retry_after_s(response, settings.max_retry_after_s))
                _finish(response)
            try:
                time.sleep(min(pause_s, self._deadline.remaining_s()))
            except TimeoutError as error:
                raise network_error(url, error) from error

    def _send(
        self, method: str, url: str, accept: str, body: Body | None
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": "stack-composer"}
        if self._credential is not None and _origin(url) == _origin(self.origin):
            headers["Authorization"] = self._credential.basic
        if body is not None:
            headers["Content-Type"] = body.media_type
            headers["Content-Length"] = str(body.size_bytes)
        settings = self._settings
        return self._manager.request(
            method,
            url,
            body=None if body is None else _pieces(body, self._deadline),
            headers=headers,
            timeout=urllib3.Timeout(
                total=self._deadline.remaining_s(),
                connect=settings.connect_timeout_s,
                read=settings.read_timeout_s,
            ),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )


def _pieces(body: Body, deadline: Deadline) -> Iterator[bytes]:
    """Read a body as urllib3 sends it: as much as was announced, and only while there is time."""
    file = io.BytesIO(body.data) if isinstance(body.data, bytes) else body.data
    missing = body.size_bytes
    while missing:
        deadline.remaining_s()
        piece = file.read(min(_SEND_BYTES, missing))
        if not piece:
            message = f"cannot send {body.size_bytes} bytes: the source ends {missing} before"
            raise ContentError(message)
        yield piece
        missing -= len(piece)
        if body.progress is not None:
            body.progress(len(piece))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _finish(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back if nothing of the body is left, else close it."""
    if response.closed:
        response.release_conn()
    else:
        response.close()


def _retry_after_s(response: urllib3.BaseHTTPResponse, max_s: float) -> float:
    """Return the pause asked for in seconds; dates and nonsense count as none."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), max_s) if text.isascii() and text.isdigit() else 0


def _error_bytes(reply: Reply) -> bytes:
    """Read as much of an error's body as anyone needs."""
    data = bytearray()
    try:
        while piece := reply.read(_MAX_ERROR_BYTES - len(data)):
            data += piece
    except NetworkError:
        return b""
    return bytes(data)
