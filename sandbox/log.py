"""What plugins say: records with their control characters escaped, bounded per call."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

TRACE, DEBUG, INFO, WARN, ERROR = range(5)
"""The levels of ``host_log``; a record's level is clamped to them."""

LONGEST_RECORD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line from a plugin.

    Attributes:
        plugin_id: Who said it.
        level: 0 trace, 1 debug, 2 info, 3 warn, 4 error.
        message: One line; what a terminal could act on is escaped.
        source: ``host_log``, ``stdout`` or ``stderr``; ``sandbox`` for a note of our own.
        at_s: When, in seconds since the epoch.
    """

    plugin_id: str
    level: int
    message: str
    source: str
    at_s: float = field(default_factory=time.time, compare=False)


def escape_text(text: str) -> str:
    r"""Text that is safe to show: each character that does not print becomes ``\x1b``, ``\u202e``.

    That covers terminal escapes, line ends, and characters that turn the reading direction.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class CallLog:
    """The log of one call: joins the lines of stdout and stderr, keeps to the byte budget.

    Args:
        plugin_id: For the records.
        budget_bytes: What the call may log; one record says when the rest is dropped.
        emit: Takes each record.
    """

    __slots__ = ("_emit", "_left_bytes", "_lines", "_plugin_id")

    def __init__(
        self, plugin_id: str, budget_bytes: int, emit: Callable[[LogRecord], None]
    ) -> None:
        self._plugin_id = plugin_id
        self._left_bytes = budget_bytes
        self._emit = emit
        self._lines: dict[str, bytearray] = {}

    def record(self, level: int, message: bytes, source: str) -> None:
        """Log one message, cut at ``LONGEST_RECORD_BYTES``."""
        if self._left_bytes <= 0:
            return
        message = message[:LONGEST_RECORD_BYTES]
        # an empty line costs too, or they would be free
        self._left_bytes -= len(message) + 1
        if self._left_bytes <= 0:
            note = "the log of this call is full, the rest is dropped"
            self._emit(LogRecord(self._plugin_id, WARN, note, "sandbox"))
            return
        text = escape_text(message.decode("utf-8", "replace"))
        self._emit(LogRecord(self._plugin_id, max(TRACE, min(level, ERROR)), text, source))

    def write(self, source: str, data: bytes) -> None:
        """Take bytes of a stream; every whole line becomes a record."""
        if self._left_bytes <= 0:
            return
        line = self._lines.setdefault(source, bytearray())
        # what the budget cannot hold is not kept either
        line += data[: self._left_bytes + LONGEST_RECORD_BYTES]
        *whole, rest = bytes(line).split(b"\n")
        for message in whole:
            self.record(INFO, message, source)
        while len(rest) > LONGEST_RECORD_BYTES:
            self.record(INFO, rest[:LONGEST_RECORD_BYTES], source)
            rest = rest[LONGEST_RECORD_BYTES:]
        self._lines[source] = bytearray(rest)

    def flush(self) -> None:
        """Log the lines that had no end when the call was over."""
        for source, line in self._lines.items():
            if line:
                self.record(INFO, bytes(line), source)
        self._lines.clear()
