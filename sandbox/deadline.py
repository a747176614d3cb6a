"""Absolute deadlines: one thread that interrupts each engine whose call is overdue.

An epoch tick stops whatever runs in an engine, so an engine serves one call at a time. Where
the kernel can keep an engine's deadline (``timers``) it does, from a little ahead of it on, for
most calls end long before; the thread is there in case it does not.
Calls that sit in a host function aren't stopped by it: those check the clock themselves.
"""

import math
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from sandbox.timers import TimedEngine


class Interruptible(Protocol):
    """What a watchdog can stop; wasmtime's Engine."""

    def increment_epoch(self) -> None:
        """Trap the guest at its next check."""


_GRACE_S = 0.1
"""What the kernel may be late before the thread takes its place."""

_LEAD_S = 0.5
"""How long before a deadline the kernel is told of it: busy threads can delay that."""


@dataclass(slots=True)
class _Alarm:
    """When to look after an engine, and whether the kernel is then told of its deadline."""

    at_s: float
    deadline_s: float
    tells_kernel: bool = False


class Watchdog:
    """Interrupts engines at their deadlines.

    Arming and disarming cost a dictionary entry; the thread wakes only at the earliest
    deadline it was told of, and starts with the first call.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._armed: dict[Interruptible, _Alarm] = {}
        self._wakes_at_s = math.inf
        self._thread: threading.Thread | None = None
        self._closing = False

    def arm(self, engine: Interruptible, deadline_s: float) -> None:
        """Interrupt ``engine`` once ``time.monotonic()`` reaches ``deadline_s``."""
        alarm = _Alarm(deadline_s, deadline_s)
        if isinstance(engine, TimedEngine):
            alarm.tells_kernel = deadline_s - time.monotonic() > 2 * _LEAD_S
            if alarm.tells_kernel:
                alarm.at_s -= _LEAD_S
            elif engine.arm(deadline_s):
                alarm.at_s += _GRACE_S
        with self._changed:
            self._armed[engine] = alarm
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="sandbox-deadlines", daemon=True
                )
                self._thread.start()
            elif alarm.at_s < self._wakes_at_s:
                self._changed.notify()

    def disarm(self, engine: Interruptible, *, was_interrupted: bool) -> bool:
        """Leave ``engine`` alone.

        Args:
            engine: The one that was armed.
            was_interrupted: A guest in it saw a tick.

        Returns:
            A tick of this deadline may yet come: the kernel sent one that nobody saw.
        """
        with self._changed:
            is_ours = self._armed.pop(engine, None) is None
        is_sent = isinstance(engine, TimedEngine) and engine.disarm()
        return is_sent and (is_ours or not was_interrupted)

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
                for engine in [e for e, alarm in self._armed.items() if alarm.at_s <= now_s]:
                    self._ring(engine, self._armed[engine])
                if self._closing and not self._armed:
                    self._thread = None
                    return
                self._wakes_at_s = min((a.at_s for a in self._armed.values()), default=math.inf)
                wait_s = self._wakes_at_s - now_s
                self._changed.wait(wait_s if wait_s < threading.TIMEOUT_MAX else None)

    def _ring(self, engine: Interruptible, alarm: _Alarm) -> None:
        if alarm.tells_kernel and isinstance(engine, TimedEngine):
            alarm.tells_kernel = False
            alarm.at_s = alarm.deadline_s
            if engine.arm(alarm.deadline_s):
                alarm.at_s += _GRACE_S
            return
        del self._armed[engine]
        engine.increment_epoch()
