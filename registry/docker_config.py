"""The files in which docker and podman keep credentials: read, and changed by login and logout.

``auths`` holds credentials by registry or path, ``credHelpers`` names the helper of one registry,
``credsStore`` that of all others. What else stands in such a file is kept as it is.
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.auth import Credential
from registry.errors import AuthenticationError, BusyError, ContentError
from registry.helpers import Helper
from registry.links import hosts_of, server_of
from registry.reading import open_regular
from registry.repository import Files
from registry.strict_json import parse_object

_MAX_CONFIG_BYTES = 1 << 20
_LOCK_TIMEOUT_S = 30


def ask_helper(name: str, server: str) -> Credential | None:
    """Run a helper; see ``Helper.get``."""
    return Helper(name).get(server)


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """A docker ``config.json`` or a containers' ``auth.json``; read when asked, at most 1 MiB.

    Attributes:
        path: The file; one that is missing holds nothing.
        ask: Gets a credential from the helper of a name, for a server.
    """

    path: Path
    ask: Callable[[str, str], Credential | None] = ask_helper

    def find(self, host: str, name: str) -> Credential | None:
        """Return the credential whose key is the longest whole-segment prefix of ``host/name``.

        Of a key's places a helper comes before the file itself, and ``credsStore`` is asked for
        whole registries only: that is all that docker tells it.

        Raises:
            AuthenticationError: The file can't be read, the entry that fits is malformed, or a
                helper fails.
        """
        document = self._read()
        if not document:
            return None
        entries = {_scope(key): entry for key, entry in _table(document, "auths").items()}
        helpers = {_scope(key): helper for key, helper in _table(document, "credHelpers").items()}
        for scope in _scopes(host, name):
            helper = helpers.get(scope)
            if not isinstance(helper, str):
                helper = _store(document) if scope in hosts_of(host) else None
            if helper and (credential := self.ask(helper, server_of(scope))):
                return credential
            # An entry without a secret is docker's note that a helper holds it.
            if (entry := entries.get(scope)) and (credential := self._credential(scope, entry)):
                return credential
        return None

    def store(self, host: str, credential: Credential, files: Files) -> str:
        """Keep a credential for a registry, through its helper where one is named.

        Args:
            host: The registry.
            credential: What to keep.
            files: How the file comes to the disk.

        Returns:
            Where it is now: the file, or the helper's program.

        Raises:
            AuthenticationError: The file can't be read, or the helper fails.
            BusyError: Other processes change the file all the time.
            OSError: It can't be written.
        """
        helper = self._helper_of(self._read(), host)
        entry: dict[str, object] = {}
        if helper is not None:
            helper.store(server_of(host), credential)
        else:
            pair = f"{credential.username}:{credential.password}".encode()
            entry["auth"] = base64.b64encode(pair).decode("ascii")
            if credential.identity_token:
                entry["identitytoken"] = credential.identity_token
        with self._changing(files) as document:
            auths = {**_others(document, host), server_of(host): entry}
            self._write({**document, "auths": auths}, files)
        return str(self.path) if helper is None else f"docker-credential-{helper.name}"

    def erase(self, host: str, files: Files) -> bool:
        """Forget the credential for a registry, also in its helper; those for paths stay.

        Returns:
            Whether there was one in the file, or a helper was told.

        Raises:
            AuthenticationError: The file can't be read, or the helper fails.
            BusyError: Other processes change the file all the time.
            OSError: It can't be written.
        """
        document = self._read()
        helper = self._helper_of(document, host)
        in_file = len(_others(document, host)) != len(_table(document, "auths"))
        in_helper = False
        if helper is not None:
            in_helper = helper.get(server_of(host)) is not None
            helper.erase(server_of(host))
        if in_file:
            with self._changing(files) as document:
                self._write({**document, "auths": _others(document, host)}, files)
        return in_file or in_helper

    def helper_of(self, host: str) -> str | None:
        """The name of the helper that keeps credentials for a registry, if there is one."""
        helper = self._helper_of(self._read(), host)
        return None if helper is None else helper.name

    def _helper_of(self, document: dict[str, object], host: str) -> Helper | None:
        helpers = {_scope(key): helper for key, helper in _table(document, "credHelpers").items()}
        for name in hosts_of(host):
            if isinstance(helper := helpers.get(name), str):
                return Helper(helper)
        store = _store(document)
        return None if store is None else Helper(store)

    def _read(self) -> dict[str, object]:
        try:
            with open_regular(self.path) as file:
                raw = file.read(_MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            message = f"cannot read credentials from {self.path}: {error.strerror}"
            raise AuthenticationError(message) from error
        if len(raw) > _MAX_CONFIG_BYTES:
            message = f"cannot read credentials from {self.path}: it is larger than 1 MiB"
            raise AuthenticationError(message)
        try:
            return parse_object(raw, str(self.path))
        except ContentError as error:
            raise AuthenticationError(str(error)) from error

    @contextmanager
    def _changing(self, files: Files) -> Iterator[dict[str, object]]:
        """What is in the file, which no other login changes meanwhile."""
        path = self._target
        files.make_folder(path.parent)
        try:
            with files.lock(path.with_name(f".{path.name}.lock"), timeout_s=_LOCK_TIMEOUT_S):
                yield self._read()
        except TimeoutError as error:
            message = f"cannot change {self.path}: another process is at it; try again"
            raise BusyError(message) from error

    def _write(self, document: dict[str, object], files: Files) -> None:
        data = json.dumps(document, indent="\t").encode() + b"\n"
        files.write_atomic(self._target, data, mode=0o600)

    @property
    def _target(self) -> Path:
        """Behind a link, such as those of people who keep their settings in a repository."""
        return self.path.resolve()

    def _credential(self, scope: str, entry: object) -> Credential | None:
        if isinstance(entry, dict):
            auth, username, password = (entry.get(key) for key in ("auth", "username", "password"))
            token = entry.get("identitytoken")
            if isinstance(token, str) and token:
                return Credential(identity_token=token)
            if isinstance(username, str) and username and isinstance(password, str):
                return Credential(username, password)
            if not auth:
                return None
            if isinstance(auth, str) and (credential := _decode(auth)):
                return credential
        message = (
            f"cannot read credentials for {scope} from {self.path}: expected auth = "
            f"base64 of user:password; agent login {scope.partition('/')[0]} writes it anew"
        )
        raise AuthenticationError(message)


def _table(document: dict[str, object], key: str) -> dict[str, object]:
    table = document.get(key)
    return table if isinstance(table, dict) else {}


def _others(document: dict[str, object], host: str) -> dict[str, object]:
    """The entries of ``auths`` that are not for a registry as a whole."""
    auths = _table(document, "auths")
    return {key: value for key, value in auths.items() if _scope(key) not in hosts_of(host)}


def _store(document: dict[str, object]) -> str | None:
    store = document.get("credsStore")
    return store if isinstance(store, str) and store else None


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


def _scopes(host: str, name: str) -> list[str]:
    """The keys that can hold a repository's credential, the most special first."""
    parts = name.split("/") if name else []
    paths = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    scopes = [f"{alias}/{path}" for path in paths for alias in hosts_of(host)]
    return [*scopes, *hosts_of(host)]
