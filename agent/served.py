"""One plugin as a host serves it: follows ``current``, swaps without losing a call."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox import Plugin, Slot

_LOOK_EVERY_S = 0.1
_DRAIN_S = 10.0


class Served:
    """A live handle on one plugin.

    The plugin that was swapped out stays compiled until the next swap, so that going back is
    another swap and needs neither disk nor compiler.

    Args:
        plugin_id: The plugin.
        slot: Holds what serves now.
        name: What ``where`` said when it was loaded.
        where: Names the generation that should serve; None where it never changes.
        load: Loads the generation of that name; may raise.
    """

    def __init__(
        self,
        plugin_id: str,
        slot: "Slot",
        *,
        name: str,
        where: Callable[[], str | None] | None = None,
        load: Callable[[str], "Plugin"] | None = None,
    ) -> None:
        self.plugin_id = plugin_id
        self.slot = slot
        self._name = name
        self._where = where
        self._load = load
        self._warm: tuple[str, Plugin] | None = None
        self._unloadable: str | None = None
        self._looked = time.monotonic()
        self._looking = threading.Lock()

    @property
    def is_followed(self) -> bool:
        """Whether it is an installed plugin: its flips are followed, its calls recorded."""
        return self._where is not None

    def follow(self, *, now: bool = False) -> Exception | None:
        """Look at ``current`` again if the last look is older than 100 ms; swap if it moved.

        One thread loads, aside; the others go on with the old one.

        Args:
            now: Look whatever the age of the last look.

        Returns:
            Why the generation that should serve could not be loaded: told once for each.
        """
        if self._where is None or not (now or time.monotonic() - self._looked >= _LOOK_EVERY_S):
            return None
        if not self._looking.acquire(blocking=now):
            return None
        try:
            self._looked = time.monotonic()
            name = self._where()
            if name is None or name in (self._name, self._unloadable):
                return None
            try:
                self._swap(name)
            except Exception as error:  # noqa: BLE001 - the old one serves on, whatever it is
                self._unloadable = name
                return error
            return None
        finally:
            self._looking.release()

    def close(self) -> None:
        """Wait for running calls, a bounded time, and let go of the compiled code."""
        self._let_go_of_warm()
        self._retire(self.slot.current)

    def _swap(self, name: str) -> None:
        if self._warm is not None and self._warm[0] == name:
            new = self._warm[1]
            self._warm = None
        else:
            if self._load is None:
                return
            new = self._load(name)
        old, old_name = self.slot.swap(new), self._name
        self._name, self._unloadable = name, None
        self._let_go_of_warm()
        self._warm = (old_name, old)

    def _let_go_of_warm(self) -> None:
        if self._warm is not None:
            self._retire(self._warm[1])
            self._warm = None

    def _retire(self, plugin: "Plugin") -> None:
        # Still leased after the wait: leave it to the garbage collector rather than pull
        # the engine from under a running call.
        if self.slot.drain(plugin, _DRAIN_S):
            plugin.close()
