"""How registries are reached: the config's bases and hosts."""

from pathlib import Path

import registry
from agent.config import Config
from agent.errors import NetworkError
from agent.schema import HostSection, local_path


def bases(config: Config, home: Path) -> registry.Bases:
    """Where plugins named by ID are looked for."""
    return registry.Bases(
        default=config.registry.default,
        namespaces=config.namespaces,
        home=home,
        working_folder=Path.cwd(),
    )


def http_settings(
    location: registry.HttpLocation, config: Config, unnamed: HostSection, home: Path
) -> registry.HttpSettings:
    """How to speak with the host of a repository.

    Args:
        location: The repository.
        config: The config in force.
        unnamed: What holds for a host that the config does not name.
        home: What ``~`` in paths means.

    Raises:
        NetworkError: The agent is offline.
    """
    if config.network.offline:
        raise NetworkError(
            f"cannot reach {location.text}: offline",
            hint="leave out --offline, or set network.offline = false",
        )
    host = config.hosts.get(location.host, unnamed)
    return registry.HttpSettings(
        plain_http=host.plain_http,
        insecure=host.insecure,
        ca_file=optional_path(host.ca_file, home),
        client_cert=optional_path(host.client_cert, home),
        client_key=optional_path(host.client_key, home),
        proxy=config.network.proxy,
    )


def optional_path(text: str | None, home: Path) -> Path | None:
    """A path of the config; None where none was set."""
    return None if text is None else local_path(text, home)
