"""Probation by the service: open trials are judged in time, and asked for their health.

Whoever made a release live, the service or a command, and whether anyone calls it or not.
"""

import functools
import logging
from collections.abc import Callable

from agent.errors import in_words, translated
from agent.model import Trial
from agent.pipeline.probation import Verdict
from agent.pipeline.settling import settle
from agent.service.clock import Clock
from agent.service.reign import Reign
from agent.service.workers import Workers
from sandbox import Slot

_LOG = logging.getLogger("stack_composer.service")
_LOCK_TIMEOUT_S = 5.0
_JUDGE_AGAIN_S = 5.0
_CHECKS = 10
_LEAST_S, _MOST_S = 1.0, 60.0


def health_every_s(probation_s: float) -> float:
    """How often a release on trial is asked: ten times, but each second or minute at the ends."""
    return min(max(probation_s / _CHECKS, _LEAST_S), _MOST_S)


class Trials:
    """Looks at the open trials each tick; what takes longer is done by workers.

    Args:
        reigns: Holds the reign in force.
        workers: Do what takes longer.
        clock: What time it is.
    """

    def __init__(
        self,
        reigns: Slot[Reign],
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._reigns = reigns
        self._workers = workers
        self._clock = clock
        self._not_before_s: dict[tuple[str, str, str], float] = {}

    def tick(self) -> None:
        """Offer what is due to the workers: a judgement, else a health call."""
        now_s = self._clock.passed_s()
        with self._reigns.lease() as reign:
            trials = reign.context.ledger.trials()
            known = {(trial.plugin_id, trial.release) for trial in trials}
            kept = {key: at for key, at in self._not_before_s.items() if key[1:] in known}
            self._not_before_s = kept
            for trial in trials:
                judgement = reign.context.activation.judgement(trial)
                # One that began in what is the future by now begins anew when it is judged.
                is_ahead = trial.started_at > reign.context.clock()
                if is_ahead or judgement.verdict is not Verdict.TOO_EARLY:
                    self._offer("judge", trial, self._judge, now_s, _JUDGE_AGAIN_S)
                else:
                    every_s = health_every_s(trial.ends_at - trial.started_at)
                    self._offer("ask", trial, self._ask, now_s, every_s)

    def _offer(
        self, what: str, trial: Trial, work: Callable[[Trial], None], now_s: float, again_s: float
    ) -> None:
        key = (what, trial.plugin_id, trial.release)
        if now_s < self._not_before_s.get(key, now_s):
            return
        if self._workers.offer(trial.plugin_id, functools.partial(work, trial)):
            self._not_before_s[key] = now_s + again_s

    def _judge(self, trial: Trial) -> None:
        """Commit or go back, if nobody else has; the history tells of it."""
        plugin_id = trial.plugin_id
        with self._reigns.lease() as reign:
            try:
                settle(reign.context, reign.telemetry, plugin_id, timeout_s=_LOCK_TIMEOUT_S)
            except Exception as error:
                if translated(error) is None:
                    raise
                _LOG.warning("cannot judge the trial of %s now: %s", plugin_id, in_words(error))

    def _ask(self, trial: Trial) -> None:
        """Call its ``[health]``; the host records a failure, and judges."""
        with self._reigns.lease() as reign:
            try:
                reign.host.check_health(trial.plugin_id)
            except Exception as error:
                if translated(error) is None:
                    raise
                _LOG.warning("cannot ask %s for its health: %s", trial.plugin_id, in_words(error))
