"""Tending the plugins: what each tick looks at, and who does what is due.

``turns`` are plugins being looked at and updated, with the network; ``upkeep`` is all that must
not wait for a registry: trials, drop-ins, the trust store, the config, what others changed.
"""

import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import in_words, translated
from agent.service.belief import heed_trust_store
from agent.service.clock import Clock
from agent.service.deadman import DeadMan
from agent.service.feed import Feed
from agent.service.reign import Reign
from agent.service.rounds import Rounds
from agent.service.trials import Trials
from agent.service.watching import Watching, stamp_of
from agent.service.workers import Workers
from agent.tree.leftovers import sweep
from sandbox import Slot

_LOG = logging.getLogger("stack_composer.service")
_ADOPT_EVERY_S = 60.0
_UPKEEP_THREADS = 2
_MANY = 1000
_DROP_INS = "drop-ins"
"""Whatever takes drop-ins, of one plugin or all, does so one after another: else two say no."""
_TRUST = "trust"
_WENT_LIVE = {"activated", "rollback", "rolled back"}
"""The history's words after which another release serves."""
_VERDICTS = {
    "committed": logging.INFO,
    "rollback": logging.INFO,
    "rolled back": logging.WARNING,
    "rollback failed": logging.WARNING,
}
"""The history's words for how a release ended its trial, or was left."""


