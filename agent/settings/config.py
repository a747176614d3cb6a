"""Reading ``plugin-host.toml`` and the environment into one frozen ``Config`` (contract §1, §6).

Precedence, key by key: environment, user file, system file, default (flags are applied by the
command line). Every value remembers its origin. An unknown key or value is an error that
names file, key, what was got and what is allowed.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli

from agent.errors import ConfigError
from agent.reading import read_start
from agent.settings.kinds import Kind
from agent.settings.places import Places
from agent.settings.schema import (
    LATER_SECTIONS,
    SECTIONS,
    CapabilitiesSection,
    ControlSection,
    HooksSection,
    HostSection,
    LimitsSection,
    NetworkSection,
    PathsSection,
    PluginLimitsSection,
    PluginSection,
    RegistrySection,
    SandboxSection,
    TelemetrySection,
    UpdateSection,
    kinds,
    local_path,
)
from agent.settings.spelling import toml_text

_LOG = logging.getLogger("stack_composer.config")
_MAX_CONFIG_BYTES = 1 << 20
_PREFIX = "STACK_COMPOSER_"
_PLACES = frozenset({f"{_PREFIX}HOME", f"{_PREFIX}CONFIG"})
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Config:
    """Every value in force. ``origins`` maps a dotted key to a file, a variable or "default"."""

    limits: LimitsSection = field(default_factory=LimitsSection)
    paths: PathsSection = field(default_factory=PathsSection)
    registry: RegistrySection = field(default_factory=RegistrySection)
    update: UpdateSection = field(default_factory=UpdateSection)
    capabilities: CapabilitiesSection = field(default_factory=CapabilitiesSection)
    network: NetworkSection = field(default_factory=NetworkSection)
    sandbox: SandboxSection = field(default_factory=SandboxSection)
    telemetry: TelemetrySection = field(default_factory=TelemetrySection)
    control: ControlSection = field(default_factory=ControlSection)
    hooks: HooksSection = field(default_factory=HooksSection)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, HostSection] = field(default_factory=dict)
    plugins: Mapping[str, PluginSection] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def plugin(self, plugin_id: str) -> PluginSection:
        """The operator's section for a plugin; the defaults where there is none."""
        return self.plugins.get(plugin_id, PluginSection())

    def mode(self, plugin_id: str) -> str:
        """How the service updates a plugin: auto, notify or manual."""
        return self.plugin(plugin_id).mode or self.update.mode

    def effective(self) -> Iterator[tuple[str, object, str]]:
        """Every key with its value and its origin, in file order."""
        for section in SECTIONS:
            values = getattr(self, section)
            for name in kinds(type(values)):
                key = f"{section}.{name}"
                yield key, getattr(values, name), self.origins.get(key, DEFAULT)
        for pattern, base in self.namespaces.items():
            key = f'registry.namespaces."{pattern}"'
            yield key, base, self.origins[key]
        for table, sections in (("registry.hosts", self.hosts), ("plugins", self.plugins)):
            for owner, section_values in sections.items():
                yield from self._quoted(f'{table}."{owner}"', section_values)

    def _quoted(self, prefix: str, section: object) -> Iterator[tuple[str, object, str]]:
        for item in fields(section):  # type: ignore[arg-type]  # always one of our dataclasses
            key = f"{prefix}.{item.name}"
            value = getattr(section, item.name)
            if isinstance(value, PluginLimitsSection):
                yield from self._quoted(key, value)
            elif key in self.origins:
                yield key, value, self.origins[key]


def load_config(
    places: Places, environ: Mapping[str, str], *, spare_plugins: bool = False
) -> Config:
    """Read the files of ``places`` and the environment.

    Args:
        places: Where the files are.
        environ: The process environment.
        spare_plugins: A plugin's section that can't be used is told and left out: for who has
            to stop that very plugin.

    Raises:
        ConfigError: A file that cannot be read, is no TOML, or holds an unknown key or value;
            an explicit ``--config`` that does not exist; an unknown ``STACK_COMPOSER_*``.
    """
    reading = _Reading(spare_plugins=spare_plugins)
    for path in places.config_files:
        # A link that leads nowhere is there, and can't be used.
        if os.path.lexists(path) or places.config_is_explicit:
            reading.take_file(path)
    reading.take_environment(environ)
    return reading.build(places)


