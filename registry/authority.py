"""What to say who we are: the ``Authorization`` of each request to one repository's registry."""

from collections.abc import Callable

from registry.auth import Credential
from registry.challenge import parse_challenges
from registry.errors import NetworkError
from registry.tokens import KeptTokens, NoTokenError, Realm, Token, TokenRequest, merged

_BEARER = "Bearer "


class Authority:
    """See the module; blobs that go over side by side share one.

    Args:
        registry: The registry's origin, as a URL.
        name: The repository; empty for the registry as a whole.
        sibling: Another one that blobs may be mounted from in a push.
        credential: Whose requests these are; ``None``: nobody's.
        kept: Tokens, shared by all repositories.
        clock: Monotonic seconds.
        ask: Sends a request to a realm and returns the body of its answer.
    """

    def __init__(
        self,
        registry: str,
        name: str,
        credential: Credential | None,
        kept: KeptTokens,
        clock: Callable[[], float],
        ask: Callable[[TokenRequest], bytes],
        sibling: str | None = None,
    ) -> None:
        self._registry = registry
        self._credential = credential
        self._kept = kept
        self._clock = clock
        self._ask = ask
        self._tokens: set[str] = set()
        pull, push = [], list[str]()
        if name:
            pull, push = [f"repository:{name}:pull"], [f"repository:{name}:pull,push"]
        if sibling is not None:
            push.append(f"repository:{sibling}:pull")
        self._scopes = {False: merged(pull), True: merged(push)}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        known = () if self._credential is None else self._credential.secrets
        return (*known, *self._tokens.copy())

    def header(self, *, writes: bool) -> str | None:
        """What to send before anything was asked.

        Args:
            writes: The operation is part of a push, so that one token will do for all of it.

        Raises:
            RegistryError: The realm gives no token.
        """
        realm = self._kept.realm_of(self._registry)
        if realm is not None:
            try:
                return self._bearer(realm, writes=writes, spent=None)
            except (NetworkError, NoTokenError):
                # It may have moved: the registry's next challenge says where to.
                self._kept.forget_realm(self._registry)
        return None if self._credential is None else self._credential.basic

    def answer(self, challenges: str, *, sent: str | None, writes: bool) -> str | None:
        """What to send after a 401; ``None``: nothing that was not sent before.

        Args:
            challenges: The ``WWW-Authenticate`` header.
            sent: The ``Authorization`` that was refused.
            writes: As for ``header``.

        Raises:
            RegistryError: The realm is not to be trusted, or gives no token.
        """
        asked = {one.scheme: one for one in reversed(parse_challenges(challenges))}
        header: str | None = None
        if (bearer := asked.get("bearer")) is not None:
            realm = Realm.of(bearer.parameters, self._registry)
            self._kept.set_realm(self._registry, realm)
            wanted = merged([*self._scopes[writes], *bearer.parameters.get("scope", "").split()])
            self._scopes[writes] = wanted
            spent = (sent or "").removeprefix(_BEARER)
            header = self._bearer(realm, writes=writes, spent=spent)
        elif self._credential is not None and "basic" in asked:
            header = self._credential.basic
        return None if header == sent else header

    def _bearer(self, realm: Realm, *, writes: bool, spent: str | None) -> str:
        scopes = self._scopes[writes]

        def ask() -> Token:
            now_s = self._clock()
            raw = self._ask(TokenRequest.of(realm, scopes, self._credential))
            return Token.parse(raw, realm.url, now_s)

        token = self._kept.get(
            self._registry,
            realm,
            scopes,
            self._credential,
            spent=spent,
            now_s=self._clock,
            ask=ask,
        )
        self._tokens.add(token.text)
        return _BEARER + token.text
