"""How long an operation may take, by clocks and chance that are given."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from registry.cancelling import pause


@dataclass(frozen=True, slots=True)
class Timing:
    """The world's side of waiting; tests bring their own.

    Attributes:
        clock: Monotonic seconds.
        sleep: Waits for seconds, or until nobody wants what this thread is at.
        uniform: A number between two others.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = pause
    uniform: Callable[[float, float], float] = random.uniform


class Deadline(threading.local):
    """When the operation that this thread is in has to be over.

    Args:
        timing: Whose clock.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._at_s = float("inf")

    @contextmanager
    def within(self, budget_s: float) -> Iterator[None]:
        """An operation; one that is part of another ends with it at the latest."""
        before_s = self._at_s
        self._at_s = min(before_s, self._timing.clock() + budget_s)
        try:
            yield
        finally:
            self._at_s = before_s

    def remaining_s(self) -> float:
        """Return what is left; infinite outside an operation.

        Raises:
            TimeoutError: Nothing is.
        """
        remaining_s = self._at_s - self._timing.clock()
        if remaining_s <= 0:
            raise TimeoutError("the operation's time is up")
        return remaining_s

    def pause(self, seconds: float) -> None:
        """Wait, no longer than what is left.

        Raises:
            TimeoutError: Nothing is.
        """
        self._timing.sleep(min(seconds, self.remaining_s()))


class Pace:
    """A least speed: a peer that sends a little now and then is not waited for as one that works.

    Args:
        timing: Whose clock.
        window_s: How long it is measured each time, from the first byte on.
        min_bytes_per_s: What is expected in each window.
    """

    def __init__(self, timing: Timing, window_s: float, min_bytes_per_s: float) -> None:
        self._timing = timing
        self._window_s = window_s
        self._least = window_s * min_bytes_per_s
        self._since_s: float | None = None
        self._count = 0

    def took(self, count: int) -> None:
        """Count bytes that went over.

        Raises:
            TimeoutError: They were too few.
        """
        now_s = self._timing.clock()
        if self._since_s is None:
            self._since_s = now_s
        self._count += count
        if now_s - self._since_s >= self._window_s:
            if self._count < self._least:
                message = f"only {self._count} bytes in {now_s - self._since_s:.0f} s"
                raise TimeoutError(message)
            self._since_s, self._count = now_s, 0
