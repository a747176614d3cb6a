"""The publisher's side: a plugin folder read, signed, checked, made into an artifact."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import registry
from agent.context import Context, refusal
from agent.errors import FormatError, TrustError
from agent.files import Files
from agent.subjects import subject_of
from sandbox.discovery import MAX_MODULE_BYTES, PluginFiles, read_set
from sandbox.manifest import PluginManifest

if TYPE_CHECKING:
    import trust


@dataclass(frozen=True, slots=True)
class Folder:
    """A plugin's folder as its author has it."""

    path: Path
    files: PluginFiles
    manifest: PluginManifest
    subject: "trust.Subject"

    @property
    def signature_path(self) -> Path:
        """Where the ``.sig`` belongs."""
        return self.path.parent / f"{self.files.stem}.sig"


def read_folder(context: Context, manifest_path: Path) -> Folder:
    """Read a plugin folder and check its shape.

    Args:
        context: The installation.
        manifest_path: The ``.toml``.

    Raises:
        FormatError: The payload is not wasm.
        sandbox.SandboxError: A file is missing, oversize or malformed.
    """
    files = read_set(manifest_path, max_module_bytes=MAX_MODULE_BYTES)
    manifest = context.parse_manifest(files.manifest, str(manifest_path))
    if not files.payload.startswith(b"\0asm"):
        raise FormatError(
            f"cannot use {manifest_path.parent / files.stem}.wasm: got other bytes, expected wasm"
        )
    subject = subject_of(manifest, files.manifest, files.payload)
    return Folder(manifest_path, files, manifest, subject)


def sign_folder(folder: Folder, key: "trust.PrivateKey", files: Files) -> bytes:
    """Write the ``.sig`` of a folder, atomically.

    Returns:
        Its bytes.
    """
    import trust

    signature = trust.sign(folder.subject, key)
    files.write_atomic(folder.signature_path, signature)
    return signature


def signed_by(folder: Folder, key: "trust.PublicKey") -> bool:
    """Whether the folder's ``.sig`` is valid under a key."""
    import trust

    if folder.files.signature is None:
        return False
    try:
        raw = trust.parse_signature(folder.files.signature)
    except trust.SignatureFormatError:
        return False
    return key.verify(raw, folder.subject.statement)


def require_believed(context: Context, folder: Folder) -> None:
    """Refuse a folder whose ``.sig`` the trust store in force does not believe.

    Raises:
        TrustError: It does not; the message names the finding.
    """
    import trust

    if folder.files.signature is None:
        raise TrustError(
            f"cannot push {folder.path}: there is no {folder.signature_path.name} beside it",
            hint=f"agent push {folder.path.parent} --key FILE signs it",
        )
    evidence = trust.Evidence(signature=folder.files.signature, payload=folder.files.payload)
    verdict = context.judge(folder.subject, evidence)
    if not verdict.accepted:
        raise refusal(f"{folder.manifest.id} {folder.manifest.version}", verdict)


def build(folder: Folder, signature: bytes, environ: Mapping[str, str]) -> registry.BuiltArtifact:
    """Make the artifact of a folder; the same input gives the same digest.

    Args:
        folder: The plugin.
        signature: The ``.sig`` bytes.
        environ: ``SOURCE_DATE_EPOCH`` is the time of creation, else the newest file's.

    Raises:
        registry.RegistryError: A part is not what the artifact's shape needs.
    """
    manifest, meta = folder.manifest, folder.manifest.meta
    payload = folder.path.parent / f"{folder.files.stem}.wasm"
    return registry.build_artifact(
        registry.ArtifactInput(
            stem=folder.files.stem,
            payload=payload,
            signature=signature,
            plugin_manifest=folder.files.manifest,
            readme=folder.files.readme,
            created=_created(folder, environ),
            plugin_id=manifest.id,
            version=manifest.version,
            abi=manifest.abi,
            capabilities=manifest.capabilities,
            name=meta.name,
            wasi="wasip2" if manifest.wasm_target == "wasm32-wasip2" else "wasip1",
            min_host=manifest.min_host,
            description=meta.description,
            license=meta.license,
            authors=meta.authors,
            homepage=meta.homepage,
            source=meta.source,
        )
    )


def _created(folder: Folder, environ: Mapping[str, str]) -> dt.datetime:
    epoch = environ.get("SOURCE_DATE_EPOCH", "")
    if epoch:
        if not epoch.isascii() or not epoch.isdigit():
            raise FormatError(f"cannot read SOURCE_DATE_EPOCH: got {epoch!r}, expected seconds")
        return dt.datetime.fromtimestamp(int(epoch), dt.UTC)
    # The .sig is left out: signing anew must not make another artifact of the same input.
    inputs = [folder.path, folder.path.parent / f"{folder.files.stem}.wasm"]
    newest = max(path.stat().st_mtime for path in inputs)
    return dt.datetime.fromtimestamp(int(newest), dt.UTC)
