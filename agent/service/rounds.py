"""Gives each plugin its turn: when it is due it is looked at, and updated where that may be."""

import datetime as dt
import functools
import logging
import threading
from collections.abc import Callable

from agent.errors import PolicyError, in_words, translated
from agent.model import Kind, Outcome
from agent.pipeline.restraint import Restrains, Restraint, restraint
from agent.pipeline.update import Pipeline
from agent.service.clock import Clock
from agent.service.reign import Reign
from agent.service.schedule import Rhythm, Turn
from agent.service.workers import Workers
from agent.settings.windows import may_act
from agent.verbs.own import own_ids
from sandbox import Slot

_LOG = logging.getLogger("stack_composer.service")
_LOOK_FOR_PLUGINS_S = 60.0
_MOVED = frozenset({Kind.TRIAL, Kind.COMMITTED, Kind.ROLLED_BACK})


class Rounds:
    """The effects around ``agent.service.schedule``.

    Args:
        reigns: Holds the reign in force.
        workers: Do the turns.
        clock: What time it is.
        draw: A random number of at least 0 and less than 1.
        moved: Is told for which plugin a turn changed what serves.
    """

    def __init__(
        self,
        reigns: Slot[Reign],
        workers: Workers,
        clock: Clock,
        draw: Callable[[], float],
        moved: Callable[[str], None],
    ) -> None:
        self._reigns = reigns
        self._workers = workers
        self._clock = clock
        self._draw = draw
        self._moved = moved
        self._lock = threading.Lock()
        self._turns: dict[str, Turn] = {}
        self._said: dict[str, tuple[Kind, str | None, str]] = {}
        self._looked_s = float("-inf")

    def look_for_plugins(self) -> None:
        """Some may have come or gone: see at the next tick."""
        self._looked_s = float("-inf")

    def start_over(self) -> None:
        """Another config is in force: every plugin has its turn soon, as at a start."""
        with self._lock:
            self._turns = {}
        self.look_for_plugins()

    def hasten(self, plugin_id: str) -> None:
        """A plugin has its turn at the next tick, whatever its schedule says."""
        with self._lock:
            if plugin_id in self._turns:
                self._turns[plugin_id] = Turn()

    def due(self) -> dict[str, float]:
        """Plugin → in how many seconds it has its turn; 0 or less = now."""
        now_s = self._clock.passed_s()
        with self._lock:
            return {one: turn.due_s - now_s for one, turn in self._turns.items()}

    def tick(self) -> None:
        """Offer the plugins that are due to the workers."""
        now_s = self._clock.passed_s()
        with self._reigns.lease() as reign:
            if now_s - self._looked_s >= _LOOK_FOR_PLUGINS_S:
                self._take_stock(reign)
                self._looked_s = now_s
            is_open = may_act(reign.windows, self._now())
            with self._lock:
                due = [
                    one
                    for one, turn in self._turns.items()
                    if turn.is_due(now_s, may_act=is_open and reign.mode(one) == "auto")
                ]
            for plugin_id in due:
                work = functools.partial(self._take_turn, plugin_id)
                self._workers.offer(plugin_id, work, lane=_lane(reign, plugin_id))

    def _take_stock(self, reign: Reign) -> None:
        """Plugins that are updated by themselves have a place in the schedule, and no others."""
        ids = own_ids(reign.context)
        reign.telemetry.metrics.keep(ids)
        kept = [one for one in ids if reign.mode(one) != "manual"]
        with self._lock:
            self._turns = {one: self._turns.get(one, Turn()) for one in kept}

    def _take_turn(self, plugin_id: str) -> None:
        with self._lock:
            turn = self._turns.get(plugin_id)
        with self._reigns.lease() as reign:
            if turn is None or reign.mode(plugin_id) == "manual":
                return  # since it was offered
            restrains = functools.partial(self._restraint, reign, plugin_id)
            is_bound = restrains() is not None
            outcome = self._update(reign, plugin_id, restrains)
            rhythm = _rhythm(reign)
        self._tell(outcome)
        waits = isinstance(outcome.error, PolicyError) and outcome.error.reason == "window"
        now_s, draw = self._clock.passed_s(), self._draw()
        with self._lock:
            if self._turns.get(plugin_id) is turn:  # else it was hastened meanwhile
                self._turns[plugin_id] = turn.after(
                    outcome, rhythm, now_s, draw, may_act=not is_bound, awaits_window=waits
                )
        if outcome.kind in _MOVED:
            self._moved(plugin_id)

    def _restraint(self, reign: Reign, plugin_id: str) -> Restraint | None:
        if self._reigns.current is not reign:
            return Restraint("config", "another config is in force by now")
        return restraint(reign.mode(plugin_id), reign.windows, self._now())

    def _update(self, reign: Reign, plugin_id: str, restrains: Restrains) -> Outcome:
        pipeline = Pipeline(reign.context, reign.telemetry, restrains=restrains)
        try:
            return pipeline.update(plugin_id, named=False)
        except Exception as error:  # noqa: BLE001 - the turn must end, or it comes each second
            # What the pipeline could not even write down: a full disk, a ledger that is gone.
            cause = translated(error)
            if cause is None:
                _LOG.exception("cannot update %s", plugin_id)
            return Outcome(plugin_id, Kind.FAILED, "check", in_words(error), error=cause)

    def _tell(self, outcome: Outcome) -> None:
        """Say what a turn came to, where it is another thing than the last one did."""
        rule = outcome.error.reason if isinstance(outcome.error, PolicyError) else ""
        said = (outcome.kind, None if outcome.kind is Kind.CURRENT else outcome.after, rule)
        is_news = self._said.get(outcome.plugin_id) != said
        self._said[outcome.plugin_id] = said
        is_bad = outcome.kind in (Kind.REFUSED, Kind.FAILED, Kind.ROLLED_BACK)
        level = logging.WARNING if is_bad else logging.INFO
        what = f"{outcome.kind} at {outcome.step}: {outcome.detail}"
        _LOG.log(level if is_news else logging.DEBUG, "%s: %s", outcome.plugin_id, what)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.wall_s(), dt.UTC)


def _rhythm(reign: Reign) -> Rhythm:
    update = reign.context.config.update
    return Rhythm(update.interval, update.jitter)


def _lane(reign: Reign, plugin_id: str) -> str:
    """The registry that a plugin comes from, as far as that can be said without asking it."""
    installed = reign.context.ledger.installed(plugin_id)
    repository = installed.repository if installed is not None else None
    return (repository or "").partition("/")[0]
