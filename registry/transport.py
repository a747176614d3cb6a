"""To whom a request goes: redirects, challenges, and who may see the credentials.

What is above says what to ask and what the answer must look like; how often and how long is
``sending``'s.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from registry.auth import Credential
from registry.authority import Authority
from registry.connections import is_loopback
from registry.errors import AuthenticationError, ContentError, NetworkError, RegistryError
from registry.exchange import Body, Reply
from registry.failures import status_error
from registry.kept import KeptConnections
from registry.links import api_host, follow, origin_of, shown
from registry.sending import Sender, SettingsOf
from registry.settings import HttpSettings
from registry.tokens import MAX_ANSWER_BYTES, NoTokenError, TokenRequest

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE"}
# Basic may be answered by a challenge for a token, and that token by one for a wider scope.
_MAX_CHALLENGES = 2


class Transport:
    """HTTP to one repository's registry and to where it sends us.

    Args:
        host: The registry's host with its port.
        name: The repository; empty for the registry as a whole.
        settings: Time-outs, certificates, proxy.
        credential: Sent to this registry's own origin, to its realm, and nowhere else.
        connections: Shared with others; None = its own, which end with it.
        others: Settings of other hosts; ``None``: the registry's, without what is its alone.
        sibling: Another repository of it that blobs may be mounted from.
    """

    def __init__(
        self,
        host: str,
        name: str,
        settings: HttpSettings,
        credential: Credential | None,
        connections: KeptConnections | None = None,
        others: SettingsOf | None = None,
        sibling: str | None = None,
    ) -> None:
        plain = settings.plain_http
        if plain is None:
            plain = is_loopback(urlsplit(f"//{host}").hostname or "")
        self.host = host
        self.origin = f"{'http' if plain else 'https'}://{api_host(host)}"
        self._settings = settings
        self._connections = connections or KeptConnections()
        self._shares = connections is not None
        self._sender = Sender(
            self.origin,
            settings,
            self._connections,
            others or (lambda _: settings.elsewhere()),
        )
        self._authority = Authority(
            self.origin,
            name,
            credential,
            self._connections.tokens,
            self._connections.timing.clock,
            self._ask_realm,
            sibling,
        )

    def close(self) -> None:
        """Close idle connections, unless others share them."""
        if not self._shares:
            self._connections.close()

    def operation(self, transfer_bytes: int) -> AbstractContextManager[None]:
        """Bound what is done within, requests and pauses: more bytes may take longer."""
        return self._sender.operation(transfer_bytes)

    def pause(self, url: str, failures: int) -> None:
        """Wait before the next attempt; see ``Sender.pause``."""
        self._sender.pause(urljoin(self.origin, url), failures)

    @property
    def attempts(self) -> int:
        """How often something is tried that does not get on."""
        return self._settings.attempts

    def get(
        self,
        url: str,
        *,
        accept: str,
        max_bytes: int,
        what: str,
        transfer_bytes: int = 0,
        writes: bool = False,
    ) -> tuple[bytes, Mapping[str, str]]:
        """Fetch a document, again if its transfer breaks.

        Args:
            url: See ``request``.
            accept: See ``request``.
            max_bytes: How large it may be.
            what: How messages call it.
            transfer_bytes: See ``request``.
            writes: See ``request``.

        Returns:
            Its bytes, and the answer's headers.

        Raises:
            ContentError: It is larger.
            RegistryError: See ``request``.
        """
        failures = 0
        with self.operation(transfer_bytes):
            while True:
                with self.request(
                    "GET", url, accept=accept, writes=writes, transfer_bytes=max_bytes
                ) as reply:
                    try:
                        return reply.read_all(max_bytes, what), reply.response.headers
                    except NetworkError:
                        failures += 1
                        if failures >= self.attempts:
                            raise
                self.pause(reply.url, failures)

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        expected: tuple[int, ...] = (HTTPStatus.OK,),
        accept: str = "*/*",
        body: Body | None = None,
        headers: dict[str, str] | None = None,
        writes: bool = False,
        transfer_bytes: int = 0,
        attempts: int | None = None,
    ) -> Iterator[Reply]:
        """Send a request, again if that may help, and yield the answer.

        Args:
            method: GET, HEAD, POST, PUT, PATCH or DELETE.
            url: A path on the registry, or a whole URL that it gave.
            expected: The statuses that are an answer.
            accept: The ``Accept`` header.
            body: What to send.
            headers: More of them.
            writes: It is part of a push.
            transfer_bytes: How many bytes are going to be sent or received: more take longer.
            attempts: How often at most; ``None``: as the settings say, where it may be repeated.

        Yields:
            The answer. Its connection is used again only if its body was read to the end.

        Raises:
            AuthenticationError: 401, 403, or no token to be had.
            NotFoundError: 404.
            NetworkError: No answer in time, a broken connection, 408, 429 or 5xx after all
                attempts.
            ContentError: The registry calls what we sent invalid, or encoded what it sent.
            RegistryError: Any other status, or a redirect that must not be followed.
        """
        sent = {"Accept": accept, **(headers or {})}
        if body is not None:
            sent |= {"Content-Type": body.media_type, **dict(body.headers)}
        if attempts is None:
            attempts = self._settings.attempts if method in _IDEMPOTENT else 1
        url = urljoin(self.origin, url)
        try:
            with self.operation(transfer_bytes):
                reply = self._authorized(method, url, sent, body, attempts, writes=writes)
                try:
                    self._require(method, reply, expected)
                    yield reply
                finally:
                    reply.finish()
        except RegistryError as error:
            # A registry may put into its texts and links what we sent it.
            error.hide(self._authority.secrets)
            raise

    def _require(self, method: str, reply: Reply, expected: tuple[int, ...]) -> None:
        if reply.status not in expected:
            raise self._refused(method, reply)
        if (reply.header("Content-Encoding") or "identity").lower() != "identity":
            message = (
                f"cannot accept {shown(reply.url)}: got it compressed, which was not asked for"
            )
            raise ContentError(message)

    def _authorized(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Body | None,
        attempts: int,
        *,
        writes: bool,
    ) -> Reply:
        """Send it as whom it concerns; what the registry then asks for is given once."""
        is_ours = self._is_ours(url)
        said = self._authority.header(writes=writes) if is_ours else None
        for _ in range(_MAX_CHALLENGES):
            reply = self._follow(method, url, headers, body, attempts, said)
            # A 401 from elsewhere is no challenge to us.
            is_challenge = is_ours and self._is_ours(reply.url)
            if reply.status != HTTPStatus.UNAUTHORIZED or not is_challenge:
                return reply
            challenges = reply.header("WWW-Authenticate") or ""
            try:
                answer = self._authority.answer(challenges, sent=said, writes=writes)
            except RegistryError:
                reply.finish()
                raise
            if answer is None:
                return reply
            reply.error_bytes()
            reply.finish()
            said = answer
        return self._follow(method, url, headers, body, attempts, said)

    def _follow(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Body | None,
        attempts: int,
        authorization: str | None,
    ) -> Reply:
        for _ in range(_MAX_REDIRECTS + 1):
            said = {"Authorization": authorization} if authorization and self._is_ours(url) else {}
            reply = self._sender.send(method, url, {**headers, **said}, body, attempts)
            target = reply.header("Location")
            if reply.status not in _REDIRECTS or target is None or method not in {"GET", "HEAD"}:
                return reply
            reply.finish()
            url = follow(url, target)
        raise NetworkError(f"cannot get {shown(url)}: more than {_MAX_REDIRECTS} redirects")

    def _ask_realm(self, asked: TokenRequest) -> bytes:
        """Ask for a token. A redirect is not followed: the credential is for this realm alone."""
        headers = {"Accept": "application/json"}
        if asked.authorization is not None:
            headers["Authorization"] = asked.authorization
        body = None
        if asked.form is not None:
            media_type = "application/x-www-form-urlencoded"
            headers["Content-Type"] = media_type
            body = Body(media_type, asked.form, len(asked.form))
        reply = self._sender.send(asked.method, asked.url, headers, body, self._settings.attempts)
        try:
            if reply.status == HTTPStatus.OK:
                return reply.read_all(MAX_ANSWER_BYTES, f"the token of {shown(asked.url)}")
            error = self._refused(asked.method, reply)
            if isinstance(error, NetworkError | AuthenticationError):
                raise error
            raise NoTokenError(str(error)) from error
        finally:
            reply.finish()

    def _refused(self, method: str, reply: Reply) -> RegistryError:
        body = reply.error_bytes()
        return status_error(method, reply.url, reply.status, body=body, host=self.host)

    def _is_ours(self, url: str) -> bool:
        return origin_of(url) == origin_of(self.origin)
