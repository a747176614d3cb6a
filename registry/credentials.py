"""Which files hold this user's credentials, and in which order they are asked.

The files that were named, ``$REGISTRY_AUTH_FILE``, docker's ``config.json``, containers'
``auth.json``: the first that has one for the repository wins. ``~/.netrc`` is not read.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.auth import Credential
from registry.docker_config import DockerConfig, ask_helper

_KEPT_S = 60.0


class _HelpersAsked:
    """Answers of helpers, kept for a minute: each is a process, and a run asks for each plugin."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, Credential | None]] = {}

    def __call__(self, name: str, server: str) -> Credential | None:
        with self._lock:
            asked_s, credential = self._kept.get((name, server), (float("-inf"), None))
            if self._clock() - asked_s >= _KEPT_S:
                credential = ask_helper(name, server)
                self._kept[name, server] = (self._clock(), credential)
        return credential


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """See the module.

    Attributes:
        files: In the order in which they are asked.
    """

    files: tuple[DockerConfig, ...]

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        *,
        named: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> "CredentialFiles":
        """Find the files as docker and podman do.

        Args:
            environment: ``REGISTRY_AUTH_FILE``, ``DOCKER_CONFIG``, ``XDG_RUNTIME_DIR`` and
                ``XDG_CONFIG_HOME`` count; ``None``: the process's.
            home: The user's folder; ``None``: the process's.
            named: Files that come before all others.
            clock: Monotonic seconds: what helpers answered is kept for a minute.
        """
        environment = os.environ if environment is None else environment
        home = Path.home() if home is None else home
        variable = environment.get("REGISTRY_AUTH_FILE")
        docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker")
        config_home = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        runtime = environment.get("XDG_RUNTIME_DIR")
        paths = [
            *named,
            *([Path(variable)] if variable else []),
            docker / "config.json",
            *([Path(runtime) / "containers" / "auth.json"] if runtime else []),
            config_home / "containers" / "auth.json",
        ]
        ask = _HelpersAsked(clock)
        return cls(tuple(DockerConfig(path, ask) for path in paths))

    @property
    def first(self) -> DockerConfig:
        """Where login and logout write: what is there wins over all others."""
        return self.files[0]

    def find(self, host: str, name: str) -> Credential | None:
        """Return the credential of the first file that has one for the repository.

        Raises:
            AuthenticationError: A file can't be read, or a helper fails.
        """
        found = (file.find(host, name) for file in self.files)
        return next((credential for credential in found if credential is not None), None)
