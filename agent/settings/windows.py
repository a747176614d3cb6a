"""Maintenance windows: when the service may take what it found (contract §6); pure.

A window is open while the clock of its zone, or else of the machine, shows a time in it: a time
that a change of the clocks skips never comes, and one that comes twice counts twice.
"""

import datetime as dt
import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MINUTE = dt.timedelta(minutes=1)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = f"(?:{'|'.join(_DAYS)})"
_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_ZONE = "[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}"
_WINDOW = re.compile(rf"({_DAY})(?:-({_DAY}))? ({_TIME})-({_TIME})(?: ({_ZONE}))?")


@dataclass(frozen=True, slots=True)
class Window:
    """One entry of ``update.windows``.

    Attributes:
        days: The days on which it opens; 0 is Monday.
        opens: Time of day.
        closes: Time of day, of the next day where it is not later than ``opens``.
        zone: None for the machine's.
    """

    days: frozenset[int]
    opens: dt.time
    closes: dt.time
    zone: ZoneInfo | None

    def is_open(self, now: dt.datetime) -> bool:
        """Whether the zone's clock shows a time in it; ``now`` in UTC."""
        shown = now.astimezone(self.zone)
        today, time = shown.weekday(), shown.time()
        if self.opens < self.closes:
            return today in self.days and self.opens <= time < self.closes
        began_yesterday = (today - 1) % 7 in self.days and time < self.closes
        return began_yesterday or (today in self.days and time >= self.opens)

    def opens_next(self, now: dt.datetime) -> dt.datetime | None:
        """When it opens, to the minute and in UTC, where it is closed ``now``.

        Returns:
            None: Not within eight days, as where a change of the clocks skips its only hour.
        """
        today = now.astimezone(self.zone).date()
        for day in (today + dt.timedelta(days=ahead) for ahead in range(9)):
            # A change of the clocks at midnight may be the beginning of the next day's.
            if not self.days.isdisjoint((day.weekday() + near) % 7 for near in (-1, 0, 1)):
                ahead = (one for one in self._moments(day) if one > now and self.is_open(one))
                if first := min(ahead, default=None):
                    return first
        return None

    def _moments(self, day: dt.date) -> Iterator[dt.datetime]:
        """When it could open on a day: at its time, each time that comes, or as clocks change."""
        if day.weekday() in self.days:
            for fold in (0, 1):
                yield self._at(day, self.opens.replace(fold=fold))
        start, end = (self._at(one, dt.time()) for one in (day, day + dt.timedelta(days=1)))
        before = self._offset(start)
        if self._offset(end) != before:
            minutes = range((end - start) // _MINUTE)
            first = bisect(minutes, 0, key=lambda m: self._offset(start + m * _MINUTE) != before)
            yield start + first * _MINUTE

    def _at(self, day: dt.date, time: dt.time) -> dt.datetime:
        # Without a zone this is naive, which ``astimezone`` takes for the machine's time.
        return dt.datetime.combine(day, time, self.zone).astimezone(dt.UTC)

    def _offset(self, moment: dt.datetime) -> dt.timedelta | None:
        return moment.astimezone(self.zone).utcoffset()


def parse_window(text: str) -> Window:
    """Read ``Mon-Fri 22:00-05:00 Europe/Berlin``; the last day and the zone may be absent.

    Raises:
        ValueError: It is no window, or the system knows no such zone.
    """
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(text)
    first, last, opens, closes, zone = match.groups()
    start = _DAYS.index(first)
    count = (_DAYS.index(last or first) - start) % 7 + 1
    try:
        known = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, OSError) as error:  # a folder of zones is an OSError
        raise ValueError(text) from error
    return Window(
        frozenset((start + ahead) % 7 for ahead in range(count)),
        dt.time.fromisoformat(opens),
        dt.time.fromisoformat(closes),
        known,
    )


def may_act(windows: Sequence[Window], now: dt.datetime) -> bool:
    """Whether a window is open, or there is none to wait for; ``now`` in UTC."""
    return not windows or any(one.is_open(now) for one in windows)


def next_opening(windows: Iterable[Window], now: dt.datetime) -> dt.datetime | None:
    """When a window opens, in UTC, where none is open ``now``; see ``Window.opens_next``."""
    ahead = (opens for one in windows if (opens := one.opens_next(now)) is not None)
    return min(ahead, default=None)


def read_windows(texts: Iterable[str]) -> tuple[Window, ...]:
    """The windows of a config, which were found to be some when it was read."""
    return tuple(parse_window(text) for text in texts)
