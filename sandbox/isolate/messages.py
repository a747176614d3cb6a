"""What host and child say to each other, as values and as frames. Pure.

The host does not believe a child: whatever it reads is checked to be one of these, with every
number in its range, and the text in it is made harmless. Anything else is a ``FrameError``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.arguments import Lowered
from sandbox.errors import (
    CallError,
    CallStats,
    CapabilityDenied,
    DeadlineExceeded,
    FuelExhausted,
    GuestExit,
    GuestTrap,
    MemoryExceeded,
    MissingExport,
    SandboxError,
)
from sandbox.isolate.wire import Frame, FrameError
from sandbox.log import ERROR, LONGEST_RECORD_BYTES, TRACE, escape_text
from sandbox.result import CallResult, Value

_LARGEST = 2**64
_LONGEST_TEXT = 4_000
_CALL_PARTS = [int, float, str, bool, bool, list]
_RESULT_PARTS, _FIGURES = 5, 3
_NUMBERS = {"int": int, "float": float}
_MOST_ARGUMENTS = 64
_PLAIN: dict[str, type[SandboxError]] = {
    kind.__name__: kind
    for kind in (FuelExhausted, MemoryExceeded, DeadlineExceeded, MissingExport, SandboxError)
}
_SOURCES = ("host_log", "stdout", "stderr", "sandbox")


@dataclass(frozen=True, slots=True)
class Call:
    """Host to child: run a function.

    Attributes:
        number: No other call of this child has it.
        started_s: When the call began, on the clock of ``time.monotonic()``, which is the
            same in both processes.
        func: The function, or what a message calls it where there is none.
        enters: False = only instantiate.
        throw_away: See ``Request``.
        args: Text as bytes.
    """

    number: int
    started_s: float
    func: str
    enters: bool
    throw_away: bool
    args: tuple[Lowered, ...]

    def frame(self) -> Frame:
        """As a frame."""
        spelled, tail = _spell(self.args)
        told = [self.number, self.started_s, self.func, self.enters, self.throw_away]
        return ["call", *told, spelled], tail


def read_call(frame: Frame) -> Call:
    """A call; the child believes its host.

    Raises:
        FrameError: It is none.
    """
    header, tail = frame
    if header[0] == "call" and [type(part) for part in header[1:]] == _CALL_PARTS:
        _, number, at, func, enters, apart, spelled = header
        return Call(number, at, func, enters, apart, _unspell(spelled, tail))
    raise FrameError("no call")


@dataclass(frozen=True, slots=True)
class Said:
    """Child to host: the guest logs."""

    level: int
    source: str
    message: str

    def frame(self) -> Frame:
        """As a frame."""
        return ["said", self.level, self.source], self.message.encode("utf-8")


@dataclass(frozen=True, slots=True)
class Asked:
    """Child to host: the guest calls a function of the application."""

    name: str
    arguments: tuple[object, ...]

    def frame(self) -> Frame:
        """As a frame: text is bytes, and is text again by the function's form."""
        lowered = [a.encode("utf-8") if isinstance(a, str) else a for a in self.arguments]
        spelled, tail = _spell(lowered)  # type: ignore[arg-type]  # str, bytes and numbers only
        return ["asked", self.name, spelled], tail


@dataclass(frozen=True, slots=True)
class Uses:
    """Child to host: may the guest use this capability now? The answer is why not, or None."""

    word: str

    def frame(self) -> Frame:
        """As a frame."""
        return ["uses", self.word], b""


@dataclass(frozen=True, slots=True)
class Ended:
    """Child to host: the call is over.

    Attributes:
        result: What it gave; None where it failed.
        error: Why it failed.
    """

    result: CallResult | None
    error: SandboxError | None = None

    def frame(self) -> Frame:
        """As a frame."""
        if self.result is not None:
            return _frame_of_result(self.result)
        return _frame_of_error(self.error or SandboxError("cannot finish the call"))


Told = Said | Asked | Uses | Ended


def read_told(frame: Frame) -> Told:
    """What a child says.

    Raises:
        FrameError: It is none of these.
    """
    header, tail = frame
    if header[0] == "result":  # most words are, so it is looked for apart
        return Ended(_result(header, tail))
    match header:
        case ["said", int(level), str(source)] if level in range(TRACE, ERROR + 1):
            if source in _SOURCES and len(tail) <= 16 * LONGEST_RECORD_BYTES:
                return Said(level, source, escape_text(_text(tail)))
        case ["asked", str(name), list(spelled)] if len(spelled) <= _MOST_ARGUMENTS:
            return Asked(name, _unspell(spelled, tail))
        case ["uses", str(word)] if not tail:
            return Uses(word)
        case ["error", str(kind), extra, list(used)] if len(tail) <= _LONGEST_TEXT:
            return Ended(None, _error(kind, extra, used, tail.decode("utf-8", "replace")))
    raise FrameError("no word of a child")


