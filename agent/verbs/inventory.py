"""What is installed, for ``list``, ``info`` and ``check``: rows as contract §7 has them."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.context import Context
from agent.errors import NotFoundError, PolicyError
from agent.model import Generation, Installed
from agent.pipeline.admission import is_bare, problem_of, refusal
from agent.pipeline.settling import refuse_strangers, tell_behind
from agent.pipeline.subjects import subject_of
from agent.tree.remembering import refuse_behind
from agent.tree.system_sets import Warn, is_in_system, system_sets
from agent.verbs.own import disabled_ids, not_served, own_ids
from sandbox.discovery import PluginFiles, read_set
from sandbox.errors import SandboxError
from sandbox.manifest import PluginManifest

if TYPE_CHECKING:
    import trust


@dataclass(frozen=True, slots=True)
class Serving:
    """Which version of a plugin serves, as its folder says; none of its code was read.

    Attributes:
        version: None where nothing serves yet. Where the ledger does not know what serves, its
            folder says it.
        capabilities: None known where the ledger does not know what serves.
    """

    plugin_id: str
    version: str | None
    capabilities: tuple[str, ...]
    is_system: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One plugin in a plugin folder.

    Attributes:
        state: active, trial, disabled or broken; of a disabled one the rest says what enabling
            it would bring back.
        due: The trial's probation is over; the next mutating verb or open host judges it.
        source: The repository it came from; "system" in the system's folder.
        shadowed: The system's copy of the same id, which the user's hides.
        problem: Why it is broken: its bytes changed, or it is no longer believed.
        binding: What its signature covers: ``v1``, or ``bare``: the code alone; None where it
            is not believed.
    """

    plugin_id: str
    version: str
    release: str
    digest: str | None
    state: str
    path: Path
    source: str
    capabilities: tuple[str, ...]
    key_id: str | None
    shadowed: Path | None = None
    due: bool = False
    problem: str | None = None
    binding: str | None = None

    def row(self) -> dict[str, object]:
        """The JSON row."""
        row: dict[str, object] = {
            "id": self.plugin_id,
            "version": self.version,
            "release": self.release,
            "digest": self.digest,
            "state": self.state,
            "path": str(self.path),
            "source": self.source,
            "capabilities": list(self.capabilities),
            "key_id": self.key_id,
            "binding": self.binding,
        }
        if self.shadowed is not None:
            row["shadows"] = str(self.shadowed)
        if self.due:
            row["due"] = True
        if self.problem is not None:
            row["problem"] = self.problem
        return row


def serving(context: Context, *, warn: Warn) -> tuple[Serving, ...]:
    """The user's plugins, then the system's that they do not shadow, by manifest and ledger.

    Args:
        context: The installation.
        warn: Told of each set in the system's folder that can't be read.
    """
    own = {
        one.plugin_id: Serving(one.plugin_id, one.version, one.capabilities, is_system=False)
        for one in _own(context, None, warn)
    }
    disabled = disabled_ids(context)
    for name in own_ids(context):
        if name not in own and name not in disabled and (current := context.tree.current(name)):
            own[name] = Serving(name, current.rpartition("-")[0], (), is_system=False)
    hidden = {*own, *disabled}
    system = [
        Serving(plugin_id, manifest.version, manifest.capabilities, is_system=True)
        for plugin_id, (_, manifest) in system_sets(context, warn).items()
        if plugin_id not in hidden
    ]
    return (*own.values(), *system)


def entries(
    context: Context, ids: Collection[str] | None = None, *, warn: Warn
) -> tuple[Entry, ...]:
    """The user's plugins, then the system's that they do not shadow; hashed and judged anew.

    Args:
        context: The installation.
        ids: Only these; None = all.
        warn: Told of each set in the system's folder that can't be read.

    Raises:
        UsageError, trust.StoreError: The trust store can't be used.
    """
    system = system_sets(context, warn)
    found = []
    disabled = disabled_ids(context)
    for one in _own(context, ids, warn):
        hidden = system.pop(one.plugin_id, None)
        shadowed = context.system_folder if hidden else None
        found.append(_entry(context, one, shadowed, is_disabled=one.plugin_id in disabled))
    for plugin_id in disabled:
        system.pop(plugin_id, None)
    for plugin_id, (path, manifest) in system.items():
        if ids is None or plugin_id in ids:
            entry = _system_entry(context, path, manifest, warn)
            found += [entry] if entry else []
    return tuple(found)


