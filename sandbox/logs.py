"""What each plugin said lately: kept in a ring, and held to a rate."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sandbox.log import WARN, LogRecord

RECORDS_PER_S = 200
"""How fast a plugin may log in the long run."""

BURST_RECORDS = 2_000
"""How much it may log at once after it was silent."""

KEPT_RECORDS = 1_000
"""How many of a plugin's records are kept."""

KEPT_CHARACTERS = 262_144
"""How long their messages may be together."""


@dataclass(slots=True)
class _Kept:
    """One plugin's: how many records it may log at once, as of when, and how many were dropped."""

    since_s: float
    left: float = BURST_RECORDS
    dropped: int = 0
    ring: deque[LogRecord] = field(default_factory=deque)
    characters: int = 0

    def keep(self, record: LogRecord) -> None:
        """Put a record into the ring, the oldest ones out."""
        self.ring.append(record)
        self.characters += len(record.message)
        while len(self.ring) > KEPT_RECORDS or self.characters > KEPT_CHARACTERS:
            self.characters -= len(self.ring.popleft().message)


class PluginLogs:
    """Takes the records of all plugins of a sandbox; from any thread.

    The budget of a call bounds what one call says; the rate here bounds what many do. A plugin
    that is too fast is told so once, and how much was dropped when it goes on.

    Args:
        forward: Takes each record that is let through; None = nobody.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        forward: Callable[[LogRecord], None] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forward = forward
        self._clock = clock
        self._lock = threading.Lock()
        self._plugins: dict[str, _Kept] = {}

    def take(self, record: LogRecord) -> None:
        """Keep a record and pass it on, if the plugin's rate allows it."""
        for one in self._admitted(record):
            if self._forward is not None:
                self._forward(one)

    def lately(self, plugin_id: str) -> tuple[LogRecord, ...]:
        """The last records of a plugin, oldest first; none where it said nothing."""
        with self._lock:
            kept = self._plugins.get(plugin_id)
            return tuple(kept.ring) if kept is not None else ()

    def _admitted(self, record: LogRecord) -> tuple[LogRecord, ...]:
        """The record, a note before it or in its place, or nothing."""
        now_s = self._clock()
        with self._lock:
            kept = self._plugins.get(record.plugin_id)
            if kept is None:
                kept = self._plugins[record.plugin_id] = _Kept(now_s)
            kept.left = min(BURST_RECORDS, kept.left + (now_s - kept.since_s) * RECORDS_PER_S)
            kept.since_s = now_s
            admitted = _let_through(kept, record)
            for one in admitted:
                kept.keep(one)
        return admitted


def _let_through(kept: _Kept, record: LogRecord) -> tuple[LogRecord, ...]:
    if kept.left < 1:
        kept.dropped += 1
        if kept.dropped > 1:
            return ()
        return (_note(record, f"more than {RECORDS_PER_S} records a second, the rest is dropped"),)
    kept.left -= 1
    if not kept.dropped:
        return (record,)
    note = _note(record, f"{kept.dropped} records were dropped")
    kept.dropped = 0
    return note, record


def _note(record: LogRecord, text: str) -> LogRecord:
    return LogRecord(record.plugin_id, WARN, text, "sandbox", record.at_s)
