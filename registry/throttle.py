"""A limit to what goes over all connections together: whoever moved more waits."""

import threading

from registry.deadline import Timing

# What was not used is saved up for no longer than this: a burst after a rest is small.
_SAVED_S = 0.25


class Throttle:
    """Says how long to wait after bytes went over; shared by threads.

    Args:
        timing: Whose clock.
        bytes_per_s: The limit.

    Attributes:
        piece_bytes: How much to move at a time: a quarter of a second's worth at most.
    """

    def __init__(self, timing: Timing, bytes_per_s: int) -> None:
        self._timing = timing
        self._bytes_per_s = bytes_per_s
        self.piece_bytes = max(1, int(bytes_per_s * _SAVED_S))
        self._lock = threading.Lock()
        self._paid_until_s = float("-inf")

    def took(self, count: int) -> float:
        """Count bytes that went over, in either direction.

        Returns:
            Seconds to wait before more may.
        """
        with self._lock:
            now_s = self._timing.clock()
            self._paid_until_s = max(self._paid_until_s, now_s - _SAVED_S)
            self._paid_until_s += count / self._bytes_per_s
            return max(0.0, self._paid_until_s - now_s)
