"""The payload of a believed candidate: on its way into the tree, or out to a person's folder."""

import tempfile
from pathlib import Path

import registry
from agent.context import Context
from agent.errors import FormatError
from agent.model import Kind, Outcome, PluginSet
from agent.pipeline.candidate import MAX_README_BYTES, Offered
from agent.pipeline.outcomes import nothing_to_take, outcome_of
from agent.pipeline.search import Found
from agent.pipeline.steps import Steps
from agent.pipeline.wish import Wish


def fetch_payload(
    steps: Steps, repository: registry.Repository, candidate: Offered, folder: Path
) -> PluginSet:
    """Fetch the code, now that it is believed, and the README.

    Raises:
        registry.RegistryError, OSError: It could not be fetched.
    """
    artifact, stem = candidate.artifact, candidate.manifest.stem
    path = folder / f"{stem}.wasm"
    with steps.stepping(candidate.manifest.id, "fetch"):
        wanted = [registry.Wanted(artifact.payload, path)]
        readme = folder / "README.md"
        # It is unsigned and only for people: one that is too long keeps no release back.
        has_readme = artifact.readme and artifact.readme.size_bytes <= MAX_README_BYTES
        if artifact.readme is not None and has_readme:
            wanted.append(registry.Wanted(artifact.readme, readme))
        steps.progress.bytes_total(sum(one.descriptor.size_bytes for one in wanted))
        registry.fetch_all(repository, wanted, progress=steps.progress.bytes_done)
    text = readme.read_bytes() if len(wanted) > 1 else None
    return PluginSet(stem, path, candidate.signature, candidate.manifest_bytes, text)


def write_out(
    context: Context,
    steps: Steps,
    repository: registry.Repository,
    wish: Wish,
    folder: Path,
    found: Found,
) -> Outcome:
    """Fetch what was found into a folder: ``pull --output``.

    Raises:
        FormatError: Its payload is not wasm.
        registry.RegistryError, OSError: It could not be fetched, or not be written.
    """
    candidate, files = found.candidate, context.files
    if candidate is None:
        return nothing_to_take(wish.reference.plugin_id, None, found)
    if wish.dry_run:
        return outcome_of(candidate, Kind.PLANNED, "plan", f"would go to {folder}")
    steps.now = "fetch"
    files.make_folder(folder)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as incoming:
        plugin = fetch_payload(steps, repository, candidate, Path(incoming))
        _require_wasm(plugin.payload, candidate)
        plugin.payload.chmod(0o644)
        files.rename(plugin.payload, folder / plugin.payload.name)
    if plugin.readme is not None:
        files.write_atomic(folder / "README.md", plugin.readme)
    files.write_atomic(folder / f"{candidate.stem}.sig", candidate.signature)
    files.write_atomic(folder / f"{candidate.stem}.toml", candidate.manifest_bytes)
    return outcome_of(candidate, Kind.FETCHED, "fetch", f"verified, written to {folder}")


def _require_wasm(payload: Path, candidate: Offered) -> None:
    """Refuse what is no module; installs are checked by the sandbox."""
    with payload.open("rb") as file:
        if file.read(4) != b"\0asm":
            raise FormatError(f"cannot use {candidate.digest}: its payload is not wasm")
