"""What is installed, for ``list``, ``info`` and ``check``: rows as contract §7 has them."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from agent.context import Context
from agent.model import Generation
from agent.subjects import subject_of
from sandbox.discovery import find_sets, read_set
from sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True)
class Entry:
    """One plugin in a plugin folder.

    Attributes:
        state: active, trial or broken.
        due: The trial's probation is over; the next mutating verb or open host judges it.
        source: The repository it came from; "system" in the system's folder.
        shadowed: The system's copy of the same id, which the user's hides.
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
        }
        if self.shadowed is not None:
            row["shadows"] = str(self.shadowed)
        if self.due:
            row["due"] = True
        return row


def entries(context: Context) -> tuple[Entry, ...]:
    """The user's plugins, then the system's that they do not shadow."""
    system = _system_entries(context)
    found = []
    for plugin_id in context.tree.plugin_ids():
        live = context.activation.live(plugin_id)
        if live is not None:
            hidden = system.pop(plugin_id, None)
            found.append(_entry(context, live, hidden.path if hidden else None))
    return (*found, *system.values())


def is_whole(context: Context, generation: Generation) -> bool:
    """Whether the sealed bytes are those of the release: hashed, not only present."""
    folder = context.tree.folder(generation)
    try:
        files = read_set(
            folder / f"{generation.stem}.toml",
            max_module_bytes=context.config.sandbox.max_module_bytes,
        )
        manifest = context.parse_manifest(files.manifest, f"{generation.stem}.toml")
    except SandboxError:
        return False
    return subject_of(manifest, files.manifest, files.payload).release == generation.release


def _entry(context: Context, live: Generation, shadowed: Path | None) -> Entry:
    trial = context.ledger.trial(live.plugin_id)
    state = "trial" if trial is not None and trial.release == live.release else "active"
    due = trial is not None and state == "trial" and context.clock() >= trial.ends_at
    if not is_whole(context, live):
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
    )


def _system_entries(context: Context) -> dict[str, Entry]:
    """Flat sets of the system's folder, verified in place; one that is refused is broken."""
    import trust

    if context.system_folder == context.plugins_folder:
        return {}
    found = {}
    for path in find_sets(context.system_folder):
        try:
            files = read_set(path, max_module_bytes=context.config.sandbox.max_module_bytes)
            manifest = context.parse_manifest(files.manifest, path.name)
            subject = subject_of(manifest, files.manifest, files.payload)
        except SandboxError:
            continue
        evidence = trust.Evidence(signature=files.signature, payload=files.payload)
        verdict = context.judge(subject, evidence)
        found[manifest.id] = Entry(
            manifest.id,
            manifest.version,
            subject.release,
            None,
            "active" if verdict.accepted else "broken",
            context.system_folder,
            "system",
            tuple(manifest.capabilities),
            verdict.key_id,
        )
    return found


def moment(at: float) -> str:
    """A time for people and programs: ISO 8601, UTC, seconds."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds")
