"""Connections that are kept open between operations, for many repositories of one registry."""

import threading
from typing import TYPE_CHECKING

from registry.settings import HttpSettings

if TYPE_CHECKING:
    import urllib3

    from registry.connections import Deadline

_Stamp = tuple[tuple[int, int, int] | None, ...]


class KeptConnections:
    """What repositories share, so that a run over many plugins connects once a registry.

    Any thread may use it, for one operation at a time. No credential is kept here: each
    request brings its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[
            tuple[str, HttpSettings], tuple[_Stamp, urllib3.PoolManager, Deadline]
        ] = {}

    def to(self, origin: str, settings: HttpSettings) -> "tuple[urllib3.PoolManager, Deadline]":
        """The pool for a registry's origin, and the deadline that its reads look at.

        A TLS file that was replaced, such as a renewed certificate, is read again.

        Raises:
            RegistryError: A TLS file can't be used.
        """
        # urllib3 takes longer to import than all the rest of a short command.
        from registry.connections import Deadline, make_manager

        stamp = _stamp(settings)
        with self._lock:
            kept = self._kept.get((origin, settings))
            if kept is None or kept[0] != stamp:
                deadline = Deadline()
                kept = stamp, make_manager(origin, settings, deadline), deadline
                self._kept[origin, settings] = kept
        return kept[1], kept[2]

    def close(self) -> None:
        """Close what is idle; it may be used again."""
        with self._lock:
            for _, manager, _ in self._kept.values():
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
