"""What the tree remembers of a plugin in case the ledger is lost (pure).

``.store/ID/.memory`` is a small JSON file: the floor, the rejected and the committed releases,
where updates come from, and what an operator decided: stops, holds, grants and denials. The
ledger is what counts; this is its second place. Each has a number that rises with every change,
so that the older one of the two is known.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from agent.model import Rejection, Stop
from agent.pipeline.requirement import is_newer, parse_version
from sandbox.grammar import CAPABILITY

SCHEMA = 1
MAX_COUNT = (1 << 53) - 1
"""What any reader of JSON takes for a whole number."""

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Committed:
    """A release that once ended its trial well.

    Attributes:
        digest: The OCI manifest's, None for one that came without a registry.
        repository: Where it came from.
        installed_at: Seconds since the epoch, like ``committed_at``.
    """

    release: str
    version: str
    digest: str | None
    repository: str | None
    installed_at: float
    committed_at: float


@dataclass(frozen=True, slots=True)
class Held:
    """What ``agent hold`` recorded.

    Attributes:
        until: Seconds since the epoch, like ``at``; None = until somebody takes it back.
    """

    until: float | None
    at: float


@dataclass(frozen=True, slots=True)
class Decided:
    """What ``agent grant`` or ``agent deny`` said of a capability.

    Attributes:
        at: Seconds since the epoch, like ``until``.
        until: From when on it is not granted any more; None = it has no end.
        max_calls: In how many calls of the plugin it may be used; None = in any number.
        calls_left: How many of these nobody has used or set aside.
        serial: Tells a counted grant from any other.
    """

    capability: str
    granted: bool
    at: float
    until: float | None = None
    max_calls: int | None = None
    calls_left: int | None = None
    serial: str | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether it is a grant that has an end."""
        return self.granted and (self.until, self.max_calls) != (None, None)

    def is_over(self, now: float) -> bool:
        """Whether its time has run out, or, by a clock that was set back, has not begun."""
        return self.until is not None and not self.at <= now < self.until

    def is_in_force(self, now: float) -> bool:
        """Whether it binds now: a denial always does."""
        return not self.is_over(now) and self.calls_left != 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one plugin.

    Attributes:
        ledger: The id of the ledger that it was copied from.
        number: Counts the changes in that ledger.
        floor: The highest committed version.
        repository: Where updates come from.
        channel: The tag that is followed instead of versions, if any.
        good: The committed release that serves outside a trial, or would if it were enabled.
        stop: Set while it is disabled, or until all of it is removed.
    """

    ledger: str
    number: int
    floor: str | None
    repository: str | None
    channel: str | None
    good: str | None = None
    stop: Stop | None = None
    hold: Held | None = None
    decisions: tuple[Decided, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    committed: tuple[Committed, ...] = ()

    @classmethod
    def nothing(cls, ledger: str) -> "Memory":
        """That of a plugin of which a ledger knows nothing."""
        return cls(ledger, 0, None, None, None)

    @property
    def is_of_installed(self) -> bool:
        """Whether the plugin was ever installed; else somebody only decided something of it."""
        return any((self.floor, self.repository, self.channel, self.good, self.stop))

    def encode(self) -> bytes:
        """The file's bytes."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1).encode() + b"\n"


def narrower(mine: Memory, written: Memory) -> Memory:
    """What holds of the ledger's account and of a tree's that knows more.

    The tree's, but neither lifts what the other says: a stop, a hold, a rejection or a denial in
    either counts, and the higher floor. Nobody can tell a file beside the plugins from one that
    somebody else wrote.
    """
    rejected = {r.release: r for r in (*mine.rejected, *written.rejected)}
    holds = (hold for hold in (mine.hold, written.hold) if hold is not None)
    return replace(
        written,
        floor=highest(version for version in (mine.floor, written.floor) if version),
        stop=either(mine.stop, written.stop),
        hold=max(holds, key=lambda h: math.inf if h.until is None else h.until, default=None),
        decisions=narrowed(mine.decisions, written.decisions),
        rejected=tuple(rejected.values()),
    )


