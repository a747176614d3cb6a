"""Durations as the config writes them: ``90s``, ``10m``, ``1h30m``, ``7d``; pure."""

import re

_UNIT_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_GRAMMAR = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds of a duration.

    Args:
        text: Units d, h, m, s in this order, each at most once, at least one.

    Returns:
        Whole seconds, 0 or more.

    Raises:
        ValueError: Anything else.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None or not text:
        raise ValueError(f'cannot read the duration {text!r}: expected one like "90s" or "1h30m"')
    return sum(
        int(number) * seconds
        for number, seconds in zip(match.groups(), _UNIT_S.values(), strict=True)
        if number
    )


def format_duration(seconds: float) -> str:
    """The shortest exact spelling of a number of seconds; fractions are rounded up."""
    left = -int(-seconds // 1)
    if left <= 0:
        return "0s"
    parts = []
    for unit, size in _UNIT_S.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
