"""The two times that the service goes by."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def _boot_s() -> float:
    """Seconds that nobody sets back; on Linux they pass while the machine sleeps, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time for what people set and the ledger holds; the other for how long something takes.

    Attributes:
        wall_s: Seconds since the epoch; may jump either way.
        passed_s: Seconds since some moment; only ever grows.
    """

    wall_s: Callable[[], float] = time.time
    passed_s: Callable[[], float] = _boot_s
