"""What a check found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of one check.

    Attributes:
        check: Its name, kebab-case.
        ok: Whether all is well.
        detail: What is so; where it is not well, what that means.
        fix: What to do: what ``--fix`` does, or a command to run; None where nothing need be.
        mend: What ``--fix`` runs, under the tree's lock; returns lines for the operator. None
            where a person must decide.
        mended: It was not well, and is now.
        told: What mending it had to say.
    """

    check: str
    ok: bool
    detail: str
    fix: str | None = None
    mend: Callable[[], Sequence[str]] | None = field(default=None, compare=False, repr=False)
    mended: bool = False
    told: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        """The JSON row."""
        row: dict[str, object] = {
            "check": self.check,
            "ok": self.ok,
            "detail": self.detail,
            "fix": self.fix,
        }
        if self.mended:
            row["mended"] = True
        if self.told:
            row["told"] = list(self.told)
        return row
