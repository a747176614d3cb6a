"""Rows of JSON documents that verbs and the control API share (contract §7)."""

from agent.context import Context
from agent.model import Decision, Outcome
from agent.verbs.holding import held_until
from agent.verbs.inventory import Entry, moment


def outcome_row(outcome: Outcome) -> dict[str, object]:
    """What became of one plugin."""
    return {
        "id": outcome.plugin_id,
        "from": outcome.before,
        "to": outcome.after,
        "release": outcome.release,
        "digest": outcome.digest,
        "outcome": outcome.kind.value,
        "step": outcome.step,
        "detail": outcome.detail,
        **outcome.extra,
    }


def decision_row(decision: Decision) -> dict[str, object]:
    """What the last run decided for a plugin."""
    return {
        "at": moment(decision.at),
        "candidate": decision.candidate,
        "outcome": decision.outcome,
        "step": decision.step,
        "reason": decision.reason,
        "detail": decision.detail,
    }


def details(context: Context, entry: Entry) -> dict[str, object]:
    """Everything about one installed plugin."""
    ledger, plugin_id = context.ledger, entry.plugin_id
    installed, trial = ledger.installed(plugin_id), ledger.trial(plugin_id)
    live = context.activation.live(plugin_id) or context.activation.good(plugin_id)
    samples = ledger.samples(plugin_id, entry.release)
    return entry.row() | {
        "floor": installed.floor if installed else None,
        "channel": installed.channel if installed else None,
        "installed_at": moment(live.installed_at) if live else None,
        "held_until": held_until(context, plugin_id),
        "trial_ends_at": moment(trial.ends_at) if trial else None,
        "calls": samples.calls,
        "failures": samples.failures,
        "kept": [g.version for g in ledger.generations(plugin_id)],
        "rejected": [f"{r.version}: {r.reason}" for r in ledger.rejections(plugin_id).values()],
    }
