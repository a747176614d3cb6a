"""The background service: what ``agent run`` is, from the lock to the last drained call.

A tick of a second looks at what is due and hands it to workers; nothing else has a rhythm.
``turns`` are plugins being looked at and updated, with the network; ``upkeep`` is all that must
not wait for a registry: trials, drop-ins, the trust store, the config, what others changed.
"""

import contextlib
import datetime as dt
import functools
import logging
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping

from agent.context import LOCK_TIMEOUT_S, Context, Options
from agent.errors import ConfigError, in_words, translated
from agent.host import PluginHost
from agent.service.belief import heed_trust_store
from agent.service.clock import Clock
from agent.service.deadman import DeadMan
from agent.service.feed import Feed
from agent.service.lock import service_lock
from agent.service.notify import Supervisor
from agent.service.reign import Reign
from agent.service.rounds import Rounds
from agent.service.trials import Trials
from agent.service.watching import Watching, stamp_of
from agent.service.workers import Workers
from agent.telemetry import log_record
from sandbox import Slot

_LOG = logging.getLogger("stack_composer.service")
_TICK_S = 1.0
_LATE_S = 5.0
_DEAD_S = 60.0
_DRAIN_S = 20.0
_ADOPT_EVERY_S = 60.0
_UPKEEP_THREADS = 2