def require_own(context: Context, plugin_id: str, word: str) -> Installed:
    """What the ledger says of a plugin that is the user's own, serving or disabled.

    What serves without the ledger knowing of it is the user's, too.

    Args:
        context: The installation.
        plugin_id: The plugin.
        word: The verb, for the error.

    Raises:
        LedgerError, PolicyError: The ledger does not know the tree, or is an older copy.
        PolicyError: Only the system's folder has it.
        NotFoundError: It is not installed.
    """
    refuse_strangers(context)
    refuse_behind(context.ledger, context.tree, plugin_id)
    return known_own(context, plugin_id, word)


def known_own(context: Context, plugin_id: str, word: str) -> Installed:
    """``require_own`` of a ledger that may know less than the tree."""
    installed = context.ledger.installed(plugin_id)
    serves = context.tree.current(plugin_id) is not None
    if installed is not None and (serves or installed.good or installed.stop):
        return installed
    if serves:
        return Installed(plugin_id, None, None, None, None, None, projection_due=False)
    if is_in_system(context, plugin_id):
        raise PolicyError(
            f"cannot {word} {plugin_id}: it is the system's, which a user's agent never changes",
            reason="system",
            hint=f"as its administrator: agent --system {word} {plugin_id}",
        )
    raise NotFoundError(
        f"cannot {word} {plugin_id}: it is not installed", hint=f"agent pull {plugin_id}"
    )


def is_whole(context: Context, generation: Generation) -> bool:
    """Whether the sealed bytes are those of the release: hashed, not only present."""
    return not isinstance(_sealed(context, generation), str)


def moment(at: float) -> str:
    """A time for people and programs: ISO 8601, UTC, seconds."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds")


def _own(context: Context, ids: Collection[str] | None, warn: Warn) -> list[Generation]:
    """What serves, or would if it were enabled."""
    found, disabled = [], disabled_ids(context)
    for name in own_ids(context):
        if ids is not None and name not in ids:
            continue
        activation = context.activation
        tell_behind(context, name, warn)
        one = activation.good(name) if name in disabled else activation.live(name)
        if one is not None:
            found.append(one)
        elif name not in disabled:
            there = context.tree.current(name)
            known = f"{there}, which the ledger does not know" if there else "nothing"
            warn(f"{name} serves {known}")
            warn("  try: agent doctor")
    return found


def _entry(
    context: Context, live: Generation, shadowed: Path | None, *, is_disabled: bool
) -> Entry:
    trial = context.ledger.trial(live.plugin_id)
    state = "trial" if trial is not None and trial.release == live.release else "active"
    due = trial is not None and state == "trial" and context.clock() >= trial.ends_at
    problem = not_served(context, live) or problem_of(context, live)
    if is_disabled:
        state, due = "disabled", False
    elif problem:
        state = "broken"
    return Entry(
        live.plugin_id,
        live.version,
        live.release,
        live.digest,
        state,
        context.tree.folder(live),
        live.repository or "files",
        live.capabilities,
        live.key_id,
        shadowed,
        due,
        problem,
        None if problem else "bare" if is_bare(context, live) else "v1",
    )


def _sealed(context: Context, generation: Generation) -> "tuple[PluginFiles, trust.Subject] | str":
    """The sealed bytes, hashed; or what is wrong with them."""
    folder = context.tree.folder(generation)
    try:
        files, subject = _read(context, folder / f"{generation.stem}.toml")
    except SandboxError as error:
        return str(error)
    if subject.release != generation.release:
        return f"the files in {folder} were changed: they are release {subject.release[:12]}"
    return files, subject


def _read(context: Context, path: Path) -> "tuple[PluginFiles, trust.Subject]":
    files = read_set(path, max_module_bytes=context.config.sandbox.max_module_bytes)
    manifest = context.parse_manifest(files.manifest, str(path))
    return files, subject_of(manifest, files.manifest, files.payload)


def _refused(subject: "trust.Subject", verdict: "trust.Verdict") -> str | None:
    """Why a verdict is not accepted; None where it is."""
    if verdict.accepted:
        return None
    return refusal(f"{subject.id} {subject.version}", verdict).message


def _system_entry(
    context: Context, path: Path, manifest: PluginManifest, warn: Warn
) -> Entry | None:
    """A flat set of the system's folder, verified in place; one that is refused is broken."""
    import trust

    try:
        files, subject = _read(context, path)
    except SandboxError as error:
        warn(f"{path} is passed over: {error}")
        return None
    verdict = context.judge(subject, trust.Evidence(files.signature, files.payload))
    problem = _refused(subject, verdict)
    return Entry(
        subject.id,
        subject.version,
        subject.release,
        None,
        "broken" if problem else "active",
        context.system_folder,
        "system",
        tuple(manifest.capabilities),
        verdict.key_id,
        problem=problem,
        binding=verdict.binding if verdict.accepted else None,
    )
