"""The same release once more: signed anew (contract §3), or its broken bytes made whole.

No update and no trial: code, manifest, name and version are those that serve already. Files
that differ are replaced by rename inside the sealed folder, each of them whole at every instant.
"""

from dataclasses import replace

from agent.context import LOCK_TIMEOUT_S, Context
from agent.model import Event, Generation, Kind, Outcome, PluginSet
from agent.pipeline.candidate import Candidate
from agent.pipeline.outcomes import outcome_of
from agent.pipeline.rules import refuse_if_changed
from agent.tree.activation import Activation


def take_again(
    context: Context,
    candidate: Candidate,
    serving: Generation,
    plugin: PluginSet,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Outcome:
    """Give the release that serves the signature and the bytes of a believed candidate.

    Args:
        context: The installation.
        candidate: The same release, believed as it is now.
        serving: What serves.
        plugin: Its files; the payload may be the sealed one.
        lock_timeout_s: How long to wait for the tree.

    Returns:
        ``current``; the detail says what was replaced.

    Raises:
        BusyError: Another process held the tree, or changed what serves.
        OSError, sqlite3.Error: The disk, the ledger or the audit log failed.
    """
    activation = context.activation
    renewed = replace(
        serving,
        key_id=candidate.key_id,
        # Files come without a digest: the one it was fetched by still says where it is from.
        digest=candidate.digest or serving.digest,
        repository=candidate.repository or serving.repository,
    )
    with context.tree.lock(timeout_s=lock_timeout_s):
        refuse_if_changed(serving.plugin_id, serving, activation.live(serving.plugin_id))
        differing = context.tree.differing(serving, plugin)
        detail = _detail(serving, renewed, differing)
        if detail is None:
            if renewed != serving:
                context.ledger.renew(renewed)
            return outcome_of(candidate, Kind.CURRENT, "plan", "this release is installed")
        context.audit.release("resealing", renewed, detail, required=True)
        renew(activation, renewed, plugin, from_copies=candidate.repository is None)
        context.ledger.record(
            Event(
                context.clock(),
                serving.plugin_id,
                "resealed",
                serving.version,
                serving.release,
                detail,
            )
        )
        context.audit.release("resealed", renewed, detail, required=False)
    return outcome_of(candidate, Kind.CURRENT, "activate", detail)


def renew(
    activation: Activation, renewed: Generation, plugin: PluginSet, *, from_copies: bool
) -> None:
    """The effects, in order; under the tree's lock.

    The ledger follows the files: who asks again after a crash finds them as they are, and goes
    on. Where the flat copies are the source they must not be overwritten before it is done.

    Args:
        activation: Whose tree and ledger.
        renewed: The release, with the key and digest it has from now on.
        plugin: Its files.
        from_copies: The files are the flat ones.
    """
    if not from_copies:
        activation.ledger.project_again(renewed.plugin_id)
    activation.tree.reseal(renewed, plugin)
    activation.ledger.renew(renewed)
    activation.recover_one(renewed.plugin_id)


def _detail(serving: Generation, renewed: Generation, differing: tuple[str, ...]) -> str | None:
    """What is replaced, for people; None where nothing is."""
    if any(not name.endswith(".sig") for name in differing):
        return f"mended: {', '.join(differing)}"
    if renewed.key_id != serving.key_id:
        return f"signature replaced: key {serving.key_id} → {renewed.key_id}"
    return f"mended: {differing[0]}" if differing else None
