"""The rules that need the signed manifest: floor, rejection, stem, consent.

They are asked before the payload is fetched, and the refusing ones again under the tree's lock.
"""

import os
from dataclasses import replace

from agent.context import Context
from agent.errors import BusyError, PolicyError
from agent.model import Asked, Generation, Kind, Outcome, Stop
from agent.pipeline.admission import ceiling_of
from agent.pipeline.candidate import Candidate
from agent.pipeline.outcomes import is_disabled, outcome_of
from agent.pipeline.plan import Skip, below_floor, held, needs_consent
from agent.pipeline.requirement import is_newer, satisfies
from agent.serving.grants import decided, granted
from agent.verbs.holding import hold_on


def not_by_itself(
    context: Context, candidate: Candidate, serving: Generation | None
) -> Skip | None:
    """Why an update run leaves a believed candidate alone; a channel can name any release.

    Versions found by their tags were judged before anything was fetched; this judges the
    signed version and the release.
    """
    manifest = candidate.manifest
    version = manifest.version
    constraint = context.config.plugin(manifest.id).constraint
    if constraint is not None and not satisfies(version, constraint):
        return Skip(version, "constraint", f'the constraint "{constraint}" does not admit it')
    if serving is not None and not is_newer(version, serving.version):
        return Skip(version, "not-newer", f"{version} is not newer than {serving.version}")
    rejection = context.ledger.rejections(manifest.id).get(candidate.release)
    if rejection is not None:
        return Skip(version, "rejected", f"rejected here: {rejection.reason}")
    return None


def refuse_by_rule(context: Context, candidate: Candidate, asked: Asked) -> None:
    """Refuse what a stop, the floor, an earlier rejection, a hold or the stem's owner forbids.

    Raises:
        PolicyError: With the reason disabled, floor, rejected, held or stem-taken.
    """
    manifest = candidate.manifest
    refuse_if_disabled(context, manifest.id, "take")
    installed = context.ledger.installed(manifest.id)
    floor = installed.floor if installed else None
    if not asked.allow_downgrade and below_floor(manifest.version, floor):
        raise PolicyError(
            f"cannot take {manifest.id} {manifest.version}: below the floor {floor}",
            reason="floor",
            hint=f"agent rollback {manifest.id} --to {manifest.version}, or --allow-downgrade",
        )
    rejection = context.ledger.rejections(manifest.id).get(candidate.release)
    if rejection is not None and not asked.named:
        raise PolicyError(
            f"cannot take {manifest.id} {manifest.version}: rejected here, {rejection.reason}",
            reason="rejected",
            hint=f"agent pull {manifest.id}:{manifest.version} takes it all the same",
        )
    if asked.unattended:
        # Held since the plan was made: an update run that did not see it goes no further.
        why = held(hold_on(context, manifest.id), context.clock())
        if why is not None:
            raise PolicyError(f"cannot take {manifest.id} {manifest.version}: {why}", reason="held")
    _refuse_stem(context, candidate)


def refuse_if_disabled(context: Context, plugin_id: str, word: str) -> None:
    """Refuse to change what its operator took out of service.

    Raises:
        PolicyError: With the reason disabled.
    """
    installed = context.ledger.installed(plugin_id)
    if installed is not None and installed.stop is Stop.DISABLED:
        raise is_disabled(plugin_id, word)


def refuse_if_changed(plugin_id: str, planned: Generation | None, live: Generation | None) -> None:
    """Refuse to go on with a plan that was made beside another release than serves now.

    Raises:
        BusyError: Another agent, or the judgement of a trial, came first.
    """
    if (planned and planned.release) != (live and live.release):
        now = live.version if live else "nothing"
        raise BusyError(
            f"cannot change {plugin_id}: another agent came first, {now} serves now",
            hint="run the command again",
        )


def ungranted(context: Context, plugin_id: str) -> tuple[str, ...]:
    """What the serving release requests and does not get: such calls trap, so say it."""
    live = context.activation.live(plugin_id)
    if live is None:
        return ()
    decisions = context.ledger.decisions(plugin_id, at=context.clock())
    given = granted(context.config, plugin_id, decisions, ceiling_of(context, live))
    return tuple(sorted(set(live.capabilities) - given))


def _refuse_stem(context: Context, candidate: Candidate) -> None:
    """A stem belongs to one plugin, for good, and never to files that are not ours."""
    ledger, plugin_id, stem = context.ledger, candidate.manifest.id, candidate.stem
    owner = ledger.stem_owner(stem)
    if owner not in (None, plugin_id):
        raise PolicyError(
            f"cannot take {plugin_id}: its stem {stem} belongs to {owner}", reason="stem-taken"
        )
    own = {generation.stem for generation in ledger.generations(plugin_id)}
    if own and stem not in own:
        raise PolicyError(
            f"cannot take {plugin_id}: its stem was {', '.join(sorted(own))}, now {stem}",
            reason="stem-taken",
        )
    foreign = [path for path in context.tree.flat_files(stem) if os.path.lexists(path)]
    # Without a registry it is those very files.
    if not own and foreign and candidate.repository is not None:
        raise PolicyError(
            f"cannot take {plugin_id}: {foreign[0]} is there and was not installed by this agent",
            reason="stem-taken",
            hint="move that plugin's files elsewhere first",
        )


def waiting_for_consent(
    context: Context, candidate: Candidate, serving: Generation | None
) -> Outcome | None:
    """An update that asks for more than before waits for the operator (contract §7)."""
    if serving is None:
        return None
    manifest = candidate.manifest
    decisions = context.ledger.decisions(manifest.id, at=context.clock())
    missing = needs_consent(
        manifest.capabilities,
        serving.capabilities,
        decided(context.config, manifest.id, decisions),
    )
    if not missing:
        return None
    words = ", ".join(missing)
    cause = PolicyError(
        f"cannot take {manifest.id} {manifest.version} yet: it newly requests {words}",
        reason="consent",
        hint=f"agent grant {manifest.id} {missing[0]}, or agent deny {manifest.id} "
        f"{missing[0]}; then agent update {manifest.id}",
    )
    return replace(
        outcome_of(candidate, Kind.PENDING, "consent", f"newly requests {words}"), error=cause
    )
