"""The global flags that lie over the config (contract §7), laid over it; pure."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from agent.settings.config import Config


def laid_over(
    config: Config, *, offline: bool, base: str | None, every_host: Mapping[str, Any]
) -> Config:
    """The config that is in force with the flags; they are the origins of what they set.

    Args:
        config: What files and variables say.
        offline: ``--offline``.
        base: ``--registry``, which stands for the default and every namespace.
        every_host: What flags say of every host, by the key of ``[registry.hosts."…"]``; told of
            the hosts that the config names.
    """
    changes: dict[str, Any] = {}
    origins = dict(config.origins)
    if offline:
        changes["network"] = replace(config.network, offline=True)
        origins["network.offline"] = "--offline"
    if base is not None:
        changes["registry"] = replace(config.registry, default=base)
        changes["namespaces"] = MappingProxyType({})
        origins["registry.default"] = "--registry"
    hosts = {host: replace(section, **every_host) for host, section in config.hosts.items()}
    for name in every_host:
        flag = f"--{name.replace('_', '-')}"
        origins |= {f'registry.hosts."{host}".{name}': flag for host in hosts}
    return replace(config, hosts=hosts, origins=origins, **changes)
