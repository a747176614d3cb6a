"""Maintenance windows, minute by minute: against a clock that is asked what it shows."""

import datetime as dt
import os
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.restraint import Restraint, restraint
from agent.settings.windows import Window, may_act, next_opening, parse_window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MIN = 1440
WEEK_MIN = 7 * DAY_MIN
MINUTE = dt.timedelta(minutes=1)
MACHINE = "Europe/Dublin"
"""The zone of a window that names none."""
CHANGES = {
    "Europe/Berlin": ("2027-03-28T01:00", "2027-10-31T01:00"),
    "America/New_York": ("2027-03-14T07:00", "2027-11-07T06:00"),
    "America/Havana": ("2027-03-14T05:00", "2027-11-07T05:00"),  # at midnight
    "Australia/Lord_Howe": ("2027-04-03T15:00", "2027-10-02T15:30"),  # by half an hour
    "America/Santiago": ("2027-04-04T03:00", "2027-09-05T04:00"),  # a day's last hour comes twice
    "Pacific/Apia": ("2011-12-30T10:00", "2027-05-05T05:05"),  # a Friday that never was
    "Asia/Kolkata": ("2027-03-28T01:00",),
    "": ("2027-03-28T01:00", "2027-10-31T01:00"),
}
TIMES = st.one_of(
    st.sampled_from([0, 1, 30, 59, 60, 90, 119, 120, 121, 150, 179, 180, 1380, 1410, 1439]),
    st.integers(0, DAY_MIN - 1),
)
WINDOWS = st.tuples(
    st.integers(0, 6), st.integers(0, 6), TIMES, TIMES, st.sampled_from(sorted(CHANGES))
)


@pytest.fixture(autouse=True, scope="module")
def _machine_zone() -> Iterator[None]:
    """Set the machine's zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = MACHINE
    time.tzset()
    yield
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def spelled(first: int, last: int, opens: int, closes: int, zone: str) -> str:
    """A window as the config has it; times in minutes of the day."""
    days = DAYS[first] if first == last else f"{DAYS[first]}-{DAYS[last]}"
    times = "-".join(f"{one // 60:02}:{one % 60:02}" for one in (opens, closes))
    return f"{days} {times} {zone}".rstrip()


def minutes(first: int, last: int, opens: int, closes: int) -> frozenset[int]:
    """The minutes of a week that clocks show while a window is open; 0 is Monday's first."""
    length = closes - opens if closes > opens else closes - opens + DAY_MIN
    days = [(first + ahead) % 7 for ahead in range((last - first) % 7 + 1)]
    return frozenset(
        (day * DAY_MIN + opens + ahead) % WEEK_MIN for day in days for ahead in range(length)
    )


def shown(zone: str, moment: dt.datetime) -> int:
    """The minute of the week that the zone's clocks show."""
    clock = moment.astimezone(ZoneInfo(zone or MACHINE))
    return clock.weekday() * DAY_MIN + clock.hour * 60 + clock.minute


@st.composite
def nights(draw: st.DrawFn) -> tuple[tuple[int, int, int, int, str], dt.datetime]:
    """Draw a window whose ends lie about a change of its zone's clocks, and a moment, too."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    change = dt.datetime.fromisoformat(draw(st.sampled_from(CHANGES[zone]))).replace(tzinfo=dt.UTC)
    about = shown(zone, change - dt.timedelta(minutes=1))
    opens, closes = (about + draw(st.integers(-12, 12)) * 10 for _ in range(2))
    day = opens // DAY_MIN % 7
    now = change + dt.timedelta(minutes=draw(st.integers(-180, 180)))
    return (day, day, opens % DAY_MIN, closes % DAY_MIN, zone), now


@st.composite
def whenever(draw: st.DrawFn) -> tuple[tuple[int, int, int, int, str], dt.datetime]:
    """Draw any window, and any moment of the days about any change."""
    change = draw(st.sampled_from(sorted({one for some in CHANGES.values() for one in some})))
    away = dt.timedelta(seconds=draw(st.integers(-9 * 86_400, 2 * 86_400)))
    return draw(WINDOWS), dt.datetime.fromisoformat(change).replace(tzinfo=dt.UTC) + away


CASES = st.one_of(nights(), nights(), whenever())


@given(WINDOWS)
def test_a_window_is_read_as_it_is_written(parts: tuple[int, int, int, int, str]) -> None:
    """Days, times and zone of any spelling are those that were meant."""
    first, last, opens, closes, zone = parts
    window = parse_window(spelled(*parts))
    assert window.days == {minute // DAY_MIN for minute in minutes(first, last, 0, 1)}
    assert window.opens == dt.time(*divmod(opens, 60))
    assert window.closes == dt.time(*divmod(closes, 60))
    assert window.zone == (ZoneInfo(zone) if zone else None)


@given(CASES)
def test_a_window_is_open_while_clocks_show_its_minutes(
    case: tuple[tuple[int, int, int, int, str], dt.datetime],
) -> None:
    """Over midnight, in any zone or the machine's: skipped minutes never come, others twice."""
    parts, now = case
    *times, zone = parts
    if zone == "Pacific/Apia" and now.year == 2011:
        return  # the night after a day that never was belongs to nobody
    assert parse_window(spelled(*parts)).is_open(now) == (shown(zone, now) in minutes(*times))


