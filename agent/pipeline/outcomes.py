"""What a run says of one plugin: rows made from candidates, skips and judgements."""

from dataclasses import replace

from agent.errors import AgentError, NotFoundError, PolicyError, RollbackError, UnhealthyError
from agent.model import Generation, Kind, Outcome
from agent.pipeline.candidate import Candidate
from agent.pipeline.probation import Judgement
from agent.pipeline.search import Found


def outcome_of(candidate: Candidate, kind: Kind, step: str, detail: str) -> Outcome:
    """The outcome for a release that was found."""
    return Outcome(
        candidate.manifest.id,
        kind,
        step,
        detail,
        after=candidate.manifest.version,
        release=candidate.release,
        digest=candidate.digest,
    )


def with_passed_over(outcome: Outcome, found: Found) -> Outcome:
    """Say which newer versions were passed over, and why."""
    passed = "".join(f"; passed over {skip.version}: {skip.detail}" for skip in found.skips)
    return replace(outcome, detail=outcome.detail + passed, newest=found.newest)


def on_trial(plugin_id: str, detail: str = "on trial until probation ends") -> Outcome:
    """An open trial keeps an update run from taking the next version."""
    cause = PolicyError(f"cannot update {plugin_id} now: {detail}", reason="trial")
    return Outcome(plugin_id, Kind.PENDING, "trial", detail, error=cause)


def is_disabled(plugin_id: str, word: str) -> PolicyError:
    """The error for who asks a disabled plugin for anything but to be enabled or removed."""
    return PolicyError(
        f"cannot {word} {plugin_id}: it is disabled",
        reason="disabled",
        hint=f"agent enable {plugin_id}",
    )


def disabled(plugin_id: str) -> Outcome:
    """A disabled plugin is passed over by update runs."""
    cause = is_disabled(plugin_id, "update")
    return Outcome(plugin_id, Kind.PENDING, "plan", "passed over until agent enable", error=cause)


def removed(plugin_id: str, *, dry_run: bool) -> Outcome:
    """A removal that was cut short, finished by an update run."""
    kind = Kind.PLANNED if dry_run else Kind.COMMITTED
    word = "would be removed" if dry_run else "removed"
    return Outcome(plugin_id, kind, "remove", f"{word}, as agent remove had begun")


def put_right(good: Generation) -> Outcome:
    """Nothing serves, and a run would have the good release serve before it looks further."""
    detail = f"{good.version} would serve again, and be updated then"
    return Outcome(
        good.plugin_id,
        Kind.PLANNED,
        "plan",
        detail,
        after=good.version,
        release=good.release,
        digest=good.digest,
    )


def reverted(plugin_id: str, back: Generation | None, judgement: Judgement) -> Outcome:
    """A trial ended badly in this run; what serves now, or nothing."""
    cause: AgentError
    if back is None:
        cause = RollbackError(
            f"cannot go back to a good release of {plugin_id}: {judgement.detail}",
            hint=f"agent history {plugin_id}",
        )
        return Outcome(plugin_id, Kind.FAILED, "rollback", judgement.detail, error=cause)
    cause = UnhealthyError(
        f"cannot keep {plugin_id} on trial: {judgement.detail}; rolled back",
        hint=f"agent history {plugin_id}",
    )
    return Outcome(
        plugin_id,
        Kind.ROLLED_BACK,
        "rollback",
        judgement.detail,
        after=back.version,
        release=back.release,
        digest=back.digest,
        error=cause,
    )


def nothing_to_take(plugin_id: str, serving: Generation | None, found: Found) -> Outcome:
    """Nothing newer that may be taken now: current, pending, or an error where none serves."""
    waiting = next((skip for skip in found.skips if skip.waits), None)
    first = waiting or (found.skips[0] if found.skips else None)
    if serving is None:
        if first is not None:
            raise first.refusal(plugin_id)
        raise NotFoundError(f"cannot find a version of {plugin_id} to take")
    detail = f"{first.version or 'the newest'}: {first.detail}" if first else "nothing newer"
    outcome = Outcome(plugin_id, Kind.CURRENT, "plan", detail, newest=found.newest)
    if waiting is not None:
        error = waiting.refusal(plugin_id)
        return replace(outcome, kind=Kind.PENDING, after=waiting.version, error=error)
    return replace(outcome, after=serving.version, release=serving.release, digest=serving.digest)
