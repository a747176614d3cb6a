"""One plugin as a host serves it: follows ``current``, swaps without losing a call."""

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.errors import NotFoundError, TrustError, translated

if TYPE_CHECKING:
    from sandbox import Plugin, Slot

_LOOK_EVERY_S = 0.1
_TRY_AGAIN_AFTER_S = 5.0
DRAIN_S = 10.0
"""How long what is closed waits for the calls that run."""


class Served:
    """A live handle on one plugin.

    Attributes:
        refused: Why calls are refused now: nothing serves, it is disabled, or what serves
            is no longer believed.

    Args:
        plugin_id: The plugin.
        slot: Holds what serves now.
        name: What ``where`` said when it was loaded.
        where: Names the generation that should serve, None = none may; left out where nothing
            is asked.
        load: Verifies and loads the generation of that name; may raise. Left out where what
            serves never changes: bytes at hand.
        terms: What a load depends on beside the bytes: the trust store and the operator's
            grants. When it changes, what serves is loaded again and so judged again.
        missing: Says why ``where`` names nothing.
    """

    def __init__(
        self,
        plugin_id: str,
        slot: "Slot[Plugin]",
        *,
        name: str,
        where: Callable[[], str | None] | None = None,
        load: Callable[[str], "Plugin"] | None = None,
        terms: Callable[[], object] = lambda: None,
        missing: Callable[[], Exception] | None = None,
    ) -> None:
        self.plugin_id = plugin_id
        self.slot = slot
        self.refused: Exception | None = None
        self._old: list[Plugin] = []
        self._where = where
        self._load = load
        self._terms = terms
        self._missing = missing or self._nothing_serves
        self._loaded: tuple[str, object] = (name, terms())
        self._failed: tuple[tuple[str, object], float] | None = None
        self._looked = time.monotonic()
        self._looking = threading.Lock()

    @property
    def is_followed(self) -> bool:
        """Whether it is an installed plugin: its flips are followed, its calls recorded."""
        return self._load is not None

    def follow(self, *, now: bool = False) -> Exception | None:
        """Look again if the last look is older than 100 ms; load and swap if anything moved.

        One thread loads, aside; the others go on with the old one.

        Args:
            now: Look whatever the age of the last look.

        Returns:
            Why what should serve could not be loaded: once for each; it is tried again after
            some seconds, because the fault may pass.
        """
        if self._where is None or not (now or time.monotonic() - self._looked >= _LOOK_EVERY_S):
            return None
        if not self._looking.acquire(blocking=now):
            return None
        try:
            self._looked = time.monotonic()
            self._let_go(0)
            name = self._where()
            if name is None or self._load is None:
                self.refused = self._missing() if name is None else None
                return None
            wanted = (name, self._terms())
            if wanted == self._loaded:
                # Gone for a while, or disbelieved, and back as it was.
                self._failed, self.refused = None, None
            if wanted == self._loaded or self._has_just_failed(wanted):
                return None
            try:
                new = self._load(name)
            except Exception as error:  # noqa: BLE001 - the old one serves on, whatever it is
                is_news = self._failed is None or self._failed[0] != wanted
                self._failed = (wanted, time.monotonic())
                # Whom we believe has changed, or what is denied: what serves was not judged
                # under it, and is not believed, or can't be judged without a ledger.
                is_unjudged = isinstance(error, TrustError | sqlite3.Error)
                if is_unjudged and wanted[1] != self._loaded[1]:
                    self.refused = translated(error) or error
                return error if is_news else None
            self._old.append(self.slot.swap(new))
            self._loaded, self._failed, self.refused = wanted, None, None
            return None
        finally:
            self._looking.release()

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Wait for running calls, so long at most, and let go of the compiled code."""
        with self._looking:
            self._old.append(self.slot.current)
            self._let_go(drain_s)
            for plugin in self._old:
                plugin.close()

    def _nothing_serves(self) -> Exception:
        return NotFoundError(f"cannot call {self.plugin_id}: nothing serves")

    def _has_just_failed(self, wanted: tuple[str, object]) -> bool:
        return (
            self._failed is not None
            and self._failed[0] == wanted
            and time.monotonic() - self._failed[1] < _TRY_AGAIN_AFTER_S
        )

    def _let_go(self, drain_s: float) -> None:
        """Close what was swapped out and no call holds any more."""
        until_s = time.monotonic() + drain_s
        self._old = [p for p in self._old if not self._is_closed(p, until_s)]

    def _is_closed(self, plugin: "Plugin", until_s: float) -> bool:
        if not self.slot.drain(plugin, until_s - time.monotonic()):
            return False
        plugin.close()
        return True