@given(st.lists(CASES, min_size=1, max_size=3))
def test_the_next_opening_is_the_first_open_minute(
    cases: list[tuple[tuple[int, int, int, int, str], dt.datetime]],
) -> None:
    """Of all windows, clocks that change included; None only where none opens in eight days."""
    windows = [parse_window(spelled(*parts)) for parts, _ in cases]
    now = cases[0][1]
    if may_act(windows, now):
        return
    opens = next_opening(windows, now)
    assert opens is None or (opens > now and may_act(windows, opens))
    minute = now.replace(second=0) + MINUTE
    while minute < (opens or now + dt.timedelta(days=8)):
        assert not may_act(windows, minute), minute
        minute += MINUTE


@given(st.lists(CASES, max_size=3), st.datetimes(timezones=st.just(dt.UTC)))
def test_what_binds_has_a_reason(
    cases: list[tuple[tuple[int, int, int, int, str], dt.datetime]], whenever: dt.datetime
) -> None:
    """Mode notify binds always, closed windows always, open ones and none at all never."""
    windows = [parse_window(spelled(*parts)) for parts, _ in cases]
    now = cases[0][1] if cases else whenever
    assert restraint("notify", windows, now) == Restraint("notify", "mode is notify")
    bound = restraint("auto", windows, now)
    assert (bound is None) == (not windows or any(one.is_open(now) for one in windows))
    opens = next_opening(windows, now)
    when = "no maintenance window" if opens is None else opens.isoformat(timespec="seconds")
    assert bound is None or (bound.reason == "window" and when in bound.detail)


BERLIN_SKIPS = dt.datetime(2027, 3, 28, 1, 0, tzinfo=dt.UTC)
"""Here 02:00 to 03:00 never comes on the Sunday."""
BERLIN_REPEATS = dt.datetime(2027, 10, 31, 1, 0, tzinfo=dt.UTC)
"""And here it begins for the second time."""
HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "now", "opens"),
    [
        # Its beginning is skipped, its end is not: open as soon as clocks show a time in it.
        ("Sun 02:30-04:00 Europe/Berlin", BERLIN_SKIPS - HOUR, BERLIN_SKIPS),
        ("Sun 02:30-03:15 Europe/Berlin", BERLIN_SKIPS - HOUR, BERLIN_SKIPS),
        # All of it is skipped: the next is a week later, and from the one before too far away.
        (
            "Sun 02:15-02:45 Europe/Berlin",
            BERLIN_SKIPS,
            BERLIN_SKIPS + dt.timedelta(days=6, hours=23, minutes=15),
        ),
        ("Sun 02:15-02:45 Europe/Berlin", BERLIN_SKIPS - dt.timedelta(days=7) + HOUR, None),
        # It comes twice.
        ("Sun 02:15-02:45 Europe/Berlin", BERLIN_REPEATS - HOUR / 4, BERLIN_REPEATS + HOUR / 4),
        # Its end comes twice.
        ("Sun 01:00-02:15 Europe/Berlin", BERLIN_REPEATS - HOUR / 2, BERLIN_REPEATS),
    ],
)
def test_windows_at_a_change_of_the_clocks(
    text: str, now: dt.datetime, opens: dt.datetime | None
) -> None:
    """In the night of the change a window opens when its zone's clocks first show a time in it."""
    window = parse_window(text)
    assert isinstance(window, Window)
    assert not window.is_open(now)
    assert next_opening([window], now) == opens
    bound = restraint("auto", [window], now)
    assert bound is not None
    if opens is None:
        assert bound.detail == "no maintenance window opens within eight days"


@pytest.mark.parametrize(
    ("text", "opens", "closes"),
    [
        ("Tue 09:00-17:30 UTC", "2027-01-12T09:00", "2027-01-12T17:30"),
        ("Tue 22:00-05:00 UTC", "2027-01-12T22:00", "2027-01-13T05:00"),
        ("Tue 22:00-00:00 UTC", "2027-01-12T22:00", "2027-01-13T00:00"),
        ("Tue 07:00-07:00 UTC", "2027-01-12T07:00", "2027-01-13T07:00"),
        ("Sun-Mon 22:00-05:00 Asia/Kolkata", "2027-01-11T16:30", "2027-01-11T23:30"),
    ],
)
def test_a_window_is_open_from_its_first_moment_to_before_its_last(
    text: str, opens: str, closes: str
) -> None:
    """To the second."""
    first, last = (dt.datetime.fromisoformat(f"{one}+00:00") for one in (opens, closes))
    second = dt.timedelta(seconds=1)
    window = parse_window(text)
    moments = (first - second, first, last - second, last)
    assert [window.is_open(one) for one in moments] == [False, True, True, False]
    assert window.opens_next(first - second) == first
