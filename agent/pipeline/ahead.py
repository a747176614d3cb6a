"""Looking ahead: while one plugin of a run is judged, registries list the tags of the next ones."""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future

import registry

_AT_ONCE = 3
"""With what the run itself asks: four connections, which is what a pool keeps."""

_AHEAD = 12
"""Enough that they always have something to ask for, whatever the run does meanwhile."""

_Listing = tuple[registry.Repository, "Future[tuple[str, ...]]"]


class Ahead:
    """Lists the tags of the repositories that a run is about to ask, a few ahead of it.

    A listing is asked for once, and has a taker or none; a repository that was not foreseen is
    opened and asked on the spot. When a run is given up, listings under way are left to their
    own deadlines.

    Args:
        foresee: Opens the repository whose tags a run is going to list for a plugin; None =
            nobody's. Its connections are shared: there is nothing to close.
    """

    def __init__(
        self,
        foresee: Callable[[str], registry.Repository | None],
    ) -> None:
        self._foresee = foresee
        self._listings: dict[registry.Location, _Listing] = {}
        self._work: queue.SimpleQueue[_Listing | None] = queue.SimpleQueue()
        self._threads = 0

    def over(self, plugin_ids: Iterable[str]) -> Generator[str]:
        """Give the plugins of a run in turn; those that follow are looked up meanwhile."""
        rest = iter(plugin_ids)
        coming = deque[tuple[str, registry.Location | None]]()
        try:
            while True:
                for plugin_id in itertools.islice(rest, _AHEAD - len(coming)):
                    coming.append((plugin_id, self._ask(plugin_id)))
                if not coming:
                    return
                plugin_id, location = coming.popleft()
                yield plugin_id
                if location is not None:
                    self._listings.pop(location, None)
        finally:
            for _ in range(self._threads):
                self._work.put(None)

    def opened(self, location: registry.Location) -> registry.Repository | None:
        """The repository whose tags are being listed; None where nobody foresaw it."""
        listing = self._listings.get(location)
        return None if listing is None else listing[0]

    def tags(self, repository: registry.Repository) -> tuple[str, ...]:
        """The tags of a repository; raises as its own ``tags`` does."""
        listing = self._listings.pop(repository.location, None)
        return repository.tags() if listing is None else listing[1].result()

    def _ask(self, plugin_id: str) -> registry.Location | None:
        repository = self._foresee(plugin_id)
        if repository is None:
            return None
        listing = self._listings[repository.location] = repository, Future[tuple[str, ...]]()
        self._work.put(listing)
        if self._threads < _AT_ONCE:
            self._threads += 1
            # not of an executor: a process that is told to end would wait for its threads
            threading.Thread(target=self._list, name="tags-ahead", daemon=True).start()
        return repository.location

    def _list(self) -> None:
        while (work := self._work.get()) is not None:
            repository, listing = work
            try:
                listing.set_result(repository.tags())
            except BaseException as error:  # noqa: BLE001  # whoever takes the listing raises it
                listing.set_exception(error)
