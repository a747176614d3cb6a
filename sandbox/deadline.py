"""Absolute deadlines: one thread that interrupts each engine whose call is overdue.

An epoch tick stops whatever runs in an engine, so an engine serves one call at a time.
Calls that sit in a host function aren't stopped by it: those check the clock themselves.
"""

import math
import threading
import time
from typing import Protocol


class Interruptible(Protocol):
    """What a watchdog can stop; wasmtime's Engine."""

    def increment_epoch(self) -> None:
        """Trap the guest at its next check."""


class Watchdog:
    """Interrupts engines at their deadlines.

    Arming and disarming cost a dictionary entry; the thread wakes only at the earliest
    deadline it was told of, and starts with the first call.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._armed: dict[Interruptible, float] = {}
        self._wakes_at_s = math.inf
        self._thread: threading.Thread | None = None
        self._closing = False

    def arm(self, engine: Interruptible, deadline_s: float) -> None:
        """Interrupt ``engine`` once ``time.monotonic()`` reaches ``deadline_s``."""
        with self._changed:
            self._armed[engine] = deadline_s
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="sandbox-deadlines", daemon=True
                )
                self._thread.start()
            elif deadline_s < self._wakes_at_s:
                self._changed.notify()

    def disarm(self, engine: Interruptible) -> None:
        """Leave ``engine`` alone; once this returns no tick of an old deadline can come."""
        with self._changed:
            self._armed.pop(engine, None)

    def interrupt(self, engine: Interruptible) -> None:
        """Interrupt ``engine`` now, if a call of it is armed."""
        with self._changed:
            if self._armed.pop(engine, None) is not None:
                engine.increment_epoch()

    def close(self) -> None:
        """End the thread after the last armed call."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while True:
                now_s = time.monotonic()
                for engine in [e for e, at_s in self._armed.items() if at_s <= now_s]:
                    del self._armed[engine]
                    engine.increment_epoch()
                if self._closing and not self._armed:
                    self._thread = None
                    return
                self._wakes_at_s = min(self._armed.values(), default=math.inf)
                wait_s = self._wakes_at_s - now_s
                self._changed.wait(wait_s if wait_s < threading.TIMEOUT_MAX else None)
