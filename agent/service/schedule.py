"""When a plugin is looked at next; pure. Times are seconds of a clock that nobody sets back.

Contract §6: every ``update.interval``, plus up to ``update.jitter`` so that a fleet does not ask
at once. What could not be done for a reason that passes (network, disk, busy) is tried again
sooner, each time later than the last; what a rule refused is not.
"""

from dataclasses import dataclass

from agent.model import Kind, Outcome

_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """``update.interval`` and ``update.jitter``."""

    interval_s: float
    jitter_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A plugin's place in the schedule; a new one is due at once: the start-up check.

    Attributes:
        due_s: When it is looked at again.
        failures: How often in a row it could not be done.
        awaits_window: Something waits for a maintenance window.
    """

    due_s: float = float("-inf")
    failures: int = 0
    awaits_window: bool = False

    def is_due(self, now_s: float, *, may_act: bool) -> bool:
        """Whether it is time; an opening window is, for what waits for it."""
        return now_s >= self.due_s or (self.awaits_window and may_act)

    def after(
        self,
        outcome: Outcome,
        rhythm: Rhythm,
        now_s: float,
        draw: float,
        *,
        may_act: bool,
        awaits_window: bool,
    ) -> "Turn":
        """The next turn.

        Args:
            outcome: What this one came to.
            rhythm: How often.
            now_s: When it ended.
            draw: A random number of at least 0 and less than 1.
            may_act: Whether it might take what it found: a window that stays open calls once.
            awaits_window: Something was found that waits for a window.
        """
        regular_s = now_s + rhythm.interval_s + draw * rhythm.jitter_s
        if outcome.kind is not Kind.FAILED:
            return Turn(regular_s, awaits_window=awaits_window)
        delay_s = _RETRY_S * 2 ** min(self.failures, 20) * (1 + draw)
        return Turn(
            min(now_s + delay_s, regular_s),
            self.failures + 1,
            awaits_window=self.awaits_window and not may_act,
        )
