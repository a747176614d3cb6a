"""What a run says of one plugin: rows made from candidates and skips; pure."""

from dataclasses import replace

from agent.candidate import Candidate
from agent.errors import NotFoundError
from agent.model import Generation, Kind, Outcome
from agent.plan import Skip


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


def with_passed_over(outcome: Outcome, skips: tuple[Skip, ...]) -> Outcome:
    """Say which newer versions were passed over, and why."""
    passed = "".join(f"; passed over {skip.version}: {skip.detail}" for skip in skips)
    return replace(outcome, detail=outcome.detail + passed)


def nothing_to_take(plugin_id: str, serving: Generation | None, skips: tuple[Skip, ...]) -> Outcome:
    """Nothing newer that may be taken now: current, pending, or an error where none serves."""
    waiting = next((skip for skip in skips if skip.waits), None)
    first = waiting or (skips[0] if skips else None)
    if serving is None:
        if first is not None:
            raise first.refusal(plugin_id)
        raise NotFoundError(f"cannot find a version of {plugin_id} to take")
    detail = f"{first.version or 'the newest'}: {first.detail}" if first else "nothing newer"
    return Outcome(
        plugin_id,
        Kind.PENDING if waiting else Kind.CURRENT,
        "plan",
        detail,
        after=waiting.version if waiting else serving.version,
        release=None if waiting else serving.release,
        digest=None if waiting else serving.digest,
        error=waiting.refusal(plugin_id) if waiting else None,
    )
