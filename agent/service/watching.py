"""Being told of changed files: plugin folders, trust store, config (watchdog), after they rest."""

import contextlib
import logging
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

_LOG = logging.getLogger("stack_composer.service")
_REST_S = 0.5
_AT_MOST_S = 5.0
_STOP_S = 5.0
_AGAIN_S = 60.0
_UNSAID = logging.DEBUG
_CHANGES = frozenset({"created", "modified", "moved", "deleted", "closed"})

Stamp = tuple[tuple[str, int, int, int], ...]


def stamp_of(paths: Iterable[Path]) -> Stamp:
    """What changes whenever one of the files does; those that are not there are left out."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            seen = path.stat()
            found.append((str(path), seen.st_ctime_ns, seen.st_size, seen.st_ino))
    return tuple(found)


class Watching:
    """Watches folders; tells once they have rested for a moment, or have not for long.

    What can't be watched, because the system allows no more or it may not be read, is said once
    and tried again each minute; whoever is told looks by itself, too, now and then.

    Args:
        told: Is called by a thread of this class.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._observer: BaseObserver | None = None
        self._wanted: dict[Path, int] = {}
        self._watched: dict[Path, int] = {}
        self._again_s = 0.0
        self._changed = threading.Condition()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._is_closed = False
        self._thread = threading.Thread(target=self._tell, name="watching", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def close(self) -> None:
        """Tell nothing more; also where it has not begun."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(_STOP_S)

    def look(self, folders: Iterable[Path]) -> None:
        """Watch these folders from now on, and no others."""
        wanted = dict(_inodes(folders))  # one that was made anew has the same name
        now_s = time.monotonic()
        is_news = wanted != self._wanted
        if wanted == self._watched or not (is_news or now_s >= self._again_s):
            return
        self._wanted, self._again_s = wanted, now_s + _AGAIN_S
        level = logging.WARNING if is_news else _UNSAID
        self._watched = {folder: wanted[folder] for folder in self._watch(sorted(wanted), level)}
        self._saw()  # what changed before nobody told

    def _watch(self, folders: Iterable[Path], level: int) -> Iterator[Path]:
        """Watch these and no others; those that could be."""
        handler = _Handler(self._saw)
        if self._observer is not None:
            self._observer.unschedule_all()
        for folder in folders:
            try:
                self._observer = self._observer or _observer()
                self._observer.schedule(handler, str(folder))
            except OSError as error:
                why = error.strerror or error
                _LOG.log(level, "cannot watch %s: %s; looking now and then", folder, why)
            else:
                yield folder

    def _saw(self) -> None:
        with self._changed:
            self._last_s = time.monotonic()
            self._first_s = self._first_s or self._last_s
            self._changed.notify()

    def _tell(self) -> None:
        while self._rests():
            self._told()

    def _rests(self) -> bool:
        """Wait for a change and then for a rest; False at the end."""
        with self._changed:
            while not self._is_closed:
                now_s = time.monotonic()
                if self._first_s is None:
                    self._changed.wait()
                elif now_s >= min(self._last_s + _REST_S, self._first_s + _AT_MOST_S):
                    self._first_s = None
                    return True
                else:
                    self._changed.wait(_REST_S)
            return False


def _inodes(folders: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    for folder in folders:
        with contextlib.suppress(OSError):
            found = folder.stat()
            if stat.S_ISDIR(found.st_mode):
                yield folder, found.st_ino


def _observer() -> BaseObserver:
    observer = Observer()
    observer.start()
    return observer


class _Handler(FileSystemEventHandler):
    def __init__(self, saw: Callable[[], None]) -> None:
        self._saw = saw

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Reading a file is no change; whoever is told reads."""
        if event.event_type in _CHANGES:
            self._saw()
