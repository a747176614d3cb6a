"""Bearer tokens: what is asked of a realm, what it answers, and what is kept of that.

The distribution project's token authentication ("Token Authentication Specification", "OAuth2
Token Authentication"). The realm itself is asked by the transport.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from registry.auth import Credential
from registry.errors import AuthenticationError, ContentError, one_line
from registry.links import has_plain_host, origin_of, shown
from registry.strict_json import parse_object

MAX_ANSWER_BYTES = 256 << 10
CLIENT_ID = "stack-composer"
_DEFAULT_S = 60.0
_MAX_S = 24 * 3600.0
# A token that is about to expire could do so on its way.
_MARGIN_S = 10.0
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,65536}")
_SCOPE = re.compile(r"([^: \t]+):([^ \t]+):([A-Za-z*,]+)")
_MAX_SCOPES = 16


class NoTokenError(AuthenticationError):
    """A realm gives nobody a token: it may have moved."""


@dataclass(frozen=True, slots=True)
class Realm:
    """Where a registry's tokens come from.

    Attributes:
        url: As the challenge gave it.
        service: What the registry is called there; may be empty.
    """

    url: str
    service: str

    @classmethod
    def of(cls, parameters: Mapping[str, str], registry: str) -> "Realm":
        """Take the realm from a challenge, if it is one to be trusted with a credential.

        Args:
            parameters: The challenge's.
            registry: The URL of the registry that gave it.

        Raises:
            AuthenticationError: It is no URL, its host is not plain, or it is not https where
                the registry is.
        """
        url = parameters.get("realm", "").partition("#")[0]
        try:
            parts = urlsplit(url)
            _, is_plain = parts.port, has_plain_host(url)
        except ValueError:
            is_plain = False
        schemes = {"https", urlsplit(registry).scheme}
        if not is_plain or parts.scheme not in schemes:
            message = (
                f"cannot log in to {urlsplit(registry).netloc}: it sends us to "
                f"{one_line(url.partition('?')[0])!r} for a token, expected an https URL"
            )
            raise AuthenticationError(message)
        return cls(url, parameters.get("service", ""))


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked of a realm.

    Attributes:
        method: GET, or POST with a form.
        url: With the query, where it is a GET.
        authorization: The ``Authorization`` header, if there is one.
        form: The body of a POST.
    """

    method: str
    url: str
    authorization: str | None = field(repr=False)
    form: bytes | None = field(repr=False)

    @classmethod
    def of(
        cls, realm: Realm, scopes: Iterable[str], credential: Credential | None
    ) -> "TokenRequest":
        """Ask for a token with these scopes; a realm that gives less says so by a 401 later."""
        wanted = sorted(scopes)
        service = [("service", realm.service)] if realm.service else []
        if credential is not None and credential.identity_token:
            form = [
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT_ID),
                ("refresh_token", credential.identity_token),
                ("scope", " ".join(wanted)),
                *service,
            ]
            return cls("POST", realm.url, None, urlencode(form).encode())
        query = urlencode([*service, *(("scope", scope) for scope in wanted)])
        joint = "&" if urlsplit(realm.url).query else "?"
        basic = None if credential is None else credential.basic
        return cls("GET", f"{realm.url}{joint}{query}" if query else realm.url, basic, None)


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and until when it is sent.

    Attributes:
        text: What follows ``Bearer``.
        until_s: By the clock that read it.
    """

    text: str = field(repr=False)
    until_s: float

    @classmethod
    def parse(cls, raw: bytes, realm: str, now_s: float) -> "Token":
        """Read a realm's answer.

        Args:
            raw: The body; the caller has bounded its size.
            realm: For messages.
            now_s: When it was asked for, by the clock that is going to be looked at.

        Raises:
            AuthenticationError: There is no token in it.
        """
        try:
            document = parse_object(raw, f"the token of {shown(realm)}")
        except ContentError as error:
            raise AuthenticationError(str(error)) from error
        text = document.get("token") or document.get("access_token")
        # Anything else could end the header that it is put into.
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            message = f"cannot log in at {shown(realm)}: its answer holds no token"
            raise AuthenticationError(message)
        said, lasts_s = document.get("expires_in"), _DEFAULT_S
        if isinstance(said, int | float) and not isinstance(said, bool) and said > 0:
            lasts_s = min(said, _MAX_S)  # before it is a float: JSON has longer numbers
        return cls(text, now_s + lasts_s - min(_MARGIN_S, lasts_s / 10))


_Key = tuple[object, Realm, frozenset[str], Credential | None]


class KeptTokens:
    """Tokens by origin, realm, service, scope and whose they are; and the realms of origins.

    Any thread may use it. One that needs a token that another is getting waits for that one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._getting: dict[_Key, threading.Lock] = {}
        self._tokens: dict[_Key, Token] = {}
        self._realms: dict[object, Realm] = {}

    def realm_of(self, registry: str) -> Realm | None:
        """The realm that a registry has named before."""
        return self._realms.get(origin_of(registry))

    def set_realm(self, registry: str, realm: Realm) -> None:
        """Remember the realm that a registry named."""
        self._realms[origin_of(registry)] = realm

    def forget_realm(self, registry: str) -> None:
        """Forget the realm of a registry."""
        self._realms.pop(origin_of(registry), None)

    def get(
        self,
        registry: str,
        realm: Realm,
        scopes: frozenset[str],
        credential: Credential | None,
        *,
        spent: str | None,
        now_s: Callable[[], float],
        ask: Callable[[], Token],
    ) -> Token:
        """Return a token that lasts, got anew where none is kept.

        Args:
            registry: Whose token: its origin counts.
            realm: Where it comes from.
            scopes: What it is for.
            credential: Whose it is.
            spent: A token that was refused.
            now_s: The clock.
            ask: Asks the realm.
        """
        key = origin_of(registry), realm, scopes, credential
        with self._lock:
            getting = self._getting.setdefault(key, threading.Lock())
        with getting:
            token = self._tokens.get(key)
            if token is None or token.text == spent or token.until_s <= now_s():
                token = self._tokens[key] = ask()
        return token


def merged(scopes: Iterable[str]) -> frozenset[str]:
    """Bring scopes to one for each resource, with all of its actions in order."""
    actions: dict[tuple[str, str], set[str]] = {}
    for scope in scopes:
        if (parts := _SCOPE.fullmatch(scope)) and len(actions) < _MAX_SCOPES:
            words = {word for word in parts[3].split(",") if word}
            actions.setdefault((parts[1], parts[2]), set()).update(words)
    return frozenset(
        f"{kind}:{name}:{','.join(sorted(words))}" for (kind, name), words in actions.items()
    )
