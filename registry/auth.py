"""Credentials: nobody's, or those that ``docker login`` and ``podman login`` keep in a file."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from registry.errors import AuthenticationError, ContentError
from registry.reading import open_regular
from registry.strict_json import parse_object

_MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and a password; shown by no ``repr``."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


class CredentialSource(Protocol):
    """Where credentials come from."""

    def find(self, host: str, name: str) -> Credential | None:
        """Return the credential for a repository, or ``None`` to go without.

        Args:
            host: The registry's host with its port, as in the reference.
            name: The repository's path.

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
class DockerConfig:
    """The ``auths`` of a docker ``config.json``; read when asked, at most 1 MiB.

    Attributes:
        path: The file; one that is missing holds nothing.
    """

    path: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "DockerConfig":
        """Find the file as docker does: in ``$DOCKER_CONFIG``, else in ``~/.docker``."""
        environment = os.environ if environment is None else environment
        folder = environment.get("DOCKER_CONFIG")
        return cls((Path(folder) if folder else Path.home() / ".docker") / "config.json")

    def find(self, host: str, name: str) -> Credential | None:
        """Return the credential whose key is the longest whole-segment prefix of ``host/name``.

        Raises:
            AuthenticationError: The file can't be read, or the entry that fits is malformed.
        """
        try:
            with open_regular(self.path) as file:
                raw = file.read(_MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"cannot read credentials from {self.path}: {error.strerror}"
            raise AuthenticationError(message) from error
        if len(raw) > _MAX_CONFIG_BYTES:
            message = f"cannot read credentials from {self.path}: it is larger than 1 MiB"
            raise AuthenticationError(message)
        try:
            auths = parse_object(raw, str(self.path)).get("auths")
        except ContentError as error:
            raise AuthenticationError(str(error)) from error
        if not isinstance(auths, dict):
            return None
        entries = {_scope(key): entry for key, entry in auths.items()}
        scope = f"{host}/{name}"
        while scope:
            # An entry without a secret is docker's note that a helper holds it.
            if (entry := entries.get(scope)) and (credential := self._credential(scope, entry)):
                return credential
            scope = scope.rpartition("/")[0]
        return None

    def _credential(self, scope: str, entry: object) -> Credential | None:
        if isinstance(entry, dict):
            auth, username, password = (entry.get(key) for key in ("auth", "username", "password"))
            if isinstance(username, str) and username and isinstance(password, str):
                return Credential(username, password)
            if not auth:
                return None
            if isinstance(auth, str) and (credential := _decode(auth)):
                return credential
        message = (
            f"cannot read credentials for {scope} from {self.path}: expected auth = "
            f"base64 of user:password; log in again"
        )
        raise AuthenticationError(message)


def _decode(auth: str) -> Credential | None:
    try:
        pair = base64.b64decode(auth, validate=True).decode("utf-8")
    except ValueError:
        return None
    username, colon, password = pair.partition(":")
    # docker pads what it writes with NUL.
    return Credential(username, password.rstrip("\0")) if colon else None


def _scope(key: str) -> str:
    """Bring a key of ``auths`` to ``host[/path]``: old ones are URLs of an API."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, path = key.partition("/")
    return host if path in {"v1", "v2"} else f"{host}{slash}{path}"