class _Reading:
    """Collects values and origins, later sources over earlier ones."""

    def __init__(self, *, spare_plugins: bool) -> None:
        self._spare_plugins = spare_plugins
        self.values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        self.namespaces: dict[str, str] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.plugins: dict[str, dict[str, Any]] = {}
        self.origins: dict[str, str] = {}

    def take_file(self, path: Path) -> None:
        """Lay one file over what is there."""
        origin = str(path)
        for section, table in _read_toml(path).items():
            if section == "plugins":
                for plugin_id, values in _table(table, origin, "plugins").items():
                    try:
                        self._take_plugin(plugin_id, values, origin)
                    except ConfigError as error:
                        if not self._spare_plugins:
                            raise
                        _LOG.warning("%s; going on without that section", error)
                        self.plugins.pop(plugin_id, None)
                continue
            if section in LATER_SECTIONS:
                for name in _table(table, origin, section):
                    expected = f"none: the keys of [{section}] come with a later version"
                    raise _bad(origin, f"{section}.{name}", "an unknown key", expected)
                continue
            if section not in SECTIONS:
                known = ", ".join((*SECTIONS, "plugins"))
                raise _bad(origin, section, "an unknown section", f"one of {known}")
            table = dict(_table(table, origin, section))  # noqa: PLW2901 - a copy to take from
            if section == "registry":
                self._take_registry_tables(table, origin)
            self._take(self.values[section], SECTIONS[section], section, table, origin)

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """``STACK_COMPOSER_SECTION__KEY``: a TOML value; bare text for text keys."""
        for variable in sorted(environ):
            if not variable.startswith(_PREFIX) or variable in _PLACES:
                continue
            section, _, name = variable.removeprefix(_PREFIX).lower().partition("__")
            kind = kinds(SECTIONS[section]).get(name) if section in SECTIONS else None
            if kind is None:
                raise ConfigError(
                    f"cannot use the environment variable {variable}: no such config key",
                    hint="agent config show --effective lists the keys",
                )
            value = _environment_value(environ[variable], kind)
            self._take(self.values[section], SECTIONS[section], section, {name: value}, variable)

    def build(self, places: Places) -> Config:
        """Fill in the defaults that depend on the places."""
        defaults = {
            ("paths", "user_dir"): str(places.plugins),
            ("paths", "system_dir"): str(places.system_plugins),
            ("registry", "default"): f"oci:{places.registry}",
        }
        for (section, name), value in defaults.items():
            self.values[section].setdefault(name, value)
        plugins = {}
        for plugin_id, values in self.plugins.items():
            limits = PluginLimitsSection(**values.pop("limits", {}))
            plugins[plugin_id] = PluginSection(**values, limits=limits)
        return Config(
            **{name: SECTIONS[name](**values) for name, values in self.values.items()},
            namespaces=MappingProxyType(self.namespaces),
            hosts=MappingProxyType({h: HostSection(**v) for h, v in self.hosts.items()}),
            plugins=MappingProxyType(plugins),
            origins=MappingProxyType(self.origins),
        )

    def _take_registry_tables(self, table: dict[str, Any], origin: str) -> None:
        namespaces = _table(table.pop("namespaces", {}), origin, "registry.namespaces")
        for pattern, base in namespaces.items():
            key = f'registry.namespaces."{pattern}"'
            if not isinstance(base, str):
                raise _bad(origin, key, toml_text(base), "text")
            self.namespaces[pattern] = base
            self.origins[key] = origin
        hosts = _table(table.pop("hosts", {}), origin, "registry.hosts")
        for host, values in hosts.items():
            key = f'registry.hosts."{host}"'
            self._take(self.hosts.setdefault(host, {}), HostSection, key, values, origin)

    def _take_plugin(self, plugin_id: str, values: object, origin: str) -> None:
        key = f'plugins."{plugin_id}"'
        table = dict(_table(values, origin, key))
        into = self.plugins.setdefault(plugin_id, {})
        if "limits" in table:
            limits = into.setdefault("limits", {})
            self._take(limits, PluginLimitsSection, f"{key}.limits", table.pop("limits"), origin)
        self._take(into, PluginSection, key, table, origin)

    def _take(
        self, into: dict[str, Any], section: type, prefix: str, table: object, origin: str
    ) -> None:
        known = kinds(section)
        for name, value in _table(table, origin, prefix).items():
            key = f"{prefix}.{name}"
            kind = known.get(name)
            if kind is None:
                raise _bad(origin, key, "an unknown key", f"one of {', '.join(known)}")
            try:
                into[name] = kind.convert(value)
            except (TypeError, ValueError):
                raise _bad(origin, key, toml_text(value), kind.allowed) from None
            self.origins[key] = origin


def _bad(origin: str, key: str, got: str, allowed: str) -> ConfigError:
    return ConfigError(
        f"cannot use {origin}: {key} is {got}, expected {allowed}",
        hint="agent config check",
    )


def _table(value: object, origin: str, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _bad(origin, key, toml_text(value), "a table")
    return value


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = read_start(path, _MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error
    if len(data) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"cannot read the config {path}: more than {_MAX_CONFIG_BYTES} bytes")
    try:
        return tomli.loads(data.decode())
    except (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error


def _environment_value(text: str, kind: Kind) -> object:
    try:
        value: object = tomli.loads(f"value = {text}")["value"]
    except (tomli.TOMLDecodeError, RecursionError):
        return text
    # STACK_COMPOSER_REGISTRY__DEFAULT=5000 is text that happens to look like a number.
    return text if kind.is_text and not isinstance(value, str) else value


def configured_paths(config: Config, places: Places) -> tuple[Path, Path]:
    """The user's and the system's plugin folder, ``~`` expanded."""
    return (
        local_path(config.paths.user_dir, places.home),
        local_path(config.paths.system_dir, places.home),
    )


def trust_store_path(places: Places) -> Path:
    """The trust store in force, or where one is to be created (contract §1)."""
    for path in places.trust_stores:
        if os.path.lexists(path):
            return path
    return places.trust_stores[-1]
