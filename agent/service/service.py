"""The background service: what ``agent run`` is, from the lock to the last drained call."""

import contextlib
import functools
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum

from agent.context import Context, Options
from agent.control.logbook import LogBook
from agent.errors import AgentError
from agent.service.answering import Answering
from agent.service.clock import Clock
from agent.service.deadman import DeadMan
from agent.service.desk import Desk
from agent.service.hooks import Hooks
from agent.service.lock import service_lock
from agent.service.notify import Supervisor
from agent.service.reign import Reign
from agent.service.tending import Tending
from agent.service.ticking import ticking
from agent.telemetry import Telemetry, endpoint_of
from sandbox import Slot

_LOG = logging.getLogger("stack_composer.service")
_TICK_S = 1.0
_LATE_S = 5.0
_DEAD_S = 60.0
_DRAIN_S = 20.0
_HOOKS_DRAIN_S = 5.0


class _Told(Enum):
    STOP = "stop"
    RELOAD = "reload"
    BEGUN = "begun"


class Service:
    """See the module. ``run`` it once; ``stop`` and ``reload`` may come from signal handlers.

    Args:
        options: The global flags.
        environ: The process environment.
        clock: What time it is.
        draw: A random number of at least 0 and less than 1, for jitter.
    """

    def __init__(
        self,
        options: Options,
        environ: Mapping[str, str],
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._environ = environ
        self._clock = clock or Clock()
        self._draw = draw
        self._supervisor = Supervisor(environ)
        self._telemetries: dict[str, Telemetry] = {}
        # A signal's handler runs in the middle of whatever the main thread does: what it tells is
        # put where no lock is taken, as an event's or a condition's would be.
        self._told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._ticked_s = self._clock.passed_s()
        self._ends_s = math.inf

    def stop(self) -> None:
        """End in good order, soon."""
        self._told.put(_Told.STOP)

    def reload(self) -> None:
        """Read config and trust store again, soon."""
        self._told.put(_Told.RELOAD)

    def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            ConfigError: The config can't be used at the start; later ones are refused.
            BusyError: Another service runs.
            AgentError, OSError, sqlite3.Error: It can't begin.
        """
        context = self._context()
        with service_lock(context):
            logs = LogBook()
            deadman = DeadMan(lambda: reigns.current.context)

            def begin(wired: Context) -> Reign:
                telemetry = self._telemetry(wired)
                return Reign.begin(wired, telemetry, on_load=deadman.arm, on_log=logs.take)

            reigns = Slot(begin(context))
            try:
                tending = Tending(
                    self._context, begin, reigns, self._clock, self._draw, removed=logs.forget
                )
                self._tend(tending, deadman, Desk(reigns, tending, logs))
            finally:
                left_s = max(0.0, min(_DRAIN_S, self._ends_s - time.monotonic()))
                reigns.current.close(drain_s=left_s)
                for telemetry in self._telemetries.values():
                    telemetry.close()

    def _next_told(self) -> "_Told | None":
        try:
            return self._told.get(timeout=_TICK_S)
        except queue.Empty:
            return None

    def _context(self) -> Context:
        return Context(
            self._options,
            self._environ,
            clock=self._clock.wall_s,
            acting="service",
            default_isolation="process",
        )

    def _telemetry(self, context: Context) -> Telemetry:
        """One for each collector: figures are counted on whatever else of the config changes."""
        endpoint = endpoint_of(context.config.telemetry.endpoint, self._environ)
        if endpoint not in self._telemetries:
            self._telemetries[endpoint] = Telemetry(endpoint, scraped=True)
        return self._telemetries[endpoint]

    def _tend(self, tending: Tending, deadman: DeadMan, desk: Desk) -> None:
        hooks = Hooks(desk.context, tending.feed)
        # Nobody may have a plugin called, and so loaded, before what took a service down is left.
        if not self._begin(tending, deadman):
            self._supervisor.stopping()
            self._end(tending, hooks, deadman)
            return
        hooks.start()
        tick = functools.partial(self._tick, tending)
        try:
            with contextlib.closing(Answering(desk)) as answering, ticking(tick) as rouse:
                self._supervisor.ready(tending.summary)
                _LOG.info("ready: %s", tending.summary)
                self._watch_over(tending, answering, rouse)
                # Beside the calls that are answered still.
                self._ends_s = time.monotonic() + _DRAIN_S
                self._supervisor.stopping()
        except AgentError:
            # The socket's place or group: no release on trial is to blame.
            self._end(tending, hooks, deadman)
            raise
        self._end(tending, hooks, deadman)

    def _begin(self, tending: Tending, deadman: DeadMan) -> bool:
        """Have everything put right and loaded, which may take its time; False = told to stop."""
        failed: list[BaseException] = []

        def begin() -> None:
            try:
                tending.begin(deadman)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                failed.append(error)
            self._told.put(_Told.BEGUN)

        threading.Thread(target=begin, name="begin", daemon=True).start()
        while (told := self._told.get()) is not _Told.BEGUN:
            if told is _Told.STOP:
                return False
            tending.reload()
        if failed:
            raise failed[0]
        return True

    def _end(self, tending: Tending, hooks: Hooks, deadman: DeadMan) -> None:
        self._ends_s = min(self._ends_s, time.monotonic() + _DRAIN_S)
        if not tending.close(max(0.0, self._ends_s - time.monotonic())):
            _LOG.warning("still at work after %d s: left as it is, nothing is half done", _DRAIN_S)
        hooks.close(_HOOKS_DRAIN_S)
        deadman.disarm()

    def _tick(self, tending: Tending) -> None:
        self._ticked_s = self._clock.passed_s()
        tending.tick()
        self._supervisor.status(tending.summary)

    def _watch_over(
        self, tending: Tending, answering: Answering, rouse: Callable[[], None]
    ) -> None:
        """Be the main thread until the end: pass signals on, give signs of life."""
        signed_s = self._clock.passed_s()
        while (told := self._next_told()) is not _Told.STOP:
            if told is _Told.RELOAD:
                tending.reload()
            answering.heed()
            late_s = self._clock.passed_s() - self._ticked_s
            if late_s > _LATE_S:
                rouse()
            every_s = self._supervisor.sign_every_s
            is_due = every_s is not None and self._clock.passed_s() - signed_s >= every_s - _TICK_S
            if is_due and late_s < _DEAD_S:
                signed_s = self._clock.passed_s()
                self._supervisor.alive()
