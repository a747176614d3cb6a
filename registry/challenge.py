"""What a registry asks for: the ``WWW-Authenticate`` header of RFC 9110, §11.6.1. Pure.

Registries send several challenges in one header, values without quotes, and lists in such values;
all are read. What makes no sense ends the reading: what came before it stands.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MAX_CHARS = 8192
_BETWEEN = re.compile(r"[ \t,]*")
_WORD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r'[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z)")
_ESCAPE = re.compile(r"\\(.)")
_AFTER_SCHEME = {"", " ", "\t", ","}
_ACTIONS = {"pull", "push", "delete", "*"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate.

    Attributes:
        scheme: ``basic``, ``bearer``, …: in lower case.
        parameters: By name in lower case; of a name given twice the first.
    """

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a ``WWW-Authenticate`` header; several lines of it are joined by commas.

    Args:
        header: Its value; what is beyond 8 KiB is not read.
    """
    header = header[:_MAX_CHARS]
    found: list[tuple[str, dict[str, str]]] = []
    # Of an unquoted scope: the words that follow it belong to it and are no schemes.
    listed: str | None = None
    place = 0
    while word := _WORD.match(header, _past(header, place)):
        place = word.end()
        name = word[0].lower()
        value = _VALUE.match(header, place)
        if value is not None and found:
            place = value.end()
            text = _ESCAPE.sub(r"\1", value[1]) if value[2] is None else value[2]
            parameters = found[-1][1]
            listed = name if value[2] is not None and name not in parameters else None
            parameters.setdefault(name, text)
        elif listed == "scope" and name in _ACTIONS:
            found[-1][1]["scope"] += f",{name}"
        elif header[place : place + 1] not in _AFTER_SCHEME:
            break
        else:
            listed = None
            found.append((name, {}))
            if token68 := _TOKEN68.match(header, place):
                place = token68.end()
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def _past(header: str, place: int) -> int:
    between = _BETWEEN.match(header, place)
    return place if between is None else between.end()
