"""When a release on trial is healthy, unhealthy, or not yet judged: the rule's edges."""

import pytest

from agent.model import Samples, Trial
from agent.pipeline.probation import Verdict, judge

TRIAL = Trial("org.example.hello", "b" * 64, "a" * 64, started_at=1000.0, ends_at=1600.0)
QUIET = Samples()


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        # At least three failures ...
        (Samples(2, 2), QUIET, Verdict.TOO_EARLY),
        (Samples(3, 3), QUIET, Verdict.UNHEALTHY),
        # ... at more than 5 % where the old release never failed or was never called ...
        (Samples(60, 3), QUIET, Verdict.TOO_EARLY),
        (Samples(59, 3), QUIET, Verdict.UNHEALTHY),
        (Samples(60, 3), Samples(1000, 0), Verdict.TOO_EARLY),
        (Samples(59, 3), Samples(1000, 0), Verdict.UNHEALTHY),
        # ... and at more than twice the old rate + 5 %.
        (Samples(100, 25), Samples(100, 10), Verdict.TOO_EARLY),
        (Samples(100, 26), Samples(100, 10), Verdict.UNHEALTHY),
        (Samples(100, 100), Samples(100, 50), Verdict.TOO_EARLY),
        (Samples(100, 100), Samples(100, 47), Verdict.UNHEALTHY),
        # One failed health call is enough, whatever the rest.
        (Samples(1, 1, 1), Samples(10, 10), Verdict.UNHEALTHY),
        (Samples(1000, 0, 1), QUIET, Verdict.UNHEALTHY),
        (QUIET, QUIET, Verdict.TOO_EARLY),
    ],
)
def test_the_rule_at_its_edges(new: Samples, old: Samples, verdict: Verdict) -> None:
    """While probation runs: unhealthy by the rule, or too early."""
    assert judge(TRIAL, new, old, 1599.9).verdict is verdict


@pytest.mark.parametrize("new", [QUIET, Samples(2, 2), Samples(60, 3), Samples(10, 0)])
def test_time_over_and_not_unhealthy_is_healthy(new: Samples) -> None:
    """At the end, and at the very moment of it."""
    assert judge(TRIAL, new, QUIET, 1600.0).verdict is Verdict.HEALTHY
    assert judge(TRIAL, new, QUIET, 9999.0).verdict is Verdict.HEALTHY


def test_an_unhealthy_release_stays_so_when_the_time_is_over() -> None:
    """The figures decide before the clock does."""
    assert judge(TRIAL, Samples(3, 3), QUIET, 9999.0).verdict is Verdict.UNHEALTHY


def test_the_figures_are_told() -> None:
    """The detail says how many calls failed, and how it was before."""
    old = Samples(200, 2)
    assert judge(TRIAL, Samples(9, 4), old, 0).detail == "4 of 9 calls failed, 2 of 200 before"
    assert judge(TRIAL, Samples(9, 4), QUIET, 0).detail == "4 of 9 calls failed, no record before"
    assert judge(TRIAL, Samples(9, 1), old, 0).detail == "1 of 9 calls failed so far"
    assert "probation over, 1 of 9" in judge(TRIAL, Samples(9, 1), old, 1600).detail
    assert "2 health calls failed" in judge(TRIAL, Samples(9, 2, 2), old, 0).detail