class Service:
    """See the module. ``run`` once; ``stop`` and ``reload`` may be called from signal handlers.

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
        self._stopping = threading.Event()
        self._reload_wanted = threading.Event()
        self._ticked_s = self._adopted_s = self._clock.passed_s()
        self._looking = threading.Lock()
        self._told: str | None = None
        self.is_ready = threading.Event()
        self.config_problem: str | None = None

    def stop(self) -> None:
        """End in good order, soon."""
        self._stopping.set()

    def reload(self) -> None:
        """Read config and trust store again, soon."""
        self._reload_wanted.set()

    def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            ConfigError: The config can't be used at the start; later ones are refused.
            BusyError: Another service runs.
            AgentError, OSError, sqlite3.Error: It can't begin.
        """
        context = self._context()
        with service_lock(context):
            self._deadman = DeadMan(lambda: self._reigns.current.context)
            self._reigns = Slot(self._begin(context))
            try:
                self._serve()
            finally:
                self._reigns.current.close()

    # -- beginning and end

    def _context(self) -> Context:
        return Context(self._options, self._environ, acting="service", default_isolation="process")

    def _begin(self, context: Context) -> Reign:
        return Reign.begin(context, on_load=self._arm, on_log=log_record)

    def _arm(self, plugin_id: str) -> None:
        self._deadman.arm(plugin_id)

    def _serve(self) -> None:
        self._left: list[Reign] = []
        self._feed = Feed(lambda: self._reigns.current.context)
        update = self._reigns.current.context.config.update
        # Of one registry's plugins half: another one that hangs leaves room for the rest.
        self._turns = Workers("turn", update.parallel, of_one_lane=max(1, update.parallel // 2))
        self._upkeep = Workers("upkeep", _UPKEEP_THREADS)
        self._rounds = Rounds(
            self._reigns, self._turns, self._clock, self._draw, moved=self._offer_follow
        )
        self._trials = Trials(self._reigns, self._upkeep, self._clock, ended=self._trial_ended)
        self._watching = Watching(self._saw_change)
        self._feed.poll()
        self._seen = self._feed.last()
        self._trust_stamp = self._reigns.current.context.trust_stamp()
        self._config_stamp = stamp_of(self._reigns.current.context.places.config_files)
        self._recover()
        self._discover()
        with self._watching, self._ticking() as rouse:
            self.is_ready.set()
            self._supervisor.ready(self._summary())
            _LOG.info("%s", self._summary())
            self._watch_over(rouse)
            self._supervisor.stopping()
        is_done = self._turns.close(_DRAIN_S)
        is_done &= self._upkeep.close(_DRAIN_S)
        if not is_done:
            _LOG.warning("still at work after %d s: left as it is; nothing is half done", _DRAIN_S)
        self._deadman.disarm()
        for reign in self._left:
            reign.close()

    def _recover(self) -> None:
        """Finish what a crash left, and leave what took a service down twice."""
        reign = self._reigns.current
        try:
            if reign.context.stranger() is None:
                with reign.context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
                    reign.context.activation.recover()
                self._deadman.judge(reign.telemetry)
            heed_trust_store(reign.context, reign.telemetry)
        except Exception as error:
            if translated(error) is None:
                raise
            # What is there serves; the turns of the plugins say what is wrong.
            _LOG.warning("cannot put everything right at the start: %s", in_words(error))

    def _discover(self) -> None:
        loaded = self._reigns.current.host.discover()
        _LOG.info("loaded: %s", ", ".join(loaded) or "no plugin")

    @contextlib.contextmanager
    def _ticking(self) -> Iterator[Callable[[], None]]:
        """Let APScheduler tick; yields what wakes it where it overslept."""
        from apscheduler.schedulers.background import BackgroundScheduler

        # That a tick still runs when the next is due is no news: that one is left out.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        scheduler = BackgroundScheduler(timezone=dt.UTC)
        scheduler.add_job(
            self._tick, "interval", seconds=_TICK_S, id="tick", misfire_grace_time=None
        )
        scheduler.start()

        def rouse() -> None:
            scheduler.modify_job("tick", next_run_time=dt.datetime.now(dt.UTC))

        try:
            yield rouse
        finally:
            scheduler.shutdown(wait=True)

    def _watch_over(self, rouse: Callable[[], None]) -> None:
        """Be the main thread until the end: take signals, give signs of life."""
        signed_s = self._clock.passed_s()
        while not self._stopping.wait(_TICK_S):
            late_s = self._clock.passed_s() - self._ticked_s
            if late_s > _LATE_S:
                # APScheduler waits for a wall time: after the clock was set back, for long.
                rouse()
            every_s = self._supervisor.sign_every_s
            is_due = every_s is not None and self._clock.passed_s() - signed_s >= every_s - _TICK_S
            if is_due and late_s < _DEAD_S:
                signed_s = self._clock.passed_s()
                self._supervisor.alive()

    # -- the tick

    def _tick(self) -> None:
        self._ticked_s = self._clock.passed_s()
        try:
            self._look_at_files()
            self._follow_others()
            self._trials.tick()
            self._rounds.tick()
            self._supervisor.status(self._summary())
            self._told = None
        except (sqlite3.Error, OSError) as error:
            # The disk or the ledger: what is loaded serves on, the next tick looks again.
            why = in_words(error)
            if why != self._told:
                self._told = why
                _LOG.warning("cannot look after the plugins: %s", why)

    def _look_at_files(self) -> None:
        """Config and trust store, whether or not anyone told of their change."""
        with self._looking:
            self._look_at_each()

    def _look_at_each(self) -> None:
        context = self._reigns.current.context
        stamp = stamp_of(context.places.config_files)
        if self._reload_wanted.is_set() or stamp != self._config_stamp:
            self._reload_wanted.clear()
            self._config_stamp = stamp
            self._upkeep.offer("config", self._read_config)
            self._upkeep.offer("trust", self._heed_trust_store)
        trusted = context.trust_stamp()
        if trusted != self._trust_stamp and self._upkeep.offer("trust", self._heed_trust_store):
            self._trust_stamp = trusted
        if self._left:
            self._upkeep.offer("left", self._let_go)
        places = (*context.places.config_files, *context.places.trust_stores)
        folders = (context.plugins_folder, context.system_folder, *(p.parent for p in places))
        self._watching.look(folders)
        if self._clock.passed_s() - self._adopted_s >= _ADOPT_EVERY_S:
            self._offer_adoption()

    def _follow_others(self) -> None:
        """What happened to plugins, whoever did it: their hosts here follow."""
        self._feed.poll()
        happenings = self._feed.after(self._seen, 1000)
        if happenings:
            self._seen = happenings[-1].number
            self._rounds.look_for_plugins()
        for plugin_id in {one.event.plugin_id for one in happenings}:
            self._offer_follow(plugin_id)

    # -- upkeep

    def _saw_change(self) -> None:
        """Something changed in a folder: of plugins, of the trust store or of the config."""
        self._look_at_files()
        self._offer_adoption()

    def _offer_adoption(self) -> None:
        self._adopted_s = self._clock.passed_s()
        self._upkeep.offer("drop-ins", self._adopt)

    def _adopt(self) -> None:
        with self._reigns.lease() as reign:
            reign.host.discover()

    def _offer_follow(self, plugin_id: str) -> None:
        self._upkeep.offer(f"follow {plugin_id}", functools.partial(self._follow, plugin_id))

    def _follow(self, plugin_id: str) -> None:
        """Load what serves by now, so that the next call need not wait for it."""
        with self._reigns.lease() as reign:
            try:
                reign.host.load_installed(plugin_id)
            except Exception as error:
                if translated(error) is None:
                    raise
                _LOG.info("%s: %s", plugin_id, in_words(error))

    def _trial_ended(self, plugin_id: str) -> None:
        self._rounds.hasten(plugin_id)
        self._offer_follow(plugin_id)

    def _heed_trust_store(self) -> None:
        with self._reigns.lease() as reign:
            try:
                for plugin_id in heed_trust_store(reign.context, reign.telemetry):
                    self._rounds.hasten(plugin_id)
                    self._offer_follow(plugin_id)
            except Exception as error:
                if translated(error) is None:
                    raise
                _LOG.warning("cannot use the trust store: %s", in_words(error))

    def _read_config(self) -> None:
        """Go by the config that lies there now; where it can't be used the old one stays."""
        try:
            context = self._context()
        except ConfigError as error:
            if str(error) != self.config_problem:
                self.config_problem = str(error)
                _LOG.warning("the config in force stays: %s", error)
            return
        self.config_problem = None
        new = self._begin(context)
        new.host.discover()
        self._left.append(self._reigns.swap(new))
        self._rounds.look_for_plugins()
        _LOG.info("the config was read again")

    def _let_go(self) -> None:
        """Close what reigned before, once nobody holds it."""
        for reign in list(self._left):
            if self._reigns.drain(reign, 0):
                self._left.remove(reign)
                reign.close()

    # -- what it says

    @contextlib.contextmanager
    def serving(self) -> Iterator[PluginHost]:
        """The host in force; never closed inside the block."""
        with self._reigns.lease() as reign:
            yield reign.host

    def _summary(self) -> str:
        with self._reigns.lease() as reign:
            loaded = len(reign.host.loaded)
            trials = len(reign.context.ledger.trials())
        return f"{loaded} plugins, {trials} on trial"