class Tending:
    """Looks after the plugins of one state; ``tick`` is called each second.

    Args:
        open_context: Wires the installation by the config that lies there now.
        begin: Opens a host by it.
        reigns: Holds the reign in force.
        clock: What time it is.
        draw: A random number of at least 0 and less than 1, for jitter.
        removed: Told of each plugin that was removed.

    Attributes:
        feed: What happens to plugins.
        rounds: The plugins' turns.
        turns: Who does them.
        summary: How things are, in one line.
        is_ready: Whether all that can be loaded is.
        config_problem: Why the config that lies there is not in force; None where it is.
    """

    def __init__(
        self,
        open_context: Callable[[], Context],
        begin: Callable[[Context], Reign],
        reigns: Slot[Reign],
        clock: Clock,
        draw: Callable[[], float],
        *,
        removed: Callable[[str], object],
    ) -> None:
        self._open_context = open_context
        self._begin = begin
        self._reigns = reigns
        self._clock = clock
        self._removed = removed
        context = reigns.current.context
        at_once = context.config.update.parallel
        # Of one registry's plugins half: another one that hangs leaves room for the rest.
        self.turns = Workers("turn", at_once, of_one_lane=max(1, at_once // 2))
        self._upkeep = Workers("upkeep", _UPKEEP_THREADS, of_one_lane=1)
        self.rounds = Rounds(reigns, self.turns, clock, draw, moved=self.follow)
        self._trials = Trials(reigns, self._upkeep, clock)
        self._files_changed = threading.Event()
        self._watching = Watching(self._files_changed.set)
        self.feed = Feed(lambda: self._reigns.current.context)
        self.summary = "beginning"
        self.is_ready = False
        self.config_problem: str | None = None
        self._left: list[Reign] = []
        self._reload_wanted = threading.Event()
        self._put_off: frozenset[str] = frozenset()
        self._told: str | None = None
        self._adopted_s = clock.passed_s()
        self._trust_stamp = context.trust_stamp()
        self._config_stamp = stamp_of(context.places.config_files)
        self._seen = 0

    def begin(self, deadman: DeadMan) -> None:
        """Finish what a crash left, leave what took a service down twice; then load the plugins."""
        reign = self._reigns.current
        self.feed.poll()
        self._seen = self.feed.last()
        try:
            if reign.context.stranger() is None:
                with reign.context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
                    reign.context.activation.recover()
                deadman.judge(reign.telemetry)
        except Exception as error:
            if translated(error) is None:
                raise
            # What is there serves; the plugins' turns tell what is wrong.
            _LOG.warning("cannot put everything right at the start: %s", in_words(error))
        self._heed_trust_store()
        self._keep_room()
        loaded = reign.host.discover()
        _LOG.info("loaded: %s", ", ".join(loaded) or "no plugin")
        self._watching.start()
        self.tick()
        self.is_ready = True

    def _keep_room(self) -> None:
        """A rollback has to be written down whatever the disk is like."""
        try:
            self._reigns.current.context.ledger.keep_room()
        except sqlite3.Error as error:
            _LOG.warning("cannot keep room for a full disk: %s", in_words(error))

    def close(self, timeout_s: float) -> bool:
        """Begin nothing more, and wait for what is at work; whether all of it ended in time."""
        deadline_s = time.monotonic() + timeout_s
        self._watching.close()
        is_done = self.turns.close(timeout_s)
        is_done &= self._upkeep.close(max(0.0, deadline_s - time.monotonic()))
        for reign in self._left:
            reign.close(drain_s=max(0.0, deadline_s - time.monotonic()))
        return is_done

    def reload(self) -> None:
        """Read config and trust store again at the next tick, changed or not."""
        self._reload_wanted.set()

    def follow(self, plugin_id: str) -> None:
        """Have the host look at a plugin soon: something of it changed."""
        work = functools.partial(self._follow, plugin_id)
        self._upkeep.offer(f"follow {plugin_id}", work, lane=_DROP_INS)

    def tick(self) -> None:
        """Look at everything that may be due; what takes longer goes to the workers."""
        try:
            self._look_at_files()
            self._follow_others()
            self._trials.tick()
            self.rounds.tick()
            self.summary = self._sum_up()
            self._told = None
        except Exception as error:
            if translated(error) is None:
                raise
            # The disk or the ledger: what is loaded serves on, the next tick looks again.
            why = in_words(error)
            if why != self._told:
                self._told = why
                _LOG.warning("cannot look after the plugins: %s", why)

    # -- what a tick looks at

    def _look_at_files(self) -> None:
        """Config, trust store and folders, whether or not anyone told of their change."""
        context = self._reigns.current.context
        config = stamp_of(context.places.config_files)
        trust = context.trust_stamp()
        is_asked = self._reload_wanted.is_set()
        if is_asked:
            self._reload_wanted.clear()
        # What changes while it is being read is read once more. The new host looks for drop-ins.
        if (is_asked or config != self._config_stamp) and self._upkeep.offer(
            "config", self._read_config, lane=_DROP_INS
        ):
            self._config_stamp = config
        is_due = is_asked or self._put_off or trust != self._trust_stamp
        if is_due and self._upkeep.offer("trust", self._heed_trust_store, lane=_TRUST):
            self._trust_stamp = trust
        places = (*context.places.config_files, *context.places.trust_stores)
        folders = {path.parent for path in places}
        self._watching.look({context.plugins_folder, context.system_folder, *folders})
        if self._left:
            self._upkeep.offer("left", self._let_go)
        # Whoever looks for drop-ins opens a ledger that was replaced anew.
        is_due = self._files_changed.is_set() or context.ledger.is_replaced
        if is_due or self._clock.passed_s() - self._adopted_s >= _ADOPT_EVERY_S:
            self._files_changed.clear()
            if self._upkeep.offer(_DROP_INS, self._adopt, lane=_DROP_INS):
                self._adopted_s = self._clock.passed_s()
            else:  # it looks already, and may have been where something changed
                self._files_changed.set()

    def _sum_up(self) -> str:
        with self._reigns.lease() as reign:
            loaded = len(reign.host.loaded)
            trials = len(reign.context.ledger.trials())
        return f"{loaded} {'plugin' if loaded == 1 else 'plugins'}, {trials} on trial"

    def _follow_others(self) -> None:
        """What happened to plugins, whoever did it: the host follows."""
        self.feed.poll()
        happenings = self.feed.after(self._seen, _MANY)
        if happenings:
            self._seen = happenings[-1].number
            self.rounds.look_for_plugins()
        for event in (one.event for one in happenings):
            if event.kind == "removed":
                self._removed(event.plugin_id)
            if event.kind in _VERDICTS:
                # Most are a host's, which has no log of its own.
                what = f"{event.kind} {event.version}: {event.detail}"
                _LOG.log(_VERDICTS[event.kind], "%s: %s", event.plugin_id, what)
                self.rounds.hasten(event.plugin_id)  # what the trial kept away may be taken now
            if event.kind in _WENT_LIVE:
                # Who looked after a change of the store may have seen what served before.
                heed = functools.partial(self._heed_trust_store, (event.plugin_id,))
                self._upkeep.offer(f"trust {event.plugin_id}", heed, lane=_TRUST)
        for plugin_id in {one.event.plugin_id for one in happenings}:
            self.follow(plugin_id)

    # -- what is done about it

    def _adopt(self) -> None:
        with self._reigns.lease() as reign:
            reign.host.discover()
            sweep(reign.context)

    def _follow(self, plugin_id: str) -> None:
        """Load what serves by now, so that the next call need not wait for it."""
        with self._reigns.lease() as reign:
            try:
                reign.host.load_installed(plugin_id)
            except Exception as error:
                if translated(error) is None:
                    raise
                _LOG.info("%s: %s", plugin_id, in_words(error))

    def _heed_trust_store(self, only: Collection[str] | None = None) -> None:
        """Leave what is no longer believed; what can't be left now is tried again each tick."""
        put_off = set()
        with self._reigns.lease() as reign:
            try:
                heeded = heed_trust_store(reign.context, reign.telemetry, only)
            except Exception as error:
                if translated(error) is None:
                    raise
                put_off.add(f"cannot use the trust store: {in_words(error)}")
            else:
                for plugin_id in heeded.left:
                    self.rounds.hasten(plugin_id)
                    self.follow(plugin_id)
                for plugin_id, why in heeded.put_off.items():
                    put_off.add(f"cannot go back from what serves {plugin_id} yet: {why}")
        for complaint in sorted(put_off - self._put_off):
            _LOG.warning("%s", complaint)
        self._put_off = frozenset(put_off if only is None else self._put_off | put_off)

    def _read_config(self) -> None:
        """Go by the config that lies there now; where it can't be used the old one stays."""
        try:
            new = self._begin(self._open_context())
        except Exception as error:
            if translated(error) is None:
                raise
            why = in_words(error)
            if why != self.config_problem:
                self.config_problem = why
                _LOG.warning("the config in force stays: %s", why)
            return
        self.config_problem = None
        try:
            new.host.discover()
        except BaseException:
            new.close()
            raise
        self._left.append(self._reigns.swap(new))
        self.rounds.start_over()
        _LOG.info("the config was read again")

    def _let_go(self) -> None:
        """Close what reigned before, once nobody holds it."""
        for reign in list(self._left):
            if self._reigns.drain(reign, 0):
                self._left.remove(reign)
                reign.close()
