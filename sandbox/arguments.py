"""Arguments of a call, checked against the signature before a guest exists. Pure."""

import math
from collections.abc import Sequence

from sandbox.errors import ArgumentError
from sandbox.signature import Signature

Argument = str | int | float | bytes
Lowered = bytes | int | float

_BITS = {"i32": 32, "i64": 64}


def lower(func: str, signature: Signature, arguments: Sequence[Argument]) -> list[Lowered]:
    """What crosses the border: bytes for text, numbers as they are.

    Args:
        func: For messages.
        signature: What the function takes.
        arguments: Text for ``string`` and ``bytes``; numbers, or their text, for numbers.

    Raises:
        ArgumentError: The wrong number of them, or one that doesn't fit its type.
    """
    kinds = signature.params
    if signature.variadic:
        kinds = kinds[:1] * len(arguments)
    if len(arguments) != len(kinds):
        raise ArgumentError(
            f"cannot call {func}: got {len(arguments)} arguments, "
            f"expected {len(kinds)}: {signature}"
        )
    return [
        _lower(func, place, kind, argument)
        for place, (kind, argument) in enumerate(zip(kinds, arguments, strict=True), 1)
    ]


def argv(func: str, stem: str, lowered: Sequence[Lowered]) -> tuple[str, ...]:
    """A command's argument vector: the stem, then the arguments.

    Raises:
        ArgumentError: An argument holds a NUL, which would end it.
    """
    vector = [stem]
    for place, item in enumerate(lowered, 1):
        text = item.decode("utf-8") if isinstance(item, bytes) else str(item)
        if "\0" in text:
            raise _wrong(func, place, text, "text without NUL")
        vector.append(text)
    return tuple(vector)


def _lower(func: str, place: int, kind: str, argument: Argument) -> Lowered:
    if kind == "string" and isinstance(argument, str):
        try:
            return argument.encode("utf-8")
        except UnicodeEncodeError:
            raise _wrong(func, place, argument, "text that UTF-8 can carry") from None
    if kind == "bytes" and isinstance(argument, bytes | str):
        return (
            argument.encode("utf-8", "surrogateescape") if isinstance(argument, str) else argument
        )
    if kind in _BITS:
        return _integer(func, place, kind, argument)
    if kind in {"f32", "f64"}:
        return _float(func, place, kind, argument)
    raise _wrong(func, place, argument, kind)


def _integer(func: str, place: int, kind: str, argument: Argument) -> int:
    if isinstance(argument, str):
        try:
            argument = int(argument)
        except ValueError:
            raise _wrong(func, place, argument, kind) from None
    bits = _BITS[kind]
    # bool is an int in Python; unsigned values are taken for the same bits
    if isinstance(argument, bool) or not isinstance(argument, int):
        raise _wrong(func, place, argument, kind)
    if not -(2 ** (bits - 1)) <= argument < 2**bits:
        raise _wrong(func, place, argument, f"{kind}: {bits} bits")
    return argument


def _float(func: str, place: int, kind: str, argument: Argument) -> float:
    if isinstance(argument, bool | bytes):
        raise _wrong(func, place, argument, kind)
    try:
        value = float(argument)
    except (ValueError, OverflowError):
        raise _wrong(func, place, argument, kind) from None
    if isinstance(argument, str) and not math.isfinite(value):
        raise _wrong(func, place, argument, f"a finite {kind}")
    return value


def _wrong(func: str, place: int, argument: object, expected: str) -> ArgumentError:
    shown = repr(argument)[:80]
    return ArgumentError(f"cannot call {func}: argument {place}: got {shown}, expected {expected}")
