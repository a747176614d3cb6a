"""What the operator lets a plugin do; decided outside of the sandbox, which knows no trust."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sandbox.limits import Limits

Isolation = Literal["inline", "process"]
"""Where a plugin runs: in the host's own process, or in a child of its own."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict on one plugin.

    Attributes:
        granted: Capabilities; ``log`` is in it unless the operator denied it.
        limits: The operator's bounds; the plugin can only ask for less.
        data_dir: What ``/plugin/data`` shows with ``fs_read``, or None.
        settings: The operator's values over the manifest's defaults; others are left out.
        release: The release's SHA-256 in hex; empty for a folder that nobody signed.
        isolation: Where it runs.
        hosts: The patterns of hosts that it may reach, of those its manifest asks for.
        expires_s: Seconds since the epoch from which on it may not be called; None = none such.
        max_calls: How many calls of this load may begin; None = any number.
    """

    granted: frozenset[str]
    limits: Limits = field(default_factory=Limits)
    data_dir: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    isolation: Isolation = "inline"
    hosts: frozenset[str] = frozenset()
    expires_s: int | None = None
    max_calls: int | None = None
