"""One thread per sandbox that has children: it stops those which nobody called for a while.

What need not be done before a call goes on it does as well.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

from sandbox.isolate.standby import Standby

IDLE_S = 60.0


class Resting(Protocol):
    """What can be stopped when it is idle; a keeper."""

    def rest(self, now_s: float, idle_s: float) -> float:
        """Stop if idle for so long; returns when to ask again, ``inf`` = not before a start."""

    def close(self) -> None:
        """Stop for good; again is fine."""


class IdleWatch:
    """Asks keepers to rest, and closes those that nobody can call any more.

    Args:
        idle_s: How long without a call.

    Attributes:
        standby: Of all these keepers.
    """

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        # unlike a lock, it may be used in a destructor
        self._inbox: SimpleQueue[tuple[Resting, bool] | Callable[[], object] | None] = SimpleQueue()
        self.standby = Standby()
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, keeper: Resting) -> None:
        """A child of this keeper has started."""
        self._inbox.put((keeper, True))
        self._begin()

    def later(self, errand: Callable[[], object]) -> None:
        """Do something soon, and not on this thread; now once this is closed."""
        with self._lock:
            is_over = self._closed
            if not is_over:
                self._inbox.put(errand)
        if is_over:
            errand()
        else:
            self._begin()

    def leave(self, keeper: Resting) -> None:
        """Nobody has this keeper's plugin any more."""
        self._inbox.put((keeper, False))

    def close(self) -> None:
        """Close the keepers whose children run, end the thread, and wait for it."""
        with self._lock:
            self._closed = True
            self._inbox.put(None)
            if self._thread is not None:
                self._thread.join()
            else:  # nothing was called; who left is in the inbox all the same
                self._watch()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._watch, name="sandbox-idle", daemon=True
                )
                self._thread.start()

    def _watch(self) -> None:
        keepers: set[Resting] = set()
        due_s = math.inf
        while True:
            with contextlib.suppress(Empty):
                news = self._inbox.get(timeout=_until(due_s))
                if news is None:
                    break
                if not isinstance(news, tuple):
                    news()
                    continue
                keeper, is_called = news
                if is_called:
                    keepers.add(keeper)
                else:
                    keepers.discard(keeper)
                    keeper.close()
                del news, keeper  # what is gone is not kept alive by who waits
            now_s = time.monotonic()
            asked = {keeper: keeper.rest(now_s, self._idle_s) for keeper in keepers}
            keepers = {keeper for keeper, again_s in asked.items() if again_s < math.inf}
            due_s = min(asked.values(), default=math.inf)
            del asked
        for keeper in keepers:
            keeper.close()


def _until(due_s: float) -> float | None:
    if due_s == math.inf:
        return None
    return min(threading.TIMEOUT_MAX, max(0.0, due_s - time.monotonic()))
