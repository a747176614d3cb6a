"""When a release on trial is healthy, unhealthy, or not yet judged; pure (contract §7)."""

from dataclasses import dataclass
from enum import Enum

from agent.model import Samples, Trial

_MIN_FAILURES = 3
_MARGIN = 0.05


class Verdict(Enum):
    """What a trial's samples say."""

    TOO_EARLY = "too early"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the figures that led to it."""

    verdict: Verdict
    detail: str


def judge(trial: Trial, new: Samples, old: Samples, now: float) -> Judgement:
    """Judge a trial by recorded calls.

    Unhealthy: a failed health call, or at least 3 failures at more than twice the old
    release's rate plus 5 %. Time over and not unhealthy: healthy.

    Args:
        trial: The open trial.
        new: The trial release's calls since the trial began.
        old: The previous release's calls, all that are recorded.
        now: Seconds since the epoch.
    """
    if new.health_failures:
        return Judgement(Verdict.UNHEALTHY, f"{new.health_failures} health calls failed")
    rate = new.failures / new.calls if new.calls else 0.0
    old_rate = old.failures / old.calls if old.calls else 0.0
    figures = f"{new.failures} of {new.calls} calls failed"
    if new.failures >= _MIN_FAILURES and rate > 2 * old_rate + _MARGIN:
        before = f"{old.failures} of {old.calls} before" if old.calls else "no record before"
        return Judgement(Verdict.UNHEALTHY, f"{figures}, {before}")
    if now >= trial.ends_at:
        return Judgement(Verdict.HEALTHY, f"probation over, {figures}")
    return Judgement(Verdict.TOO_EARLY, f"{figures} so far")
