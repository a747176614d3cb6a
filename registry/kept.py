"""Connections that are kept open between operations, for many repositories of one registry."""

import threading
from typing import TYPE_CHECKING

from registry.deadline import Deadline, Timing
from registry.settings import HttpSettings
from registry.throttle import Throttle
from registry.tokens import KeptTokens

if TYPE_CHECKING:
    import urllib3

_MAX_ORIGINS = 32
_ABSENT_S = 60.0
_Stamp = tuple[tuple[int, int, int] | None, ...]


class KeptConnections:
    """What repositories share, so that a run over many plugins connects once a registry.

    Any thread may use it, for one operation at a time. No credential is kept here, and no token
    is given to anyone whose it is not.

    Args:
        timing: Clock, pauses and chance.
        max_bytes_per_s: How much may go over all connections together; ``None``: what they give.

    Attributes:
        timing: As given.
        throttle: Keeps to that.
        deadline: Of the operation that a thread is in.
        tokens: What realms gave.
    """

    def __init__(self, timing: Timing | None = None, *, max_bytes_per_s: int | None = None) -> None:
        self.timing = timing or Timing()
        self.throttle = None
        if max_bytes_per_s is not None:
            self.throttle = Throttle(self.timing, max_bytes_per_s)
        self.deadline = Deadline(self.timing)
        self.tokens = KeptTokens()
        self._lock = threading.Lock()
        self._absent: dict[str, float] = {}
        self._kept: dict[tuple[str, HttpSettings], tuple[_Stamp, urllib3.PoolManager]] = {}

    def to(self, origin: str, settings: HttpSettings) -> "urllib3.PoolManager":
        """The pool for an origin; of strangers' hosts the ones that were used last are kept.

        A TLS file that was replaced, such as a renewed certificate, is read again.

        Raises:
            RegistryError: A TLS file can't be used.
        """
        # urllib3 takes longer to import than all the rest of a short command.
        from registry.connections import make_manager

        stamp = _stamp(settings)
        with self._lock:
            kept = self._kept.pop((origin, settings), None)
            if kept is not None and kept[0] != stamp:
                kept[1].clear()
                kept = None
            if kept is None:
                kept = stamp, make_manager(origin, settings, self)
            self._kept[origin, settings] = kept
            while len(self._kept) > _MAX_ORIGINS:
                _, oldest = self._kept.pop(next(iter(self._kept)))
                oldest.clear()
        return kept[1]

    def set_absent(self, host: str) -> None:
        """Note that a host can't be reached, for who can do without it."""
        with self._lock:
            self._absent[host] = self.timing.clock() + _ABSENT_S

    def is_absent(self, host: str) -> bool:
        """Whether that was noted less than a minute ago."""
        with self._lock:
            return self._absent.get(host, float("-inf")) > self.timing.clock()

    def close(self) -> None:
        """Close what is idle; it may be used again."""
        with self._lock:
            for _, manager in self._kept.values():
                manager.clear()


def _stamp(settings: HttpSettings) -> _Stamp:
    """What changes whenever one of the TLS files does."""
    stamps = list[tuple[int, int, int] | None]()
    for file in (settings.ca_file, settings.client_cert, settings.client_key):
        try:
            stat = None if file is None else file.stat()
        except OSError:
            stat = None  # whoever reads it says so
        stamps.append(None if stat is None else (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(stamps)
