"""How often a request is sent, how long each may take, and by whose TLS settings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from registry.cancelling import check_cancelled
from registry.deadline import Pace
from registry.exchange import Body, Reply
from registry.failures import RETRIED_STATUSES, is_certificate, network_error
from registry.kept import KeptConnections
from registry.links import origin_of
from registry.settings import HttpSettings

SettingsOf = Callable[[str], HttpSettings]
"""How to speak with a host, ``HOST[:PORT]``."""


class Sender:
    """Sends single requests, to a registry and to where it sends us; knows no credentials.

    Args:
        origin: The registry's, as a URL.
        settings: Time-outs, certificates, proxy.
        connections: Where connections are kept.
        others: Settings of other hosts.
    """

    def __init__(
        self,
        origin: str,
        settings: HttpSettings,
        connections: KeptConnections,
        others: SettingsOf,
    ) -> None:
        self._origin = origin_of(origin)
        self._settings = settings
        self._connections = connections
        self._others = others
        self._manager(origin)  # settings that can't be used are told before any request

    @contextmanager
    def operation(self, transfer_bytes: int) -> Iterator[None]:
        """Bound what is done within, requests and pauses: more bytes may take longer."""
        settings = self._settings
        with self._connections.deadline.within(
            settings.total_timeout_s + transfer_bytes / settings.min_bytes_per_s
        ):
            yield

    def send(
        self, method: str, url: str, headers: dict[str, str], body: Body | None, attempts: int
    ) -> Reply:
        """Send a request, and again after a pause where that may help.

        Args:
            method: HTTP's.
            url: Whole; a redirect is an answer.
            headers: What is said beside the body's size.
            body: What is sent; from its beginning each time.
            attempts: How often at most.

        Raises:
            NetworkError: There was no answer.
        """
        attempt, asked_s = 0, 0.0
        while True:
            attempt += 1
            try:
                reply = self._send(method, url, headers, body)
            except (HTTPError, OSError) as error:
                if attempt >= attempts or is_certificate(error):
                    raise network_error(url, error) from error
            else:
                if attempt >= attempts or reply.status not in RETRIED_STATUSES:
                    return reply
                asked_s = _retry_after_s(reply, self._settings.max_retry_after_s)
                reply.finish()
            self.pause(url, attempt, asked_s=asked_s)

    def pause(self, url: str, failures: int, *, asked_s: float = 0.0) -> None:
        """Wait before the next attempt: longer each time, by chance, and as asked for.

        Args:
            url: For messages.
            failures: How many attempts failed, one after the other.
            asked_s: What the other side asked for.

        Raises:
            NetworkError: The operation has no time left.
        """
        pause_s = self._settings.backoff_s * 2 ** (failures - 1)
        pause_s *= self._connections.timing.uniform(1, 2)
        try:
            self._connections.deadline.pause(max(pause_s, asked_s))
        except TimeoutError as error:
            raise network_error(url, error) from error

    def _send(self, method: str, url: str, headers: dict[str, str], body: Body | None) -> Reply:
        check_cancelled()
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "stack-composer"}
        settings, deadline = self._settings, self._connections.deadline
        pieces = None
        if body is not None:
            sent["Content-Length"] = str(body.size_bytes)
            timing = self._connections.timing
            pace = Pace(timing, settings.read_timeout_s, settings.min_bytes_per_s)
            pieces = body.pieces(deadline, pace, self._connections.throttle)
        response = self._manager(url).request(
            method,
            url,
            body=pieces,
            headers=sent,
            timeout=urllib3.Timeout(
                total=deadline.remaining_s(),
                connect=settings.connect_timeout_s,
                read=settings.read_timeout_s,
            ),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )
        return Reply(url, response)

    def _manager(self, url: str) -> urllib3.PoolManager:
        """The pool for a URL; another host's settings are its own."""
        parts = urlsplit(url)
        is_ours = origin_of(url) == self._origin
        settings = self._settings if is_ours else self._others(parts.netloc)
        return self._connections.to(f"{parts.scheme}://{parts.netloc}", settings)


def _retry_after_s(reply: Reply, max_s: float) -> float:
    """Return the pause asked for in seconds; dates and nonsense count as none."""
    text = reply.header("Retry-After") or ""
    return min(float(text), max_s) if text.isascii() and text.isdigit() else 0
