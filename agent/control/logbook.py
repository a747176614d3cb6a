"""What the plugins of the service say: numbered, bounded, and sorted out by call."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.telemetry import log_record
from sandbox import LogRecord
from sandbox.logs import KEPT_CHARACTERS, KEPT_RECORDS


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, and its place among those of all plugins."""

    number: int
    record: LogRecord


@dataclass(slots=True)
class _Ring:
    entries: deque[Entry] = field(default_factory=deque)
    characters: int = 0

    def keep(self, entry: Entry) -> None:
        """Put an entry in, the oldest ones out."""
        self.entries.append(entry)
        self.characters += len(entry.record.message)
        while len(self.entries) > KEPT_RECORDS or self.characters > KEPT_CHARACTERS:
            self.characters -= len(self.entries.popleft().record.message)


class _Call(threading.local):
    """What the call on this thread has said; None outside of one that is listened to."""

    records: list[LogRecord] | None = None


class LogBook:
    """Keeps what plugins log, whichever host runs them; from any thread.

    ``take`` is a host's ``on_log``. A sandbox holds its plugins to a rate and a call to a
    budget before it comes here.
    """

    def __init__(self) -> None:
        self._rings: dict[str, _Ring] = {}
        self._last = 0
        self._more = threading.Condition()
        self._call = _Call()

    def take(self, record: LogRecord) -> None:
        """Keep a record, and pass it on to Python's logging."""
        with self._more:
            self._last += 1
            ring = self._rings.setdefault(record.plugin_id, _Ring())
            ring.keep(Entry(self._last, record))
            self._more.notify_all()
        if self._call.records is not None:
            self._call.records.append(record)
        log_record(record)

    @contextmanager
    def collecting(self) -> Iterator[list[LogRecord]]:
        """The records of the calls that this thread makes within the block, as they come."""
        before, self._call.records = self._call.records, []
        try:
            yield self._call.records
        finally:
            self._call.records = before

    def last(self) -> int:
        """The newest number; 0 before the first record."""
        return self._last

    def after(self, plugin_id: str, number: int) -> tuple[Entry, ...]:
        """What a plugin said after a number, as far as it is kept, oldest first."""
        with self._more:
            ring = self._rings.get(plugin_id)
            return tuple(one for one in ring.entries if one.number > number) if ring else ()

    def wait(self, number: int, timeout_s: float) -> bool:
        """Block until some plugin says more than a number, or the time is over."""
        with self._more:
            return self._more.wait_for(lambda: self._last > number, timeout_s)

    def forget(self, plugin_id: str) -> None:
        """Drop what a plugin said: it is no longer installed."""
        with self._more:
            self._rings.pop(plugin_id, None)