def answer_frame(text: str | None) -> Frame:
    """Host to child: what the function told; None = the call is to end."""
    return ["answer", text is not None], (text or "").encode("utf-8", "surrogatepass")


def read_answer(frame: Frame) -> str | None:
    """What the host answered.

    Raises:
        FrameError: It is no answer.
    """
    match frame[0]:
        case ["answer", bool(goes_on)]:
            return frame[1].decode("utf-8", "surrogatepass") if goes_on else None
    raise FrameError("no answer")


def _frame_of_result(result: CallResult) -> Frame:
    value, stderr = result.value, result.stderr.encode("utf-8")
    kind, number, data = "none", None, b""
    if isinstance(value, str):
        kind, data = "str", value.encode("utf-8")
    elif isinstance(value, bytes):
        kind, data = "bytes", value
    elif isinstance(value, int | float):
        kind, number = "int" if isinstance(value, int) else "float", value
    used = [result.fuel_used, result.memory_peak_bytes, result.took_ms]
    return ["result", kind, number, len(data), used], data + stderr


def _result(header: list[Any], tail: bytes) -> CallResult:
    if len(header) != _RESULT_PARTS or type(header[1]) is not str:
        raise FrameError("no word of a child")
    kind, number, of_value, used = header[1:]
    stats = _stats(used)
    if not (_is_count(of_value) and of_value <= len(tail)):
        raise FrameError("a value that is longer than its frame")
    data = tail[:of_value]
    value: Value = None
    if kind == "str":
        value = _text(data)
    elif kind == "bytes":
        value = data
    elif kind in _NUMBERS:
        if not _is_number(number) or type(number) is not _NUMBERS[kind]:
            raise FrameError("a result that is no number")
        value = number  # type: ignore[assignment]  # just checked
    elif kind != "none":
        raise FrameError("a result of no kind")
    stderr = tail[of_value:].decode("utf-8", "replace")
    return CallResult(value, stats.fuel_used, stats.memory_peak_bytes, stats.took_ms, stderr)


def _frame_of_error(error: SandboxError) -> Frame:
    extra: object = None
    kind = type(error).__name__
    stats = error.stats if isinstance(error, CallError) else CallStats()
    if isinstance(error, GuestTrap):
        kind, extra = "GuestTrap", error.code
    elif isinstance(error, CapabilityDenied):
        extra = error.capability
    elif isinstance(error, GuestExit):
        extra = error.code
    elif kind not in _PLAIN:
        kind = "SandboxError"
    used = [stats.fuel_used, stats.memory_peak_bytes, stats.took_ms]
    text = str(error).encode("utf-8", "replace")[:_LONGEST_TEXT]
    return ["error", kind, extra, used], text


def _error(kind: str, extra: object, used: Any, message: str) -> SandboxError:  # noqa: ANN401  # a child's JSON
    message = escape_text(message)
    error: SandboxError | None = None
    if isinstance(extra, str) and len(extra) <= _MOST_ARGUMENTS:
        if kind == "GuestTrap":
            error = GuestTrap(message, code=escape_text(extra))
        elif kind == "CapabilityDenied":
            error = CapabilityDenied(message, capability=escape_text(extra))
    elif kind == "GuestExit" and _is_count(extra):
        error = GuestExit(message, code=extra)  # type: ignore[arg-type]  # just checked
    elif extra is None and kind in _PLAIN:
        error = _PLAIN[kind](message)
    if error is None:
        raise FrameError("an error of no kind")
    if isinstance(error, CallError):
        error.stats = _stats(used)
    return error


def _stats(used: Any) -> CallStats:  # noqa: ANN401  # a child's JSON
    if type(used) is list and len(used) == _FIGURES:
        fuel, memory, took = used
        if _is_count(fuel) and _is_count(memory) and type(took) is float and 0 <= took < math.inf:
            return CallStats(fuel, memory, took)
    raise FrameError("figures that are none")


def _spell(values: Sequence[Lowered]) -> tuple[list[Any], bytes]:
    """Values as JSON: numbers as they are, bytes as a list that holds their length."""
    spelled = [[len(value)] if isinstance(value, bytes) else value for value in values]
    return spelled, b"".join(value for value in values if isinstance(value, bytes))


def _unspell(spelled: Sequence[object], tail: bytes) -> tuple[Lowered, ...]:
    values: list[Lowered] = []
    at = 0
    for item in spelled:
        length = item[0] if isinstance(item, list) and len(item) == 1 else None
        if type(length) is int and 0 <= length <= len(tail) - at:
            values.append(tail[at : at + length])
            at += length
        elif _is_number(item):
            values.append(item)  # type: ignore[arg-type]  # just checked
        else:
            raise FrameError("an argument that is none")
    if at != len(tail):
        raise FrameError("bytes that are no argument's")
    return tuple(values)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError("text that is not UTF-8") from error


def _is_number(value: object) -> bool:
    if isinstance(value, bool):  # which is an int in Python
        return True
    return isinstance(value, float) or (isinstance(value, int) and -_LARGEST <= value <= _LARGEST)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST
