"""Credentials as values, and where they may come from."""

import base64
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and a password, or an identity token; shown by no ``repr``.

    Attributes:
        username: Empty where there is only an identity token.
        password: Or an access token that a registry takes for one.
        identity_token: An OAuth2 refresh token: the realm makes access tokens of it.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str | None:
        """The value of an ``Authorization`` header (RFC 7617); an identity token has none."""
        if self.identity_token:
            return None
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that nobody may be shown."""
        basic = (self.basic or "").removeprefix("Basic ")
        return tuple(text for text in (self.password, self.identity_token, basic) if text)


class CredentialSource(Protocol):
    """Where credentials come from."""

    def find(self, host: str, name: str) -> Credential | None:
        """Return the credential for a repository, or ``None`` to go without.

        Args:
            host: The registry's host with its port, as in the reference.
            name: The repository's path; empty for the registry as a whole.

        Raises:
            AuthenticationError: The place where credentials are kept cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials for anyone."""

    def find(self, host: str, name: str) -> Credential | None:  # noqa: ARG002 - the Protocol's
        """Return ``None``."""
        return None


@dataclass(frozen=True, slots=True)
class Given:
    """One credential, for one registry: what somebody is about to log in with."""

    host: str
    credential: Credential

    def find(self, host: str, name: str) -> Credential | None:  # noqa: ARG002 - the Protocol's
        """Return it to the registry it is for."""
        return self.credential if host == self.host else None
