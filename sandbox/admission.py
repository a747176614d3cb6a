"""What the operator lets a plugin do; decided outside of the sandbox, which knows no trust."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from sandbox.limits import Limits

Isolation = Literal["inline", "process"]
"""Where a plugin runs: in the host's own process, or in a child of its own."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How far the grant of one capability goes; a call of the plugin that uses it counts once.

    Attributes:
        capability: The word.
        expires_s: Seconds since the epoch from which on it can't be used; None = none such.
        max_calls: In how many calls it may be used; None = in any number.
    """

    capability: str
    expires_s: int | None = None
    max_calls: int | None = None


class Purse(Protocol):
    """Holds the calls that counted grants are good for, shared with other processes."""

    def spend(self, capability: str) -> str | None:
        """Count one call; None, or why it can't be. From any thread."""

    def close(self) -> None:
        """Give back what was set aside; what still runs is counted one by one."""


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
        bounds: Of those grants that do not go on for ever, also of those that are over.
        purse: Counts the calls; None = this load's are counted alone.
        clock: Seconds since the epoch.
    """

    granted: frozenset[str]
    limits: Limits = field(default_factory=Limits)
    data_dir: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    isolation: Isolation = "inline"
    hosts: frozenset[str] = frozenset()
    bounds: tuple[Bound, ...] = ()
    purse: Purse | None = None
    clock: Callable[[], float] = time.time
