"""The publisher's side: a plugin folder read, signed, checked, made into an artifact."""

import contextlib
import datetime as dt
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import registry
from agent.context import Context
from agent.errors import FormatError, TrustError
from agent.files import Files
from agent.pipeline.admission import refusal
from agent.pipeline.subjects import subject_of
from sandbox.discovery import PluginTexts, missing_module, read_set, read_texts
from sandbox.errors import SandboxError
from sandbox.manifest import PluginManifest

if TYPE_CHECKING:
    import trust


_MAGIC = b"\0asm"


@dataclass(frozen=True, slots=True)
class Folder:
    """A plugin's folder as its author has it; the module stays on disk."""

    path: Path
    texts: PluginTexts
    manifest: PluginManifest
    subject: "trust.Subject"

    @property
    def signature_path(self) -> Path:
        """Where the ``.sig`` belongs."""
        return self.path.parent / f"{self.texts.stem}.sig"


def read_folder(context: Context, manifest_path: Path) -> Folder:
    """Read a plugin folder and check its shape; the module is hashed, not held in memory.

    Args:
        context: The installation; ``registry.max_artifact_bytes`` bounds the module.
        manifest_path: The ``.toml``.

    Raises:
        FormatError: The module is not wasm, or too large.
        sandbox.SandboxError: A file is missing, oversize or malformed.
    """
    texts = read_texts(manifest_path)
    manifest = context.parse_manifest(texts.manifest, str(manifest_path))
    payload = texts.payload_path
    if not payload.is_file():
        raise missing_module(manifest_path, texts.stem)
    longest = context.config.registry.max_artifact_bytes
    with payload.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise FormatError(f"cannot use {payload}: got other bytes, expected wasm")
        if (size := os.fstat(file.fileno()).st_size) > longest:
            raise FormatError(f"cannot use {payload}: got {size} bytes, expected ≤ {longest}")
        file.seek(0)
        payload_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Folder(
        manifest_path, texts, manifest, subject_of(manifest, texts.manifest, payload_sha256)
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What hosts like this one would say of a folder's code.

    Attributes:
        problem: Why they would refuse it; None where nothing speaks against it.
        notes: Where its requests differ from its imports.
    """

    problem: str | None
    notes: tuple[str, ...] = ()


def try_folder(context: Context, folder: Folder) -> Trial:
    """Compile and check a folder's code as in an install; nothing of it is run."""
    longest = context.config.sandbox.max_module_bytes
    try:
        files = read_set(folder.path, max_module_bytes=longest)
        with contextlib.closing(context.open_sandbox(unsigned=True)) as sandbox:
            plugin = sandbox.load(files)
            plugin.close()
    except SandboxError as error:
        return Trial(str(error))
    return Trial(None, plugin.notes)


def judge_folder(context: Context, folder: Folder) -> "trust.Verdict":
    """Verify a folder against the trust store in force; the module is read only if needed."""
    import trust

    evidence = trust.Evidence(signature=folder.texts.signature)
    verdict = context.judge(folder.subject, evidence)
    if verdict.needs_payload:
        payload = folder.texts.payload_path.read_bytes()
        evidence = trust.Evidence(signature=folder.texts.signature, payload=payload)
        verdict = context.judge(folder.subject, evidence)
    return verdict


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

    if folder.texts.signature is None:
        return False
    try:
        raw = trust.parse_signature(folder.texts.signature)
    except trust.SignatureFormatError:
        return False
    return key.verify(raw, folder.subject.statement)


def require_believed(context: Context, folder: Folder) -> None:
    """Refuse a folder whose ``.sig`` the trust store in force does not believe.

    Raises:
        TrustError: It does not; the message names the finding.
    """
    if folder.texts.signature is None:
        raise TrustError(
            f"cannot push {folder.path}: there is no {folder.signature_path.name} beside it",
            hint=f"agent push {folder.path.parent} --key FILE signs it",
        )
    verdict = judge_folder(context, folder)
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
    return registry.build_artifact(
        registry.ArtifactInput(
            stem=folder.texts.stem,
            payload=folder.texts.payload_path,
            payload_sha256=folder.subject.payload_sha256,
            signature=signature,
            plugin_manifest=folder.texts.manifest,
            readme=folder.texts.readme,
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
    inputs = [folder.path, folder.texts.payload_path]
    newest = max(path.stat().st_mtime for path in inputs)
    return dt.datetime.fromtimestamp(int(newest), dt.UTC)
