"""A new ledger from the sealed releases, when the one that knew a plugin tree is lost.

Every release is read, hashed and judged against the trust store again; floor, rejections, what
was once committed, what was stopped, held and denied come from the tree's own memory
(``agent.ledger.memory``). What serves and is believed is good. All else that the old ledger knew
is gone, and is told.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.context import Context
from agent.errors import FormatError, UsageError, translated
from agent.ledger.memory import Committed, Memory, highest, narrower
from agent.model import Event, Generation, Installed, Stop
from agent.pipeline.admission import refusal
from agent.pipeline.candidate import Candidate
from agent.pipeline.subjects import subject_of
from agent.tree.flat_files import flat_set
from agent.tree.ownership import own
from agent.tree.remembering import recall
from agent.verbs.beside import tell_taken_up
from sandbox.discovery import find_sets, read_set

LOST = (
    "what agent grant allowed: grant it again where it is named above (agent grants ID)",
    "open trials and call counts: what serves counts as good",
    "the history, and when a version was first seen: a cooldown begins anew",
    "the serial that the trust store had: see that it is the newest",
)
"""What no ledger that was made anew can know, and where to look."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was found of one plugin.

    Attributes:
        serves: The version that serves now; None where nothing does, or by an operator's word.
        releases: The versions that were verified again, the newest first.
        floor: The version that it does not go below.
        problems: What could not be taken, and why, and what is to be decided again.
    """

    plugin_id: str
    serves: str | None
    releases: tuple[str, ...]
    floor: str | None
    problems: tuple[str, ...]


def rebuild(context: Context) -> tuple[Rebuilt, ...]:
    """Let this state's ledger learn all that the tree tells, then make the tree its own.

    Under the tree's lock, which the caller holds without its guard. The owner is written last:
    a run that ends before is begun again.

    Raises:
        UsageError: Nobody is trusted: nothing could be verified.
        trust.StoreError: The trust store can't be used.
    """
    store = context.trust_store()
    if not store.keys and context.tree.plugin_ids():
        raise UsageError(
            f"cannot rebuild the ledger: {store.path} trusts nobody, so no release can be verified",
            hint="put the trust store back, or agent trust add KEY --owner NAME --scope PATTERN",
        )
    told = tuple(rebuild_one(context, name) for name in context.tree.homes())
    own(context.tree, context.ledger, context.ledger_path)
    return told


def rebuild_one(context: Context, plugin_id: str) -> Rebuilt:
    """Let the ledger learn what the tree tells of one plugin; idempotent, under the lock."""
    ledger, tree = context.ledger, context.tree
    written, mine = recall(tree, plugin_id), ledger.memory(plugin_id)
    ahead = written if ledger.is_behind(plugin_id, written) else None
    known = narrower(mine, ahead) if mine and ahead else ahead
    found, problems = _verified(context, plugin_id, written)
    rejections = {r.release for r in known.rejected} if known else ledger.rejections(plugin_id)
    installed, current = ledger.installed(plugin_id), tree.current(plugin_id)
    newest = known or installed
    stop = newest.stop if newest else None
    sound = [g for g in found if g.release not in rejections]
    serving = next((g for g in found if g.folder_name == current), None)
    is_serving = current is not None and stop is None
    good = _named(sound, mine, ahead, ledger.ledger_id)
    if good is None and is_serving and (serving is None or serving in sound):
        good = serving
    elif good is None:
        wanted = newest.good if newest else None
        good = _last_good(sound, wanted, by_name_alone=not (current or stop))
    if good is None and is_serving:
        problems.append(f"{current} serves, and is not believed: hosts refuse it")
    if serving is not None and serving not in sound:
        problems.append(f"{serving.version} serves no more: it had been rejected")
    floors = (installed and installed.floor, known and known.floor, good and good.version)
    floor = highest(version for version in floors if version)
    tell_taken_up(context, plugin_id, mine, ahead)
    if found or installed is not None or (known is not None and known.is_of_installed):
        _write(context, plugin_id, found, known=known, good=good, floor=floor)
    elif known is not None:
        ledger.take_in_decisions(plugin_id, known)
    learned = ledger.memory(plugin_id)
    if learned is not None:
        context.tree.write_memory(plugin_id, learned.encode())
    if stop is Stop.DISABLED and current is None:
        _stopped(context, plugin_id, installed)
    context.activation.recover_one(plugin_id)
    problems += _not_granted(context, plugin_id, ahead)
    if stop is Stop.DISABLED:
        brings = f"agent enable brings back {good.version}" if good else "nothing of it is good"
        problems.append(f"it is disabled; {brings}")
    versions = [g.version for g in sorted(found, key=lambda g: g.installed_at, reverse=True)]
    serves = good.version if good and stop is None else None
    return Rebuilt(plugin_id, serves, tuple(versions), floor, tuple(problems))


def _stopped(context: Context, plugin_id: str, known: Installed | None) -> None:
    """Nothing of it serves; where the ledger thought that it did, copies may have been left.

    What lies there beside files of another kind is a drop-in's, which waits.
    """
    ledger, tree = context.ledger, context.tree
    stems = {generation.stem for generation in ledger.generations(plugin_id)}
    ours = all(flat_set(tree.root, s).parts <= tree.copied(plugin_id, s) for s in stems)
    if known is not None and known.stop is None and ours:
        ledger.project_again(plugin_id)
    else:
        ledger.stopped(plugin_id)


def _write(
    context: Context,
    plugin_id: str,
    found: list[Generation],
    *,
    known: Memory | None,
    good: Generation | None,
    floor: str | None,
) -> None:
    """Write down what was found of a plugin."""
    ledger, now = context.ledger, context.clock()
    if good is not None and good.committed_at is None:
        good = replace(good, committed_at=now)
        found = [good if g.release == good.release else g for g in found]
    good_release = good.release if good else None
    ledger.restore(plugin_id, found, known=known, good=good_release, floor=floor)
    if good is not None:
        detail = f"from {len(found)} sealed releases, floor {floor}"
        ledger.record(Event(now, plugin_id, "rebuilt", good.version, good.release, detail))


def _not_granted(context: Context, plugin_id: str, known: Memory | None) -> list[str]:
    """What had been granted, as the tree says, and is not any more: a person must say so again."""
    now = context.ledger.decisions(plugin_id)
    words = [one.capability for one in known.decisions if one.granted] if known else []
    return [
        f"{word} had been granted: agent grant {plugin_id} {word}, if it still should be"
        for word in words
        if not now.get(word)
    ]


def _verified(
    context: Context, plugin_id: str, known: Memory | None
) -> tuple[list[Generation], list[str]]:
    """The sealed releases that are whole and believed, and what is wrong with the rest."""
    committed = {c.release: c for c in known.committed} if known else {}
    repository = known.repository if known else None
    found: list[Generation] = []
    problems: list[str] = []
    if known is None and context.tree.read_memory(plugin_id) is not None:
        problems.append(
            "its floor and rejections can't be read, nor what was stopped, held and denied: the "
            "file is damaged"
        )
    for name in context.tree.generations(plugin_id):
        folder = context.tree.named(plugin_id, name)
        try:
            generation = _read(context, plugin_id, folder, committed.get, repository)
        except Exception as error:
            cause = translated(error)
            if cause is None:
                raise
            problems.append(f"{name}: {cause.message}")
            continue
        found.append(generation)
    return found, problems


def _read(
    context: Context,
    plugin_id: str,
    folder: Path,
    committed: Callable[[str], Committed | None],
    repository: str | None,
) -> Generation:
    """One sealed release, hashed and judged anew.

    Raises:
        FormatError, TrustError, sandbox.SandboxError: It is not what its folder says, or is
            no longer believed.
    """
    import trust

    manifests = find_sets(folder)
    if len(manifests) != 1:
        raise FormatError(f"cannot use {folder}: it holds {len(manifests)} plugins, expected one")
    files = read_set(manifests[0], max_module_bytes=context.config.sandbox.max_module_bytes)
    manifest = context.parse_manifest(files.manifest, manifests[0].name)
    subject = subject_of(manifest, files.manifest, files.payload)
    holds = f"{manifest.version}-{subject.release[:12]}"
    if (manifest.id, holds) != (plugin_id, folder.name):
        raise FormatError(f"cannot use {folder}: it holds {manifest.id} {holds}")
    past = committed(subject.release)
    origin = past or context.ledger.generation(plugin_id, subject.release)
    repository = origin.repository if origin else repository
    evidence = trust.Evidence(files.signature, files.payload, repository)
    verdict = context.judge(subject, evidence, installed=True)
    if not verdict.accepted or verdict.key_id is None:
        raise refusal(f"{manifest.id} {manifest.version}", verdict)
    believed = Candidate(
        manifest=manifest,
        manifest_bytes=files.manifest,
        signature=files.signature or b"",
        release=subject.release,
        payload_sha256=subject.payload_sha256,
        key_id=verdict.key_id,
        digest=origin.digest if origin else None,
        repository=repository,
    )
    sealed_at = origin.installed_at if origin else folder.stat().st_mtime
    generation = believed.generation(installed_at=sealed_at)
    return replace(generation, committed_at=origin.committed_at if origin else None)


def _named(
    sound: list[Generation], mine: Memory | None, ahead: Memory | None, ledger_id: str
) -> Generation | None:
    """The good release that a ledger which knows the plugin, or its newer memory, names.

    What serves does not count against that: it may be on a trial that began since. Of the
    accounts of two ledgers the higher release counts. None where the ledger is lost.
    """
    is_other = ahead is not None and ahead.ledger != ledger_id
    is_known = mine is not None and mine.is_of_installed
    if is_other and not is_known:
        return None
    accounts = (mine, ahead) if is_other else (ahead or mine,)
    names = {account.good for account in accounts if account is not None}
    good = [g for g in sound if g.release in names and g.committed_at is not None]
    best = highest(g.version for g in good)
    return next((g for g in good if g.version == best), None)


def _last_good(
    sound: list[Generation], wanted: str | None, *, by_name_alone: bool
) -> Generation | None:
    """The release to go back to.

    Args:
        sound: The releases that are believed and were not rejected.
        wanted: The one that was good, as far as that is known.
        by_name_alone: Only that one; else the last committed one is as good.
    """
    committed = [
        g
        for g in sound
        if g.committed_at is not None and (g.release == wanted or not by_name_alone)
    ]
    return max(committed, key=lambda g: (g.release == wanted, g.committed_at or 0), default=None)
