"""Arguments and results of calls in JSON; pure.

Text and numbers are themselves. What JSON has no word for is an object with one key:
``{"base64": "…"}`` for bytes, ``{"float": "nan" | "inf" | "-inf"}`` for numbers that are none.
"""

import base64
import binascii
import math

Value = str | int | float | bytes
LEVELS = ("trace", "debug", "info", "warn", "error")
"""The words for the levels of a log record."""
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Value | None) -> object:
    """How a value is written."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def from_json(data: object) -> Value:
    """The value that is written so.

    Raises:
        ValueError: It is none; says what was got.
    """
    if isinstance(data, str | int | float) and not isinstance(data, bool):
        return data
    if isinstance(data, dict) and len(data) == 1:
        ((kind, text),) = data.items()
        if kind == "float" and isinstance(text, str) and text in _FLOATS:
            return _FLOATS[text]
        if kind == "base64" and isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                pass  # told below, like all that is no value
    shown = repr(data)[:80]
    raise ValueError(f'got {shown}, expected text, a number or {{"base64": "…"}}')
