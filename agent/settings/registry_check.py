"""What the config says of registries, proven before anything is looked up."""

import registry
from agent.errors import ConfigError
from agent.settings.config import DEFAULT, Config
from agent.settings.places import Places
from agent.settings.spelling import toml_text

_SAMPLE_ID = "org.example.hello"


def check_registries(config: Config, places: Places) -> None:
    """Prove that every registry base is one (contract §4), every host a host, every mirror one.

    Looking up an ID finds out too late, and a section for a host that nobody can name never
    counts.

    Raises:
        ConfigError: ``registry.default``, a namespace's base or the name of a section in
            ``registry.hosts`` is malformed, or a mirror in one.
    """
    bases = {"registry.default": config.registry.default}
    bases |= {f'registry.namespaces."{of}"': base for of, base in config.namespaces.items()}
    for key, base in bases.items():
        alone = registry.Bases(default=base, namespaces={}, home=places.home)
        try:
            registry.locate(_SAMPLE_ID, alone)
        except registry.ReferenceFormatError as error:
            raise ConfigError(
                f"cannot use {config.origins.get(key, DEFAULT)}: {key} is {toml_text(base)}, "
                f"expected HOST[:PORT][/PATH] or oci:DIR: {error.__cause__ or error}",
                hint=f"change {key}",
            ) from error
    for host, section in config.hosts.items():
        _check_host(config, host)
        for mirror in section.mirrors:
            _check_mirror(config, host, mirror)


def _check_host(config: Config, host: str) -> None:
    key = f'registry.hosts."{host}"'
    origin = next((o for k, o in config.origins.items() if k.startswith(key)), DEFAULT)
    try:
        spelled = registry.parse_host(host)
    except registry.ReferenceFormatError as error:
        raise ConfigError(
            f"cannot use {origin}: {key} names no host: {error}", hint=f"change {key}"
        ) from error
    if spelled != host:
        raise ConfigError(
            f"cannot use {origin}: {key} is never looked up, expected {toml_text(spelled)}",
            hint=f"change {key}",
        )


def _check_mirror(config: Config, host: str, mirror: str) -> None:
    key = f'registry.hosts."{host}".mirrors'
    try:
        place = registry.mirror_of(registry.HttpLocation(host, _SAMPLE_ID), mirror)
    except registry.ReferenceFormatError as error:
        raise ConfigError(
            f"cannot use {config.origins[key]}: {key} has {toml_text(mirror)}, "
            f"expected HOST[:PORT][/PATH]: {error}",
            hint=f"change {key}",
        ) from error
    if place.host == host and place.name == _SAMPLE_ID:
        raise ConfigError(
            f"cannot use {config.origins[key]}: {key} has {toml_text(mirror)}, the registry itself",
            hint=f"change {key}",
        )
