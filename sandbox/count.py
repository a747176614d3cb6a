"""A number that all of this process shares."""

import threading


class Count:
    """Begins at 0; may be used from any thread, and in a destructor."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a destructor may come while it is held
        self._number = 0

    def add(self, number: int) -> int:
        """Add to it; what it is then."""
        with self._lock:
            self._number += number
            return self._number
