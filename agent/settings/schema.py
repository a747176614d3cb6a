"""The keys of ``plugin-host.toml``: one frozen dataclass a section, defaults and units in it.

Contract §6. The field annotations are the schema: ``agent.settings.config`` converts by them. A
value of 0 where a limit is due is refused: no value means "no limit".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.settings.kinds import (
    ADDRESS,
    CHANNEL,
    COMMAND,
    COUNT,
    DURATION,
    FLAG,
    GROUP_ACCESS,
    ISOLATION,
    MODE,
    MOMENT,
    REQUIREMENT,
    SCALARS,
    TEXT,
    TEXTS,
    TIMEOUT,
    WINDOWS,
    WORDS,
    Kind,
)


def _key(kind: Kind, default: object = None) -> Any:  # noqa: ANN401 - a dataclass field
    return field(default=default, metadata={"kind": kind})


@dataclass(frozen=True, slots=True)
class LimitsSection:
    """``[limits]``: the ceiling of one call."""

    fuel_units: int = _key(COUNT, 10_000_000)
    mem_bytes: int = _key(COUNT, 268_435_456)
    wall_timeout_ms: int = _key(COUNT, 5_000)


@dataclass(frozen=True, slots=True)
class PathsSection:
    """``[paths]``: plugin folders; the defaults depend on the user and ``--home``."""

    user_dir: str = _key(TEXT, "")
    system_dir: str = _key(TEXT, "")


@dataclass(frozen=True, slots=True)
class RegistrySection:
    """``[registry]``: where plugins come from."""

    default: str = _key(TEXT, "")
    max_artifact_bytes: int = _key(COUNT, 2 * 1024**3)
    max_cache_bytes: int = _key(COUNT, 1024**3)


@dataclass(frozen=True, slots=True)
class HostSection:
    """``[registry.hosts."HOST:PORT"]``: how to speak to one registry."""

    plain_http: bool | None = _key(FLAG)
    insecure: bool = _key(FLAG, default=False)
    ca_file: str | None = _key(TEXT)
    client_cert: str | None = _key(TEXT)
    client_key: str | None = _key(TEXT)
    mirrors: tuple[str, ...] = _key(TEXTS, ())


@dataclass(frozen=True, slots=True)
class UpdateSection:
    """``[update]``: when and what; durations in seconds."""

    interval: int = _key(DURATION, 3_600)
    jitter: int = _key(DURATION, 600)
    parallel: int = _key(COUNT, 4)
    mode: str = _key(MODE, "auto")
    windows: tuple[str, ...] = _key(WINDOWS, ())
    cooldown: int = _key(DURATION, 0)
    keep: int = _key(COUNT, 3)
    probation: int = _key(DURATION, 600)


@dataclass(frozen=True, slots=True)
class CapabilitiesSection:
    """``[capabilities]``: what every plugin is granted."""

    grant: tuple[str, ...] = _key(WORDS, ("log",))


@dataclass(frozen=True, slots=True)
class NetworkSection:
    """``[network]``."""

    offline: bool = _key(FLAG, default=False)
    proxy: str = _key(TEXT, "")
    max_bytes_per_s: int | None = _key(COUNT)
    allow_hosts: tuple[str, ...] = _key(TEXTS, ())


@dataclass(frozen=True, slots=True)
class SandboxSection:
    """``[sandbox]``."""

    isolation: str = _key(ISOLATION, "process")
    max_module_bytes: int = _key(COUNT, 64 * 1024**2)


@dataclass(frozen=True, slots=True)
class TelemetrySection:
    """``[telemetry]``: an OTLP/HTTP endpoint; empty = off."""

    endpoint: str = _key(TEXT, "")


@dataclass(frozen=True, slots=True)
class ControlSection:
    """``[control]``: who may use the service's socket beside its user and root, and how much."""

    group: str = _key(TEXT, "")
    group_access: str = _key(GROUP_ACCESS, "read")
    max_body_bytes: int = _key(COUNT, 1024**2)
    max_calls: int = _key(COUNT, 16)


@dataclass(frozen=True, slots=True)
class HooksSection:
    """``[hooks]``: what is run and called when something happens; empty = nothing."""

    pre_activate: tuple[str, ...] = _key(COMMAND, ())
    post_commit: tuple[str, ...] = _key(COMMAND, ())
    on_rollback: tuple[str, ...] = _key(COMMAND, ())
    on_approval_needed: tuple[str, ...] = _key(COMMAND, ())
    timeout: int = _key(TIMEOUT, 30)
    webhook: str = _key(ADDRESS, "")


@dataclass(frozen=True, slots=True)
class PluginLimitsSection:
    """``[plugins."ID".limits]``: the operator's own ceiling for one plugin."""

    fuel_units: int | None = _key(COUNT)
    mem_bytes: int | None = _key(COUNT)
    wall_timeout_ms: int | None = _key(COUNT)


@dataclass(frozen=True, slots=True)
class PluginSection:
    """``[plugins."ID"]``."""

    constraint: str | None = _key(REQUIREMENT)
    mode: str | None = _key(MODE)
    channel: str | None = _key(CHANNEL)
    grants: tuple[str, ...] = _key(WORDS, ())
    deny: tuple[str, ...] = _key(WORDS, ())
    hosts: tuple[str, ...] = _key(TEXTS, ())
    data_dir: str | None = _key(TEXT)
    hold_until: str | None = _key(MOMENT)
    isolation: str | None = _key(ISOLATION)
    settings: Mapping[str, Any] = field(default_factory=dict, metadata={"kind": SCALARS})
    limits: PluginLimitsSection = field(default_factory=PluginLimitsSection)


SECTIONS: Mapping[str, type] = MappingProxyType(
    {
        "limits": LimitsSection,
        "paths": PathsSection,
        "registry": RegistrySection,
        "update": UpdateSection,
        "capabilities": CapabilitiesSection,
        "network": NetworkSection,
        "sandbox": SandboxSection,
        "telemetry": TelemetrySection,
        "control": ControlSection,
        "hooks": HooksSection,
    }
)

LATER_SECTIONS = ("retrieval", "llm", "plan", "trust")
"""Sections of contract §6 that have no key yet; they may stand in a file, empty."""


def kinds(section: type) -> dict[str, Kind]:
    """The keys of a section and what each may hold."""
    return {f.name: f.metadata["kind"] for f in fields(section) if "kind" in f.metadata}


def local_path(text: str, home: Path) -> Path:
    """A path from the config; ``~`` is the user's home."""
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    return Path(text)
