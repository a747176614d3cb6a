"""Several blobs at once over one pool of connections: small ones first, all of them or none."""

import contextvars
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.cancelling import CURRENT, Cancellation, CancelledError
from registry.model import Descriptor
from registry.repository import Progress, Repository

AT_ONCE = 4
"""As many connections as a pool keeps."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that is to come to a file.

    Attributes:
        descriptor: Which.
        destination: Where to.
    """

    descriptor: Descriptor
    destination: Path


def fetch_all(
    repository: Repository, wanted: Sequence[Wanted], *, progress: Progress | None = None
) -> None:
    """Fetch blobs to files, up to four at once; each appears whole and verified, or not at all.

    Where one fails, the others are given up; files that had come stay.

    Args:
        repository: Where from.
        wanted: What; of two with the same digest one is fetched after the other.
        progress: Gets the number of bytes of each piece, one call at a time.

    Raises:
        RegistryError: As of ``Repository.fetch_blob``: the first that failed.
        OSError: A destination can't be written.
    """
    counted = None if progress is None else one_at_a_time(progress)

    def work(one: Wanted) -> Callable[[], None]:
        return lambda: repository.fetch_blob(one.descriptor, one.destination, progress=counted)

    run_all([work(one) for one in sorted(wanted, key=lambda one: one.descriptor.size_bytes)])


def run_all(works: Sequence[Callable[[], None]]) -> None:
    """Do works in order, up to four at once; where one fails, give the others up.

    Raises:
        BaseException: As the first that failed.
    """
    if len(works) <= 1:
        for work in works:
            work()
        return
    Team(works).run()


class Team:
    """A few threads over some works that stand or fall together."""

    def __init__(self, works: Sequence[Callable[[], None]]) -> None:
        self._rest = list(reversed(works))
        self._cancellation = Cancellation()
        self._lock = threading.Lock()
        self._first: BaseException | None = None
        count = min(AT_ONCE, len(works))
        self._threads = [self._thread() for _ in range(count)]

    def run(self) -> None:
        """Do them all; the threads are over when this is.

        Raises:
            BaseException: As the first work that failed, or what reached this thread.
        """
        try:
            for thread in self._threads:
                thread.start()
            for thread in self._threads:
                thread.join()
        except BaseException:
            self._give_up(None)
            raise
        finally:
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()
        if self._first is not None:
            raise self._first

    def _thread(self) -> threading.Thread:
        # With the context of who asks: spans, and whether they are wanted themselves.
        context = contextvars.copy_context()
        return threading.Thread(target=lambda: context.run(self._work), name="blobs", daemon=True)

    def _work(self) -> None:
        CURRENT.set(self._cancellation)
        while not self._cancellation.is_cancelled:
            with self._lock:
                if not self._rest:
                    return
                work = self._rest.pop()
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # raised by run, on the caller's thread
                self._give_up(error)

    def _give_up(self, error: BaseException | None) -> None:
        with self._lock:
            if self._first is None and not isinstance(error, CancelledError):
                self._first = error
        self._cancellation.cancel()


def one_at_a_time(progress: Progress) -> Progress:
    """Let several threads tell what went over, of which none knows the others."""
    lock = threading.Lock()

    def counted(count: int) -> None:
        with lock:
            progress(count)

    return counted
