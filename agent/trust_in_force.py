"""The trust store that an installation goes by: found, read anew when it changes, never older."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UsageError
from agent.ledger.ledger import Ledger
from agent.settings.config import trust_store_path
from agent.settings.places import Places

if TYPE_CHECKING:
    import trust


class TrustInForce:
    """See the module.

    Args:
        places: Where it may lie.
        ledger_of: The ledger as it is now: it remembers the highest serial that was seen.
    """

    def __init__(self, places: Places, ledger_of: Callable[[], Ledger]) -> None:
        self._places = places
        self._ledger_of = ledger_of
        self._read: tuple[object, trust.TrustStore] | None = None

    def path(self) -> Path:
        """The trust store in force, or where one would be created."""
        return trust_store_path(self._places)

    def stamp(self) -> tuple[str, int, int, int] | None:
        """What changes whenever the trust store does, usable or not; None where there is none."""
        for path in self._places.trust_stores:
            with contextlib.suppress(OSError):
                stat = path.stat()
                # The change time: a mode that was loosened counts too.
                return str(path), stat.st_ctime_ns, stat.st_size, stat.st_ino
            if os.path.lexists(path):
                return str(path), 0, 0, 0
        return None

    def store(self) -> "trust.TrustStore":
        """The trust store in force; empty where there is none.

        Raises:
            trust.StoreError: It is broken, or unsafe.
            UsageError: It is older than one seen before.
        """
        import trust

        stamp = self.stamp()
        if self._read is not None and self._read[0] == stamp:
            return self._read[1]
        if stamp is None:
            return trust.TrustStore.empty(self.path())
        path = Path(stamp[0])
        store = trust.load(path, uid=os.geteuid())
        highest = self._ledger_of().remember_serial(str(path), store.serial)
        if store.serial < highest:
            raise UsageError(
                f"cannot use {path}: its serial {store.serial} is lower than {highest}, seen "
                "before: an older store was put back",
                hint=f"restore the newer file, or raise serial above {highest} after a review",
            )
        if store.serial == highest:  # else it is yet to be written down
            self._read = (stamp, store)
        return store

    def forget(self) -> None:
        """Read it anew: another ledger is in force."""
        self._read = None
