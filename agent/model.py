"""The values the agent's modules exchange; frozen, no behaviour with effects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from agent.errors import AgentError, PolicyError


class Kind(StrEnum):
    """What became of one plugin in one run (contract §7, ``outcome``)."""

    CURRENT = "current"
    PENDING = "pending"
    PLANNED = "planned"
    FETCHED = "fetched"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    FAILED = "failed"


def folder_name(version: str, release: str) -> str:
    """``0.2.0-3fa9c1d2e4b5``: version and release, as in the tree."""
    return f"{version}-{release[:12]}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One sealed release in the plugin tree.

    Attributes:
        release: 64 hex, the SHA-256 of the statement (contract §3).
        digest: The OCI manifest's, None for one that came without a registry.
        capabilities: What its manifest requests.
        payload_sha256: 64 hex; also names its entry in the AOT cache.
        repository: Where it came from, as the registry room writes a location.
        installed_at: Seconds since the epoch.
        committed_at: Seconds since the epoch; None while it has never ended a trial well.
    """

    plugin_id: str
    version: str
    release: str
    stem: str
    payload_sha256: str
    key_id: str
    capabilities: tuple[str, ...]
    digest: str | None
    repository: str | None
    installed_at: float
    committed_at: float | None = None

    @property
    def folder_name(self) -> str:
        """Where it lies in the tree."""
        return folder_name(self.version, self.release)


@dataclass(frozen=True, slots=True)
class Trial:
    """A release that went live and has not yet been committed; a row, not a process.

    Attributes:
        previous: The release to go back to; None for a first install.
        started_at: Seconds since the epoch, like ``ends_at``.
        ends_at: When probation is over; equal to ``started_at`` = commit at once.
    """

    plugin_id: str
    release: str
    previous: str | None
    started_at: float
    ends_at: float

    @property
    def is_over_at_once(self) -> bool:
        """Whether it has no probation: a first install, or ``probation = "0s"``."""
        return self.ends_at <= self.started_at


class Stop(StrEnum):
    """Why a plugin that is known does not serve, by somebody's word."""

    DISABLED = "disabled"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Installed:
    """What the ledger says of one plugin.

    Attributes:
        good: The committed release that serves outside a trial; None before the first.
        floor: The highest committed version; None before the first.
        repository: Where updates come from.
        channel: The tag that is followed instead of versions, if any.
        projected: The release that the flat copies hold.
        projection_due: Whether the flat copies must be refreshed before they are believed.
        stop: Set while it is disabled, or until all of it is removed.
    """

    plugin_id: str
    good: str | None
    floor: str | None
    repository: str | None
    channel: str | None
    projected: str | None
    projection_due: bool
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Calls counted for one release over a span of minutes."""

    calls: int = 0
    failures: int = 0
    health_failures: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a plugin's history.

    Attributes:
        beside: The version that it took the place of, or that serves in its place from now on.
    """

    at: float
    plugin_id: str
    kind: str
    version: str | None
    release: str | None
    detail: str
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A release that is not taken again unless its version or digest is named."""

    release: str
    version: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Update runs leave a plugin where it is.

    Attributes:
        until: Seconds since the epoch; None = until somebody takes it back.
    """

    until: float | None


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Where the audit log ends, as the ledger knows it.

    Attributes:
        lines: How many there are.
        hash: 64 hex, the SHA-256 of the last one, its line feed included; zeros before the first.
        segment: The number of the segment that holds it; 0 before the first.
        size_bytes: Where it ends in that segment.
    """

    lines: int = 0
    hash: str = "0" * 64
    segment: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FirstSeen:
    """What a tag named when it was looked at first.

    Attributes:
        at: Seconds since the epoch.
        digest: What a version's tag named when it was first believed; None before.
        release: The release that it was, like ``digest``.
    """

    at: float
    digest: str | None = None
    release: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A candidate that trust, format or a rule refused.

    Attributes:
        tag: Under which it was found.
        digest: What the tag named; None where not even that could be read.
        code: The error's code (``AgentError.code``).
        at: Seconds since the epoch; judged anew a day later at the latest.
    """

    tag: str
    digest: str | None
    code: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class PluginSet:
    """The files of one plugin, held in memory or on disk, not yet believed.

    Attributes:
        payload: Path of the ``.wasm`` bytes.
    """

    stem: str
    payload: Path
    signature: bytes | None
    manifest: bytes
    readme: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a release is asked for: which rules bind it, and how far it goes.

    Attributes:
        named: A version or digest was named: rejections and cooldown do not bind it.
        unattended: An update run: cooldown and hold bind it.
        activate: False: stage only.
        dry_run: Stop before the payload.
    """

    named: bool = False
    unattended: bool = False
    allow_downgrade: bool = False
    activate: bool = True
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did for one plugin; a row of every verb that changes plugins.

    Attributes:
        step: The pipeline's step that decided: check, plan, fetch, verify, veto, stage, probe,
            activate, trial, commit, rollback; or the verb that is none of it: hold, unhold,
            disable, enable, remove.
        newest: The highest version above what serves, taken or not; None where there is none.
        ungranted: What a first install requests and does not get.
        extra: Fields of the row that only this verb has.
        error: The cause of a ``refused`` or ``failed`` or ``pending``.
    """

    plugin_id: str
    kind: Kind
    step: str
    detail: str
    before: str | None = None
    after: str | None = None
    release: str | None = None
    digest: str | None = None
    newest: str | None = None
    ungranted: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    error: AgentError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the last run decided for a plugin, and why."""

    plugin_id: str
    at: float
    candidate: str | None
    outcome: str
    step: str
    reason: str
    detail: str

    @classmethod
    def of(cls, outcome: Outcome, *, at: float) -> "Decision":
        """The decision that an outcome stands for."""
        cause = outcome.error
        reason = cause.reason if isinstance(cause, PolicyError) else cause.code if cause else ""
        return cls(
            plugin_id=outcome.plugin_id,
            at=at,
            candidate=outcome.after,
            outcome=outcome.kind.value,
            step=outcome.step,
            reason=reason,
            detail=outcome.detail,
        )
