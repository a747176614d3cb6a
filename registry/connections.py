"""urllib3 connections that keep a deadline.

A time-out bounds one silence, so a server that sends a byte now and then would hold us for ever,
in the headers even before there is a response to close. Here every single read from the socket
looks at the deadline of the operation it belongs to.
"""

import io
import socket
import ssl
import urllib.request
from http.client import HTTPResponse
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import InsecureRequestWarning

from registry.cancelling import CURRENT, given_up_with
from registry.deadline import Deadline, Pace
from registry.errors import SettingsError
from registry.reading import open_regular
from registry.settings import HttpSettings
from registry.throttle import Throttle

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from registry.kept import KeptConnections


class _DeadlineReader(io.RawIOBase):
    """The reading side of a socket."""

    def __init__(
        self,
        connection: socket.socket,
        deadline: Deadline,
        pace: Pace,
        throttle: Throttle | None,
    ) -> None:
        super().__init__()
        # makefile() keeps the socket open for as long as a response still reads from it.
        self._raw = connection.makefile("rb", buffering=0)
        self._socket = connection
        self._deadline = deadline
        self._pace = pace
        self._throttle = throttle
        self._timeout_s = connection.gettimeout() or float("inf")
        self._cancellation = CURRENT.get()
        if self._cancellation is not None:
            self._cancellation.ends(connection)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        self._socket.settimeout(min(self._timeout_s, self._deadline.remaining_s()))
        if self._throttle is not None:
            buffer = memoryview(buffer)[: self._throttle.piece_bytes]
        try:
            count = self._raw.readinto(buffer)
        finally:
            # What is given up ends so, however the connection took it.
            if self._cancellation is not None:
                self._cancellation.check()
        self._pace.took(count or 0)
        if self._throttle is not None and (wait_s := self._throttle.took(count or 0)):
            self._deadline.pause(wait_s)
        return count

    def close(self) -> None:
        if not self.closed:
            if self._cancellation is not None:
                self._cancellation.leaves(self._socket)
            self._raw.close()
        super().close()


class _Arrived(io.BufferedReader):
    """Gives what has arrived: a break loses none of it."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        return self.readinto1(buffer)


def make_manager(url: str, settings: HttpSettings, kept: "KeptConnections") -> urllib3.PoolManager:
    """Make the pool that requests to an origin go through.

    Args:
        url: The origin.
        settings: Proxy, certificates, least speed.
        kept: Its deadline is looked at by every read, its limit kept to, its clock measures.

    Raises:
        SettingsError: A certificate or key file, or the proxy, can't be used.
    """

    class Response(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: object, **kwargs: object) -> None:
            super().__init__(sock, *args, **kwargs)  # type: ignore[arg-type]
            self.fp.close()
            pace = Pace(kept.timing, settings.read_timeout_s, settings.min_bytes_per_s)
            self.fp = _Arrived(_DeadlineReader(sock, kept.deadline, pace, kept.throttle))

    class Plain(HTTPConnection):
        answer: Response

        def response_class(self, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]  # noqa: ANN401 - http.client's
            """Keep the answer at hand, for ``body_of``."""
            self.answer = Response(*args, **kwargs)
            return self.answer

        def send(self, data: Any) -> None:  # noqa: ANN401 - http.client's
            """Send a piece: no longer than the operation has, and while it is wanted."""
            if self.sock is None:
                super().send(data)  # connects first, and says a few lines
                return
            remaining_s = kept.deadline.remaining_s()
            self.sock.settimeout(min(self.timeout or remaining_s, remaining_s))
            with given_up_with(self.sock):
                super().send(data)

    class Secure(Plain, HTTPSConnection):
        pass

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    options = {
        "num_pools": 4,
        "maxsize": 4,
        "retries": False,
        "ssl_context": _ssl_context(url, settings),
    }
    proxy = settings.proxy or _environment_proxy(url)
    manager: urllib3.PoolManager
    if proxy and not is_loopback(urlsplit(url).hostname or ""):
        _require_proxy(proxy)
        userinfo, at, host = urlsplit(proxy).netloc.rpartition("@")
        headers = urllib3.make_headers(proxy_basic_auth=userinfo) if at else None
        bare = proxy.replace(f"{userinfo}@{host}", host, 1) if at else proxy
        manager = urllib3.ProxyManager(bare, proxy_headers=headers, **options)  # type: ignore[arg-type]
    else:
        manager = urllib3.PoolManager(**options)  # type: ignore[arg-type]
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager


def body_of(response: urllib3.BaseHTTPResponse) -> HTTPResponse:
    """The body of an answer as the connection has it: urllib3 would copy what is read.

    Args:
        response: Of a pool of ``make_manager``; its connection was not given back.
    """
    return response.connection.answer  # type: ignore[union-attr,no-any-return]  # ours


def _require_proxy(proxy: str) -> None:
    try:
        parts = urlsplit(proxy)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = None
    if not sound:
        # Whatever is before the host may be a password.
        host = proxy.rpartition("@")[2]
        message = f"cannot use the proxy {host[:80]!r}: expected http://[USER:PASSWORD@]HOST:PORT"
        raise SettingsError(message)


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine by its spelling alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _ssl_context(url: str, settings: HttpSettings) -> ssl.SSLContext | None:
    files = [file for file in (settings.ca_file, settings.client_cert, settings.client_key) if file]
    if not files and not settings.insecure and url.startswith("http:"):
        # Reading the system's certificates takes 20 ms; urllib3 does it should TLS come up.
        return None
    try:
        for file in files:
            with open_regular(file):
                pass  # OpenSSL would wait for a FIFO's writer, and names no file
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.client_cert is not None:
            # Without a passphrase OpenSSL would ask the terminal for the one of an encrypted key.
            context.load_cert_chain(settings.client_cert, settings.client_key, password="")
    except (OSError, ValueError) as error:
        names = ", ".join(str(file) for file in files)
        message = f"cannot use TLS files {names}: {error}; expected PEM"
        raise SettingsError(message) from error
    if settings.insecure:
        # Whoever asked for this knows it; a warning per request would not say more.
        urllib3.disable_warnings(InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _environment_proxy(url: str) -> str:
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return ""
    return urllib.request.getproxies().get(parts.scheme, "")
