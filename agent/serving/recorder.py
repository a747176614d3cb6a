"""Counting calls per release and minute, in memory, for the ledger (contract §7, "Trials")."""

import threading
import time
from collections.abc import Callable

from agent.model import Samples

_FLUSH_EVERY_S = 1.0


class Recorder:
    """Counts calls from many threads; hands the counts over at most once a second.

    Args:
        write: Receives (plugin id, release, minute, counts) rows; may raise.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        write: Callable[[list[tuple[str, str, int, Samples]]], None],
        clock: Callable[[], float],
    ) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._flushed = time.monotonic()

    def count(self, plugin_id: str, release: str, *, failed: bool, health: bool = False) -> None:
        """Count one call."""
        with self._lock:
            counts = self._counts.setdefault((plugin_id, release), [0, 0, 0])
            counts[0] += 1
            counts[1] += failed
            counts[2] += failed and health

    @property
    def is_due(self) -> bool:
        """Whether a second has passed since the last flush."""
        return time.monotonic() - self._flushed >= _FLUSH_EVERY_S

    def flush(self) -> None:
        """Hand over what was counted; kept for the next time where ``write`` raises."""
        with self._lock:
            self._flushed = time.monotonic()
            counted, self._counts = self._counts, {}
        if not counted:
            return
        minute = int(self._clock() // 60)
        try:
            # Outside the lock: calls go on while the ledger is written.
            self._write([(*key, minute, Samples(*counts)) for key, counts in counted.items()])
        except BaseException:
            with self._lock:
                for key, counts in counted.items():
                    mine = self._counts.setdefault(key, [0, 0, 0])
                    self._counts[key] = [a + b for a, b in zip(mine, counts, strict=True)]
            raise
