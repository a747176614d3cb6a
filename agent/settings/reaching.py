"""How registries are reached: the config's bases and hosts, credentials, kept connections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import registry
from agent.errors import NetworkError
from agent.files import Files
from agent.settings.config import Config
from agent.settings.places import Places
from agent.settings.schema import HostSection, local_path


@dataclass(slots=True)
class Registries:
    """What an installation knows of registries.

    Attributes:
        config: The config in force.
        unnamed: What holds for a host that the config does not name.
        home: What ``~`` in paths means.
        files: How things come to the disk.
        credentials: Whose requests these are.
        cache: Where blobs are kept.
        connections: Kept for as long as the installation is open.
    """

    config: Config
    unnamed: HostSection
    home: Path
    files: Files
    credentials: registry.CredentialFiles
    cache: registry.BlobCache
    connections: registry.KeptConnections

    @classmethod
    def of(
        cls,
        config: Config,
        unnamed: HostSection,
        places: Places,
        files: Files,
        environ: Mapping[str, str],
        registry_config: Sequence[Path],
    ) -> "Registries":
        """Wire them; nothing is read or asked yet."""
        credentials = registry.CredentialFiles.from_environment(
            environ, places.home, named=registry_config
        )
        most_bytes = config.registry.max_cache_bytes
        cache = registry.BlobCache(places.cache / "blobs", files, most_bytes)
        kept = registry.KeptConnections(max_bytes_per_s=config.network.max_bytes_per_s)
        return cls(config, unnamed, places.home, files, credentials, cache, kept)

    def bases(self) -> registry.Bases:
        """Where plugins named by ID are looked for."""
        return registry.Bases(
            default=self.config.registry.default,
            namespaces=self.config.namespaces,
            home=self.home,
            working_folder=Path.cwd(),
        )

    def settings_of(self, host: str) -> registry.HttpSettings:
        """How to speak with a host, ``HOST[:PORT]``: a registry, or where one sends us to."""
        section, network = self.config.hosts.get(host, self.unnamed), self.config.network
        settings = registry.HttpSettings(
            plain_http=section.plain_http,
            insecure=section.insecure,
            ca_file=optional_path(section.ca_file, self.home),
            client_cert=optional_path(section.client_cert, self.home),
            client_key=optional_path(section.client_key, self.home),
            proxy=network.proxy,
        )
        if network.max_bytes_per_s is None:
            return settings
        # Who is slow by our own limit is not given up: four connections may share it.
        least = min(settings.min_bytes_per_s, network.max_bytes_per_s / 8)
        return replace(settings, min_bytes_per_s=least)

    def require_online(self, what: str) -> None:
        """Refuse to use the network where the agent is offline.

        Raises:
            NetworkError: It is.
        """
        if self.config.network.offline:
            raise NetworkError(
                f"cannot reach {what}: offline",
                hint="leave out --offline, or set network.offline = false",
            )

    def open(
        self, location: registry.Location, *, sibling: registry.Location | None = None
    ) -> registry.Repository:
        """Open a repository with the settings of its host.

        Args:
            location: The repository.
            sibling: Another one that may hold what is going to be pushed.

        Raises:
            NetworkError: It is behind a network and the agent is offline.
        """
        if isinstance(location, registry.LayoutLocation):
            return registry.open_repository(location, files=self.files)
        self.require_online(location.text)
        return registry.open_repository(
            location,
            files=self.files,
            http=self.settings_of(location.host),
            credentials=self.credentials,
            connections=self.connections,
            others=self.settings_of,
            mirrors=self.config.hosts.get(location.host, self.unnamed).mirrors,
            sibling=sibling,
            cache=self.cache,
        )


def optional_path(text: str | None, home: Path) -> Path | None:
    """A path of the config; None where none was set."""
    return None if text is None else local_path(text, home)
