"""What keeps an unattended run from taking what it finds: the mode and the windows; pure.

``agent update`` is a person's, and goes by neither (contract §7).
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.durations import format_duration
from agent.errors import PolicyError
from agent.model import Kind, Outcome
from agent.settings.windows import Window, may_act, next_opening

Restrains = Callable[[], "Restraint | None"]
"""Says why nothing is taken now; None = it may be."""


def nothing_restrains() -> None:
    """A person asked: what is found is taken."""


@dataclass(frozen=True, slots=True)
class Restraint:
    """Why nothing is taken now.

    Attributes:
        reason: The rule, for programs: ``notify``, ``manual``, ``window``, or ``config`` where
            the rules themselves have changed.
        detail: The same for people.
    """

    reason: str
    detail: str


def restraint(mode: str, windows: Sequence[Window], now: dt.datetime) -> Restraint | None:
    """What binds a run over a plugin now; None: it may take what it finds.

    Args:
        mode: The plugin's: ``auto``, ``notify`` or ``manual``.
        windows: Where there are some, one has to be open.
        now: In UTC.
    """
    if mode != "auto":
        return Restraint(mode, f"mode is {mode}")
    if may_act(windows, now):
        return None
    opens = next_opening(windows, now)
    if opens is None:
        return Restraint("window", "no maintenance window opens within eight days")
    left = format_duration((opens - now).total_seconds())
    return Restraint("window", f"window opens {opens.isoformat(timespec='seconds')}, {left} left")


def restrained(outcome: Outcome, by: Restraint) -> Outcome:
    """What a dry run came to, where what it would have taken has to wait."""
    if outcome.kind is not Kind.PLANNED:
        return outcome
    what = outcome.after or "it"
    cause = PolicyError(
        f"cannot take {outcome.plugin_id} {what} now: {by.detail}",
        reason=by.reason,
        hint=f"agent update {outcome.plugin_id} takes it now",
    )
    return replace(outcome, kind=Kind.PENDING, detail=f"{what} waits: {by.detail}", error=cause)
