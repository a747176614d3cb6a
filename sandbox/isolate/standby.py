"""The child ahead of need: it has its orders and is linked, and nobody has called it yet."""

import threading

from sandbox.isolate.child import Child


class Standby:
    """One for all plugins of a sandbox, for the one that a child was made for last.

    May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whose: object | None = None
        self._child: Child | None = None

    def keep(self, whose: object, child: Child) -> None:
        """Have a child stand by for somebody, and let go of the one that did."""
        with self._lock:
            before, self._child, self._whose = self._child, child, whose
        if before is not None:
            before.let_go()

    def take(self, whose: object) -> Child | None:
        """The child that stands by for somebody; None where none does, or it died meanwhile."""
        with self._lock:
            if self._whose is not whose:
                return None
            child, self._child, self._whose = self._child, None, None
        if child is not None and child.is_over():
            child.let_go()
            return None
        return child

    def drop(self, whose: object) -> None:
        """Let go of the child that stands by for somebody, if one does."""
        child = self.take(whose)
        if child is not None:
            child.let_go()
