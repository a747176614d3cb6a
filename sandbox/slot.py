"""The live handle of a plugin: lease it for a call, swap it under load, drain the old one."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds what serves now, mostly a plugin; callers lease it, an update swaps it.

    A lease counts its caller against what it got, so a swap never takes a plugin away
    from a call: the old one drains while new calls go to the new one. All methods may be
    called from any thread.

    Args:
        first: What serves first.
    """

    def __init__(self, first: T) -> None:
        self._current = first
        self._leases: dict[int, int] = {}
        self._changed = threading.Condition(threading.Lock())

    @property
    def current(self) -> T:
        """What a lease would get now."""
        return self._current

    @contextmanager
    def lease(self) -> Iterator[T]:
        """Hold what serves now for the length of the block, whatever is swapped in."""
        with self._changed:
            leased = self._current
            self._leases[id(leased)] = self._leases.get(id(leased), 0) + 1
        try:
            yield leased
        finally:
            with self._changed:
                left = self._leases[id(leased)] - 1
                if left:
                    self._leases[id(leased)] = left
                else:
                    del self._leases[id(leased)]
                    self._changed.notify_all()

    def swap(self, new: T) -> T:
        """Give new callers ``new``; returns the old one, which may still be in use."""
        with self._changed:
            old, self._current = self._current, new
            return old

    def drain(self, old: T, timeout_s: float) -> bool:
        """Wait until no caller holds ``old``.

        Args:
            old: What was swapped out.
            timeout_s: How long to wait at most.

        Returns:
            True: none left. False: the time is over and some call still runs.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while id(old) in self._leases:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
            return True
