"""The service's tick, by APScheduler: each second, however the clock is set meanwhile."""

import contextlib
import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

_LOG = logging.getLogger("stack_composer.service")
_EVERY = dt.timedelta(seconds=1)
_END_S = 5.0


class _Next(BaseTrigger):  # type: ignore[misc] # it has no types
    """A second from now; APScheduler's own interval counts every one that a clock skips."""

    def get_next_fire_time(self, _before: dt.datetime | None, now: dt.datetime) -> dt.datetime:
        """When the tick is due next."""
        return now + _EVERY


@contextlib.contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Call ``tick`` each second for the length of the block; one at a time.

    One that hangs, on a disk say, is left behind at the end: APScheduler would wait for it.

    Yields:
        What wakes it where it overslept: it waits for a wall time, after the clock was set
        back for long.
    """
    due, is_over = threading.Event(), threading.Event()

    def serve() -> None:
        while due.wait() and not is_over.is_set():
            due.clear()
            try:
                tick()
            except Exception:  # noqa: BLE001 - a fault in one must not end the others
                _LOG.exception("cannot finish a tick")

    thread = threading.Thread(target=serve, name="tick", daemon=True)
    thread.start()
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it tells of its own doings
    scheduler = BackgroundScheduler(timezone=dt.UTC)
    scheduler.add_job(due.set, _Next(), id="tick", misfire_grace_time=None)
    scheduler.start()

    def rouse() -> None:
        scheduler.modify_job("tick", next_run_time=dt.datetime.now(dt.UTC))

    try:
        yield rouse
    finally:
        scheduler.shutdown(wait=True)
        is_over.set()
        due.set()
        thread.join(_END_S)
