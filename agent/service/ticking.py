"""The service's tick, by APScheduler: each second, however the clock is set meanwhile."""

import contextlib
import datetime as dt
import logging
from collections.abc import Callable, Iterator

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

_EVERY = dt.timedelta(seconds=1)


class _Next(BaseTrigger):  # type: ignore[misc] # it has no types
    """A second from now; APScheduler's own interval counts every one that a clock skips."""

    def get_next_fire_time(self, _before: dt.datetime | None, now: dt.datetime) -> dt.datetime:
        """When the tick is due next."""
        return now + _EVERY


@contextlib.contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Call ``tick`` each second for the length of the block; one at a time.

    Yields:
        What wakes it where it overslept: it waits for a wall time, after the clock was set
        back for long.
    """
    # That a tick still runs when the next is due is no news: that one is left out.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler = BackgroundScheduler(timezone=dt.UTC)
    scheduler.add_job(tick, _Next(), id="tick", misfire_grace_time=None)
    scheduler.start()

    def rouse() -> None:
        scheduler.modify_job("tick", next_run_time=dt.datetime.now(dt.UTC))

    try:
        yield rouse
    finally:
        scheduler.shutdown(wait=True)
