"""Durations as the config writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5_400),
        ("7d", 604_800),
        ("1d2h3m4s", 93_784),
        ("007m", 420),
        ("999999d", 86_399_913_600),
    ],
)
def test_known_durations(text: str, seconds: int) -> None:
    """Days, hours, minutes, seconds, in this order, each at most once."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 m",
        "-5m",
        "1.5h",
        "1m1h",
        "1m1m",
        "5M",
        "5ms",
        "m",
        "1h\n",
        " 1h",
        "forever",
        "1000000d",
        "9999999999s",
        "١m",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is an error that shows what was got and what is expected."""
    with pytest.raises(ValueError, match=r"cannot read the duration .* expected one like"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (0.001, "1s"), (59.5, "1m"), (90, "1m30s"), (86_460, "1d1m")],
)
def test_the_shortest_spelling(seconds: float, text: str) -> None:
    """Units that are zero are left out; fractions are rounded up; nothing left is 0s."""
    assert format_duration(seconds) == text


@given(st.integers(0, 10**10))
def test_reading_what_was_written(seconds: int) -> None:
    """What is written is read as the same number of seconds."""
    assert parse_duration(format_duration(seconds)) == seconds
