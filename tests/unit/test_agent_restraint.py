"""What an unattended run would take and must not: it waits, and says for what."""

import datetime as dt

import pytest

from agent.errors import PolicyError
from agent.model import Decision, Kind, Outcome
from agent.pipeline.restraint import Restraint, restrained, restraint
from agent.settings.windows import Window, parse_window

TUESDAY = dt.datetime(2027, 1, 12, 12, 0, 0, 500_000, tzinfo=dt.UTC)
NIGHTS = parse_window("Mon-Fri 22:00-05:00 UTC")
SUNDAYS = parse_window("Sun 04:00-06:00 UTC")


def test_closed_windows_say_when_the_first_of_them_opens() -> None:
    """To the second, and how long that is from now."""
    opens = "window opens 2027-01-12T22:00:00+00:00, 10h left"
    assert restraint("auto", [SUNDAYS, NIGHTS], TUESDAY) == Restraint("window", opens)


@pytest.mark.parametrize("windows", [(), (NIGHTS,), (SUNDAYS, NIGHTS)])
def test_nothing_binds_in_an_open_window(windows: tuple[Window, ...]) -> None:
    """Nor where there are none; mode notify binds even then."""
    now = TUESDAY.replace(hour=23)
    assert restraint("auto", windows, now) is None
    assert restraint("notify", windows, now) == Restraint("notify", "mode is notify")


@pytest.mark.parametrize("after", ["0.2.0", None])
@pytest.mark.parametrize("word", ["notify", "window"])
def test_what_would_be_taken_waits(word: str, after: str | None) -> None:
    """It is pending, with the rule for programs, the reason for people, and what takes it now."""
    planned = Outcome("org.example.hello", Kind.PLANNED, "consent", "would be taken", after=after)
    waiting = restrained(planned, Restraint(word, "it is so"))
    assert (waiting.kind, waiting.step) == (Kind.PENDING, "consent")
    assert waiting.detail == f"{after or 'it'} waits: it is so"
    assert isinstance(waiting.error, PolicyError)
    assert waiting.error.hint == "agent update org.example.hello takes it now"
    decision = Decision.of(waiting, at=0)
    assert (decision.outcome, decision.reason) == ("pending", word)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.PLANNED])
def test_what_would_not_be_taken_anyhow_keeps_its_reason(kind: Kind) -> None:
    """A hold, a cooldown or a failure is told as it is, whatever the windows say."""
    outcome = Outcome("org.example.hello", kind, "plan", "held")
    assert restrained(outcome, Restraint("window", "closed")) is outcome
