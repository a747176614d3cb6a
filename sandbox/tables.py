"""Typed reading of a manifest's tables, with errors that name the file and the key. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import overload

from sandbox.errors import ManifestError

_MOST_ITEMS = 256
_LONGEST_WORD = 128
_SHOWN_CHARACTERS = 80


class Table:
    """One table of a manifest: every getter checks the type and says where it failed.

    A table that the file does not have reads as an empty one with ``present`` False.
    Iterating gives the keys in the file's order.
    """

    def __init__(
        self, values: Mapping[str, object], file: str, path: str = "", *, present: bool = True
    ) -> None:
        self.file = file
        self.present = present
        self._values = values
        self._path = path

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def value(self, key: str) -> object:
        """What the file says, of any type; None where it says nothing."""
        return self._values.get(key)

    def wrong(self, key: str, got: object, expected: str) -> ManifestError:
        """The error that refuses a key's value."""
        shown = repr(got)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + "..."
        return ManifestError(
            f"cannot use {self.file}: {self._name(key)}: got {shown}, expected {expected}"
        )

    def only(self, allowed: Collection[str]) -> None:
        """Refuse every key that is not allowed."""
        for key in self._values:
            if key not in allowed:
                raise ManifestError(
                    f"cannot use {self.file}: unknown key {self._name(key)!r}; "
                    f"allowed here: {', '.join(sorted(allowed))}"
                )

    def table(self, key: str, *, required: bool = False) -> "Table":
        """A table within this one."""
        value = self._required(key) if required else self._values.get(key)
        if value is None:
            return Table({}, self.file, self._name(key), present=False)
        if not isinstance(value, dict):
            raise self.wrong(key, value, "a table")
        return Table(value, self.file, self._name(key))

    @overload
    def text(self, key: str) -> str: ...
    @overload
    def text(self, key: str, *, default: str) -> str: ...
    @overload
    def text(self, key: str, *, default: None) -> str | None: ...
    def text(self, key: str, *, default: str | None = "") -> str | None:
        """A string; without a default the key is required (an empty one is no text)."""
        if default != "" and key not in self._values:
            return default
        value = self._required(key)
        if not isinstance(value, str) or (not value and default == ""):
            raise self.wrong(key, value, "a string that is not empty" if not value else "a string")
        return value

    def matching(
        self, key: str, pattern: re.Pattern[str], expected: str, *, longest: int = _LONGEST_WORD
    ) -> str:
        """A required string that matches a pattern as a whole."""
        value = self.text(key)
        if len(value) > longest or pattern.fullmatch(value) is None:
            raise self.wrong(key, value, f"{expected} of at most {longest} characters")
        return value

    def choice(self, key: str, words: Sequence[str], *, default: str = "") -> str:
        """One of the words; required where there is no default."""
        value = self.text(key, default=default) if default else self.text(key)
        if value not in words:
            raise self.wrong(key, value, f"one of {', '.join(words)}")
        return value

    def integer(self, key: str, *, default: int | None = None) -> int:
        """A whole number from 1 to 2**63 - 1; required where there is no default."""
        value = self._values.get(key, default)
        # bool is an int in Python
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63:
            raise self.wrong(key, value, "a whole number from 1 to 2^63 - 1")
        return value

    def items(self, key: str) -> list[object]:
        """An array, empty where the file has none."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or len(value) > _MOST_ITEMS:
            raise self.wrong(key, value, f"an array of at most {_MOST_ITEMS} items")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings, empty where the file has none."""
        texts = []
        for value in self.items(key):
            if not isinstance(value, str):
                raise self.wrong(key, value, "strings")
            texts.append(value)
        return tuple(texts)

    def names(
        self, key: str, pattern: re.Pattern[str], expected: str, *, required: bool = False
    ) -> tuple[str, ...]:
        """An array of distinct strings that each match a pattern."""
        if required:
            self._required(key)
        names = self.texts(key)
        for place, name in enumerate(names):
            if pattern.fullmatch(name) is None:
                raise self.wrong(key, name, expected)
            if name in names[:place]:
                raise self.wrong(key, name, "each name once")
        return names

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _required(self, key: str) -> object:
        if key not in self._values:
            raise ManifestError(f"cannot use {self.file}: missing key {self._name(key)!r}")
        return self._values[key]
