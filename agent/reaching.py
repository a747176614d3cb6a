"""How registries are reached: the config's bases and hosts, and the flags that lie over them."""

from pathlib import Path
from typing import TYPE_CHECKING

import registry
from agent.config import Config
from agent.errors import NetworkError
from agent.schema import HostSection, local_path

if TYPE_CHECKING:
    from agent.context import Options


def bases(config: Config, options: "Options", home: Path) -> registry.Bases:
    """Where plugins named by ID are looked for; ``--registry`` replaces the config's."""
    base = options.registry
    return registry.Bases(
        default=base or config.registry.default,
        namespaces={} if base else config.namespaces,
        home=home,
        working_folder=Path.cwd(),
    )


def http_settings(
    location: registry.HttpLocation, config: Config, options: "Options", home: Path
) -> registry.HttpSettings:
    """How to speak with the host of a repository.

    Raises:
        NetworkError: The agent is offline.
    """
    if options.offline or config.network.offline:
        raise NetworkError(
            f"cannot reach {location.text}: offline",
            hint="leave out --offline, or set network.offline = false",
        )
    host = config.hosts.get(location.host, HostSection())
    return registry.HttpSettings(
        plain_http=True if options.plain_http else host.plain_http,
        insecure=options.insecure or host.insecure,
        ca_file=options.ca_file or optional_path(host.ca_file, home),
        client_cert=optional_path(host.client_cert, home),
        client_key=optional_path(host.client_key, home),
        proxy=config.network.proxy,
    )


def optional_path(text: str | None, home: Path) -> Path | None:
    """A path of the config; None where none was set."""
    return None if text is None else local_path(text, home)
