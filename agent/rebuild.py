"""A new ledger from the sealed releases, when the one that knew a plugin tree is lost.

Every release is read, hashed and judged against the trust store again; floor, rejections and
what was once committed come from the tree's own memory (``agent.memory``). What serves and is
believed is good. All else that the old ledger knew is gone, and is told.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.admission import refusal
from agent.candidate import Candidate
from agent.context import Context
from agent.errors import FormatError, UsageError, translated
from agent.memory import Committed, Memory
from agent.model import Event, Generation
from agent.ownership import own
from agent.remembering import recall
from agent.requirement import is_newer
from agent.subjects import subject_of
from sandbox.discovery import find_sets, read_set

LOST = (
    "what agent grant and agent deny decided: decide it again (agent grants ID)",
    "what was held or disabled: hold and disable it again (agent list)",
    "open trials and call counts: what serves counts as good",
    "the history, and when a version was first seen: a cooldown begins anew",
    "the serial that the trust store had: see that it is the newest",
)
"""What no ledger that was made anew can know, and where to look."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was found of one plugin.

    Attributes:
        serves: The version that serves now; None where nothing does.
        releases: The versions that were verified again, the newest first.
        floor: The version that it does not go below.
        problems: What could not be taken, and why.
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
    known = recall(tree, plugin_id)
    found, problems = _verified(context, plugin_id, known)
    if known is None and tree.read_memory(plugin_id) is not None:
        problems.append("its floor and rejections can't be read: the file is damaged")
    # The newer of the two, where there are two.
    rejections = {r.release: r for r in known.rejected} if known else ledger.rejections(plugin_id)
    current = tree.current(plugin_id)
    good = _good(found, current, frozenset(rejections))
    if good is None and current is not None:
        problems.append(f"{current} serves, and is not believed: hosts refuse it")
    installed = ledger.installed(plugin_id)
    floors = (installed and installed.floor, known and known.floor, good and good.version)
    floor = _highest(version for version in floors if version)
    if known is not None or found:
        if known is not None:
            ledger.take_in(plugin_id, known)
        _write(context, plugin_id, found, good, floor)
    versions = [g.version for g in sorted(found, key=lambda g: g.installed_at, reverse=True)]
    return Rebuilt(
        plugin_id, good.version if good else None, tuple(versions), floor, tuple(problems)
    )


def _write(
    context: Context,
    plugin_id: str,
    found: list[Generation],
    good: Generation | None,
    floor: str | None,
) -> None:
    """Write down what was found of a plugin, in both places, and serve what is good."""
    ledger, now = context.ledger, context.clock()
    if good is not None and good.committed_at is None:
        good = replace(good, committed_at=now)
        found = [good if g.release == good.release else g for g in found]
    ledger.restore(plugin_id, found, good=good.release if good else None, floor=floor)
    learned = ledger.memory(plugin_id)
    if learned is not None:
        context.tree.write_memory(plugin_id, learned.encode())
    if good is not None:
        detail = f"from {len(found)} sealed releases, floor {floor}"
        ledger.record(Event(now, plugin_id, "rebuilt", good.version, good.release, detail))
    context.activation.recover_one(plugin_id)


def _highest(versions: Iterable[str]) -> str | None:
    highest: str | None = None
    for version in versions:
        if highest is None or is_newer(version, highest):
            highest = version
    return highest


def _verified(
    context: Context, plugin_id: str, known: Memory | None
) -> tuple[list[Generation], list[str]]:
    """The sealed releases that are whole and believed, and what is wrong with the others."""
    committed = {c.release: c for c in known.committed} if known else {}
    repository = known.repository if known else None
    found: list[Generation] = []
    problems: list[str] = []
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
    return replace(generation, committed_at=past.committed_at if past else None)


def _good(
    found: list[Generation], current: str | None, rejected: frozenset[str]
) -> Generation | None:
    """What should serve: what does, unless it was rejected; then the last committed one."""
    serving = next((g for g in found if g.folder_name == current), None)
    if serving is None or serving.release not in rejected:
        return serving
    committed = [g for g in found if g.committed_at is not None and g.release not in rejected]
    return max(committed, key=lambda g: g.committed_at or 0, default=None)
