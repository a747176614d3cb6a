"""A few threads that work side by side: one thing a key at a time, not too many of one lane."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

_LOG = logging.getLogger("stack_composer.service")


@dataclass(frozen=True, slots=True)
class _Job:
    key: str
    lane: str
    work: Callable[[], None]


class Workers:
    """See the module; all methods may be called from any thread.

    Args:
        name: The threads' name.
        count: How many things are done at once.
        of_one_lane: How many of them of one lane, such as a registry: one that hangs leaves
            room for the others.
    """

    def __init__(self, name: str, count: int, *, of_one_lane: int | None = None) -> None:
        self._of_one_lane = of_one_lane or count
        self._waiting: dict[str, _Job] = {}
        self._running: dict[str, _Job] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        # Daemons: what hangs in a registry's name look-up must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._serve, name=name, daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, key: str, work: Callable[[], None], *, lane: str | None = None) -> bool:
        """Have something done soon, after what waits already.

        Args:
            key: What it is about; while that waits or is at work, nothing more is taken for it.
            work: What is done; what it raises is logged.
            lane: What it shares with others; None = nothing.

        Returns:
            Whether it was taken.
        """
        with self._changed:
            if self._is_closed or key in self._waiting or key in self._running:
                return False
            self._waiting[key] = _Job(key, key if lane is None else lane, work)
            self._changed.notify()
            return True

    def at_work(self) -> frozenset[str]:
        """The keys that are being worked on."""
        with self._changed:
            return frozenset(self._running)

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, forget what waits, and wait for what is at work.

        Returns:
            Whether all of it ended in time.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.work()
            except Exception:  # noqa: BLE001 - a fault in one thing must not end the others' thread
                _LOG.exception("cannot finish the work on %s", job.key)
            finally:
                with self._changed:
                    del self._running[job.key]
                    self._changed.notify_all()  # its lane may have kept several waiting

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._is_closed:
                busy = Counter(job.lane for job in self._running.values())
                for job in self._waiting.values():
                    if busy[job.lane] < self._of_one_lane:
                        self._running[job.key] = self._waiting.pop(job.key)
                        return job
                self._changed.wait()
            return None
