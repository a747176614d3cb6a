"""The live handle of a plugin: lease it for a call, swap it under load, drain the old one."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.plugin import Plugin


class Slot:
    """Holds the current plugin; callers lease it, an update swaps it.

    A lease counts its caller against the plugin it got, so a swap never takes a plugin away
    from a call: the old one drains while new calls go to the new one. All methods may be
    called from any thread.

    Args:
        plugin: The first plugin.
    """

    def __init__(self, plugin: "Plugin") -> None:
        self._current = plugin
        self._leases: dict[int, int] = {}
        self._changed = threading.Condition(threading.Lock())

    @property
    def current(self) -> "Plugin":
        """The plugin that a lease would get now."""
        return self._current

    @contextmanager
    def lease(self) -> Iterator["Plugin"]:
        """Hold the current plugin for the length of the block, whatever is swapped in."""
        with self._changed:
            plugin = self._current
            self._leases[id(plugin)] = self._leases.get(id(plugin), 0) + 1
        try:
            yield plugin
        finally:
            with self._changed:
                left = self._leases[id(plugin)] - 1
                if left:
                    self._leases[id(plugin)] = left
                else:
                    del self._leases[id(plugin)]
                    self._changed.notify_all()

    def swap(self, new: "Plugin") -> "Plugin":
        """Give new callers ``new``; returns the old one, which may still be in use."""
        with self._changed:
            old, self._current = self._current, new
            return old

    def drain(self, old: "Plugin", timeout_s: float) -> bool:
        """Wait until no caller holds ``old``.

        Args:
            old: A plugin that was swapped out.
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
