"""Reading one TOML table strictly: every key known, every value of its form, errors with a name.

Each ``take_*`` removes a key from the table; :meth:`Table.finish` refuses what is left.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from trust.errors import StoreError

T = TypeVar("T")

_MAX_SERIAL = 2**63 - 1
_MAX_TEXT_CHARACTERS = 1024


class Table:
    """A TOML table on its way to becoming a value.

    Args:
        values: The table as the parser gives it; it is not changed.
        what: What could not be done, the start of each message; it names the file.
        where: The table's place in the file, such as ``key[0]``; empty = the top.
    """

    def __init__(self, values: Mapping[str, object], *, what: str, where: str = "") -> None:
        self._values = dict(values)
        self._what = what
        self._where = where

    def refuse(self, name: str, got: object, expected: str) -> StoreError:
        """Return the error that says what one key holds and what it should.

        Args:
            name: The key; empty = the table itself.
            got: The value, quoted shortened and with control characters escaped.
            expected: What would have been right.
        """
        place = ".".join(part for part in (self._where, name) if part)
        shown = ascii(got)
        most = 80
        shown = shown if len(shown) <= most else shown[:most] + "…"
        place = f"{place}: " if place else ""
        return StoreError(f"{self._what}: {place}got {shown}, expected {expected}")

    def take(self, name: str) -> object:
        """Remove a key and return its value; None where it is missing."""
        return self._values.pop(name, None)

    def take_integer(self, name: str) -> int:
        """Take a required integer from 0 to 2^63-1."""
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SERIAL:
            raise self.refuse(name, value, f"an integer from 0 to {_MAX_SERIAL}")
        return value

    def take_text(self, name: str, default: str | None = None) -> str:
        """Take one line of printable text; required and not empty where there is no default."""
        value = self.take(name)
        if default is not None and value in (None, default):
            return default
        if not isinstance(value, str) or not is_one_line(value):
            raise self.refuse(
                name, value, f"one line of printable text, 1 to {_MAX_TEXT_CHARACTERS} characters"
            )
        return value

    def take_choice(self, name: str, choices: tuple[T, ...], default: T | None = None) -> T:
        """Take one of a few words; required where there is no default."""
        value = self.take(name)
        if value is None and default is not None:
            return default
        for choice in choices:
            if type(value) is type(choice) and value == choice:  # true is no 1
                return choice
        raise self.refuse(name, value, "one of " + ", ".join(map(repr, choices)))

    def take_match(self, name: str, pattern: re.Pattern[str], expected: str) -> str | None:
        """Take a text that matches a pattern as a whole; None where it is missing."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.refuse(name, value, expected)
        return value

    def take_time(self, name: str) -> datetime | None:
        """Take a date and time with an offset, in UTC; None where it is missing."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, datetime) and value.tzinfo is not None:
            try:
                return value.astimezone(UTC)
            except OverflowError:  # the first or last hours of the calendar, moved by the offset
                pass
        raise self.refuse(name, value, "a date and time with an offset, as 2027-02-22T00:00:00Z")

    def take_texts(
        self,
        name: str,
        valid: Callable[[str], bool],
        expected: str,
        *,
        may_be_empty: bool = False,
    ) -> tuple[str, ...] | None:
        """Take a list of texts, each of which is valid and none twice; None where missing."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, list) or not (value or may_be_empty):
            raise self.refuse(name, value, f"a list, each item {expected}")
        for index, item in enumerate(value):
            if not isinstance(item, str) or not valid(item):
                raise self.refuse(f"{name}[{index}]", item, expected)
            if item in value[:index]:
                raise self.refuse(f"{name}[{index}]", item, "each item once")
        return tuple(value)

    def take_tables(self, name: str) -> list["Table"]:
        """Take an array of tables; none where it is missing."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refuse(name, value, f"tables that start with [[{name}]]")
        tables = []
        for index, item in enumerate(value):
            place = f"{name}[{index}]"
            if not isinstance(item, dict):
                raise self.refuse(place, item, f"a table that starts with [[{name}]]")
            tables.append(Table(item, what=self._what, where=place))
        return tables

    def finish(self, allowed: str) -> None:
        """Refuse the first key nobody took.

        Args:
            allowed: The keys of such a table, for the message.

        Raises:
            StoreError: There is one.
        """
        if self._values:
            raise self.refuse("", min(self._values), f"no key but {allowed}")


def is_one_line(text: str) -> bool:
    """Say whether a text is short, printable, and without line breaks or control characters."""
    return 0 < len(text) <= _MAX_TEXT_CHARACTERS and text.isprintable()
