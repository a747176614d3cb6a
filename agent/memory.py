"""What the tree remembers of a plugin in case the ledger is lost (pure).

``.store/ID/.memory`` is a small JSON file: the floor, the rejected and the committed releases,
where updates come from. The ledger is what counts; this is its second place. Each has a number
that rises with every change, so that the older one of the two is known.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from agent.model import Rejection
from agent.requirement import parse_version

SCHEMA = 1


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
class Memory:
    """What is remembered of one plugin.

    Attributes:
        ledger: The id of the ledger that it was copied from.
        number: Counts the changes in that ledger.
        floor: The highest committed version.
        repository: Where updates come from.
        channel: The tag that is followed instead of versions, if any.
    """

    ledger: str
    number: int
    floor: str | None
    repository: str | None
    channel: str | None
    rejected: tuple[Rejection, ...] = ()
    committed: tuple[Committed, ...] = ()

    def is_older_than(self, other: "Memory | None") -> bool:
        """Whether another one, of this ledger or of a lost one, knows more."""
        return other is not None and (other.ledger != self.ledger or other.number > self.number)

    def encode(self) -> bytes:
        """The file's bytes."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1).encode() + b"\n"


def decode(data: bytes) -> Memory | None:
    """Read the file's bytes; None where they are none of ours."""
    try:
        fields = json.loads(data)
        if fields["floor"] is not None:
            parse_version(fields["floor"])
        if not isinstance(fields, dict) or fields.pop("schema") != SCHEMA:
            return None
        rejected = tuple(Rejection(**_typed(Rejection, row)) for row in fields.pop("rejected"))
        committed = tuple(Committed(**_typed(Committed, row)) for row in fields.pop("committed"))
        return Memory(**_typed(Memory, fields), rejected=rejected, committed=committed)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


_MAX_NUMBER = 1 << 53
_TEXTS = frozenset({"ledger", "release", "version", "reason"})
_OPTIONAL = frozenset({"floor", "repository", "channel", "digest"})


def _typed(kind: type, row: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON gave it
    """The fields of a row, each of the type that it must have."""
    if not isinstance(row, dict):
        raise TypeError(kind.__name__)
    for name, value in row.items():
        if name in _TEXTS:
            fits = isinstance(value, str)
        elif name in _OPTIONAL:
            fits = value is None or isinstance(value, str)
        elif name == "number":
            fits = type(value) is int and 0 <= value < _MAX_NUMBER
        else:
            fits = type(value) in (int, float) and math.isfinite(value)
        if not fits:
            raise TypeError(name)
    return row
