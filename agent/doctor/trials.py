"""What waits: stops and holds by an operator's word, trials, and what lies in the future."""

import functools
from collections.abc import Iterator, Sequence

from agent.context import Context
from agent.doctor.finding import Finding
from agent.model import Trial
from agent.pipeline.probation import Verdict
from agent.verbs.holding import held_until
from agent.verbs.inventory import moment
from agent.verbs.own import disabled_ids

_ASTRAY_S = 300


def check_clock(context: Context) -> Iterator[Finding]:
    """Whether the clock was set back since the ledger was last written.

    Nothing is wrong for that: which of the two was, nobody can say, and no time is rewritten by
    a clock that may be behind. A trial that it keeps open is told as such.
    """
    newest, now = context.ledger.newest_time(), context.clock()
    if newest is not None and newest > now + _ASTRAY_S:
        yield Finding(
            "clock",
            ok=True,
            detail=f"the ledger was written at {moment(newest)}, and the clock says {moment(now)}: "
            "one of the two was or is wrong; holds and cooldowns may wait too long",
            fix="set the clock (timedatectl); where it is right now, nothing need be done",
        )
        return
    yield Finding("clock", ok=True, detail=f"the clock says {moment(now)}")


def check_stops(context: Context) -> Iterator[Finding]:
    """What serves nobody, or is not updated, because an operator said so."""
    ledger = context.ledger
    told = [f"{plugin_id} is disabled (agent enable)" for plugin_id in disabled_ids(context)]
    for plugin_id in ledger.plugin_ids():
        until = held_until(context, plugin_id)
        if until is not None:
            told.append(f"{plugin_id} is held: {until} (agent unhold)")
    yield Finding("stops", ok=True, detail="; ".join(told) or "nothing is disabled or held")


def check_trials(context: Context) -> Iterator[Finding]:
    """Whether an open trial waits for somebody to judge it, or can never end."""
    now, wrong = context.clock(), 0
    for plugin_id in context.ledger.plugin_ids():
        trial = context.ledger.trial(plugin_id)
        if trial is None:
            continue
        judge = functools.partial(_judge, context, trial)
        if trial.started_at > now + _ASTRAY_S:
            wrong += 1
            yield Finding(
                "trial",
                ok=False,
                detail=f"{plugin_id}: its trial began at {moment(trial.started_at)}, which is yet "
                "to come: it would not end in time",
                fix="agent doctor --fix lets it begin now",
                mend=functools.partial(_begin_anew, context, trial),
            )
        elif context.activation.judgement(trial).verdict is not Verdict.TOO_EARLY:
            wrong += 1
            yield Finding(
                "trial",
                ok=False,
                detail=f"{plugin_id}: its trial is due since {moment(trial.ends_at)}, and nobody "
                "has judged it",
                fix=f"agent doctor --fix judges it, as agent update {plugin_id} would",
                mend=judge,
            )
    if not wrong:
        yield Finding("trial", ok=True, detail="no trial is due")


def _judge(context: Context, trial: Trial) -> Sequence[str]:
    judged = context.activation.judge(trial.plugin_id)
    return () if judged is None else (f"{trial.plugin_id}: {judged[1].detail}",)


def _begin_anew(context: Context, trial: Trial) -> Sequence[str]:
    context.ledger.begin_trial_anew(trial, at=context.clock())
    return ()