def said(known: Memory, stop: Stop | None, denied: Decided | None) -> Memory:
    """What a tree should know where a word could not be written to the ledger.

    Its number is far above the ledger's: a host that counts calls there while the tree is another
    agent's never comes up to it.
    """
    others = [d for d in known.decisions if denied is None or d.capability != denied.capability]
    if denied is not None:
        others.append(denied)
    return replace(
        known,
        number=min(known.number + _FAR, MAX_COUNT),
        stop=either(known.stop, stop),
        decisions=tuple(sorted(others, key=lambda one: one.capability)),
    )


def either(*stops: Stop | None) -> Stop | None:
    """The stop that any account knows; of two different ones that which keeps the releases."""
    return next((stop for stop in Stop if stop in stops), None)


def highest(versions: Iterable[str]) -> str | None:
    """The highest of some versions."""
    found: str | None = None
    for version in versions:
        if found is None or is_newer(version, found):
            found = version
    return found


def narrowed(older: Iterable[Decided], newer: Iterable[Decided]) -> tuple[Decided, ...]:
    """What holds of two accounts of grants and denials: denied is what either of them denies.

    Granted is what both grant, until the earlier end and for the fewer calls. So an older copy
    of either widens nothing.
    """
    older, newer = tuple(older), tuple(newer)
    denied = {one.capability: one for one in (*older, *newer) if not one.granted}
    granted = {one.capability: one for one in newer if one.granted}
    both = {
        one.capability: _narrower(one, granted[one.capability])
        for one in older
        if one.granted and one.capability in granted
    }
    return tuple(sorted({**both, **denied}.values(), key=lambda one: one.capability))


def _narrower(older: Decided, newer: Decided) -> Decided:
    counted = newer if newer.serial is not None else older
    return replace(
        older,
        until=_least(older.until, newer.until),
        max_calls=_least(older.max_calls, newer.max_calls),
        calls_left=_least(older.calls_left, newer.calls_left),
        serial=counted.serial,
    )


def _least(one: _Number | None, other: _Number | None) -> _Number | None:
    return min((each for each in (one, other) if each is not None), default=None)


def decode(data: bytes) -> Memory | None:
    """Read the file's bytes; None where they are none of ours."""
    try:
        fields = json.loads(data)
        if fields["floor"] is not None:
            parse_version(fields["floor"])
        if not isinstance(fields, dict) or fields.pop("schema") != SCHEMA:
            return None
        stop, hold = fields.pop("stop"), fields.pop("hold")
        lists: dict[str, Any] = {
            name: tuple(kind(**_typed(kind, row)) for row in fields.pop(name))
            for name, kind in _LISTS.items()
        }
        return Memory(
            **_typed(Memory, fields),
            stop=None if stop is None else Stop(stop),
            hold=None if hold is None else Held(**_typed(Held, hold)),
            **lists,
        )
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


_LISTS: dict[str, type] = {"decisions": Decided, "rejected": Rejection, "committed": Committed}
_FAR = 1 << 20
HIGHEST_TAKEN = 1 << 52
"""What a higher number counts as: counting on from there never leads to one that is not read."""
_MAX_TIME = 253_402_300_800
"""The year 10000: what comes later can't be shown."""
_TEXTS = frozenset({"ledger", "release", "version", "reason"})
_OPTIONAL = frozenset({"floor", "repository", "channel", "digest", "good", "serial"})
_COUNTS = frozenset({"number", "max_calls", "calls_left"})
_ENDS = frozenset({"until", "max_calls", "calls_left"})
"""None = there is no such end."""


def _typed(kind: type, row: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON gave it
    """The fields of a row, each of the type that it must have."""
    if not isinstance(row, dict):
        raise TypeError(kind.__name__)
    for name, value in row.items():
        if name in _TEXTS:
            fits = isinstance(value, str)
        elif name in _OPTIONAL:
            fits = value is None or isinstance(value, str)
        elif name in _ENDS and value is None:
            fits = True
        elif name in _COUNTS:
            fits = type(value) is int and 0 <= value <= MAX_COUNT
        elif name == "granted":
            fits = isinstance(value, bool)
        elif name == "capability":
            fits = isinstance(value, str) and CAPABILITY.fullmatch(value) is not None
        else:
            fits = type(value) in (int, float) and 0 <= value < _MAX_TIME
        if not fits:
            raise TypeError(name)
    return row
