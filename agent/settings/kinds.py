"""What values of ``plugin-host.toml`` may be: each kind's name, and the conversion; pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agent.durations import parse_duration
from agent.pipeline.requirement import parse_requirement
from agent.settings.outside import address, command
from sandbox.grammar import CAPABILITY

CAPABILITIES = ("log", "retrieval", "llm", "plan", "network", "fs_read")
"""The sandbox's own; an application that registers host functions brings further words."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be: its name for messages, and the conversion that refuses the rest."""

    allowed: str
    convert: Callable[[object], Any]
    is_text: bool = False


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _positive(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63:
        raise ValueError
    return value


def _seconds(value: object) -> int:
    return parse_duration(_text(value))


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _windows(value: object) -> tuple[str, ...]:
    from agent.settings.windows import parse_window  # zones are read by the few that have some

    windows = _texts(value)
    for window in windows:
        parse_window(window)
    return windows


def _capabilities(value: object) -> tuple[str, ...]:
    words = _texts(value)
    if any(CAPABILITY.fullmatch(word) is None for word in words):
        raise ValueError
    return words


def _choice(*words: str) -> Kind:
    def convert(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind(" | ".join(words), convert, is_text=True)


def _requirement(value: object) -> str:
    parse_requirement(_text(value))
    return _text(value)


def _channel(value: object) -> str:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", _text(value)) is None:
        raise ValueError
    return _text(value)


def _moment(value: object) -> str:
    """A TOML date-time with an offset, kept as ISO text (or the word forever)."""
    import datetime as dt

    if value == "forever":
        return "forever"
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        raise TypeError
    return value.isoformat()


def _scalars(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    for name, item in value.items():
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(name)) is None:
            raise ValueError
        if not isinstance(item, str | int | float | bool):
            raise TypeError
    return MappingProxyType(dict(value))


TEXT = Kind("text", _text, is_text=True)
FLAG = Kind("true or false", _flag)
COUNT = Kind("a whole number of at least 1", _positive)
TIMEOUT = Kind('a duration of at least "1s"', lambda v: _positive(_seconds(v)), is_text=True)
DURATION = Kind('a duration like "90s" or "1h30m"', _seconds, is_text=True)
TEXTS = Kind("a list of texts", _texts)
COMMAND = Kind("a list: a program (NAME or /PATH), its arguments", lambda v: command(_texts(v)))
ADDRESS = Kind("an https:// address", lambda v: address(_text(v)), is_text=True)
WINDOWS = Kind('a list of times like "Mon-Fri 22:00-05:00 Europe/Berlin"', _windows)
WORDS = Kind(
    f"a list of {', '.join(CAPABILITIES)} and words of applications' own (a-z, 0-9, _)",
    _capabilities,
)
MODE = _choice("auto", "notify", "manual")
ISOLATION = _choice("process", "inline")
GROUP_ACCESS = _choice("read", "full")
REQUIREMENT = Kind('a version requirement like "^0.2"', _requirement, is_text=True)
CHANNEL = Kind("a tag's name", _channel, is_text=True)
MOMENT = Kind('a date-time like 2027-01-31T08:00:00Z, or "forever"', _moment)
SCALARS = Kind("a table of texts, numbers and booleans", _scalars)
