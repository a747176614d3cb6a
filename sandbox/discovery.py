"""Finding and reading plugin files (contract section 2): bounded, regular files only."""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.errors import BadModule, ManifestError, PluginNotFoundError, SandboxError
from sandbox.manifest import MAX_MANIFEST_BYTES, manifest_stem
from sandbox.reading import open_regular

MAX_MODULE_BYTES = 64 * 1024 * 1024
_MAX_SIGNATURE_BYTES = 4096
_MAX_README_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PluginFiles:
    """The bytes of one plugin, as read; nothing in them has been verified.

    Attributes:
        stem: What the files are called, as the manifest's ``signature`` says.
        payload: ``<stem>.wasm``.
        signature: ``<stem>.sig``, None where there is none.
        manifest: The ``.toml``.
        readme: README.md in any case, unsigned; None where there is none or it is too long.
        folder: Where they were.
    """

    stem: str
    payload: bytes = field(repr=False)
    signature: bytes | None
    manifest: bytes = field(repr=False)
    folder: Path
    readme: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PluginTexts:
    """A plugin's small files, as read; its module lies at ``payload_path``, not yet looked at."""

    stem: str
    manifest: bytes = field(repr=False)
    signature: bytes | None
    folder: Path
    readme: bytes | None = field(default=None, repr=False)

    @property
    def payload_path(self) -> Path:
        """Where the module should be."""
        return self.folder / f"{self.stem}.wasm"


def read_texts(manifest_path: Path) -> PluginTexts:
    """Read a plugin's files but for the module, beginning with its manifest.

    Args:
        manifest_path: The ``.toml``; the others lie beside it.

    Raises:
        PluginNotFoundError: There is no such manifest.
        ManifestError: The manifest is too long, not TOML, or names no stem.
        SandboxError: A file can't be read, or isn't a regular file (links are refused).
    """
    manifest = _read(manifest_path, MAX_MANIFEST_BYTES, ManifestError)
    if manifest is None:
        raise PluginNotFoundError(f"cannot read {manifest_path}: there is no such file")
    folder = manifest_path.parent
    stem = manifest_stem(manifest, name=str(manifest_path))
    signature = _read(folder / f"{stem}.sig", _MAX_SIGNATURE_BYTES, SandboxError)
    return PluginTexts(stem, manifest, signature, folder, _readme(folder))


def read_set(manifest_path: Path, *, max_module_bytes: int = MAX_MODULE_BYTES) -> PluginFiles:
    """Read all of a plugin's files.

    Args:
        manifest_path: The ``.toml``; the others lie beside it.
        max_module_bytes: The largest module that is read.

    Raises:
        PluginNotFoundError: No manifest, or no module of that stem beside it.
        ManifestError, SandboxError: As of ``read_texts``.
        BadModule: The module is longer than ``max_module_bytes``.
    """
    texts = read_texts(manifest_path)
    payload = _read(texts.payload_path, max_module_bytes, BadModule)
    if payload is None:
        raise missing_module(manifest_path, texts.stem)
    return PluginFiles(
        texts.stem, payload, texts.signature, texts.manifest, texts.folder, texts.readme
    )


def missing_module(manifest_path: Path, stem: str) -> PluginNotFoundError:
    """The error for a manifest whose module is not beside it."""
    return PluginNotFoundError(
        f"cannot load {manifest_path}: there is no {stem}.wasm beside it, "
        "where its plugin.signature says it is"
    )


def find_sets(folder: Path) -> list[Path]:
    """The manifests of the flat sets in a folder, in the order of their names.

    A set is a ``.toml`` whose ``signature`` names a ``.sig`` that lies beside it with the
    ``.wasm`` of the same stem. A ``.toml`` that can't be read counts by its own name, so that
    its reader says what is wrong. Hidden files, links and TOML files of other kinds are
    passed over; a folder that is not there has no sets.

    Raises:
        SandboxError: The folder can't be listed.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SandboxError(f"cannot list {folder}: {error.strerror}") from error
    found = []
    for name in names:
        path = folder / name
        if name.startswith(".") or not name.endswith(".toml") or not _is_regular(path):
            continue
        try:
            manifest = _read(path, MAX_MANIFEST_BYTES, ManifestError)
            stem = manifest_stem(manifest or b"", name=str(path))
        except SandboxError:
            stem = path.stem
        if _is_regular(folder / f"{stem}.wasm") and _is_regular(folder / f"{stem}.sig"):
            found.append(path)
    return found


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _readme(folder: Path) -> bytes | None:
    """The README, or None: it is for people, and no reason to refuse a plugin."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
        for name in names:
            if name.lower() == "readme.md":
                return _read(folder / name, _MAX_README_BYTES, SandboxError)
    except (OSError, SandboxError):
        return None
    return None


def _read(path: Path, longest: int, too_long: type[SandboxError]) -> bytes | None:
    """Read a regular file of at most ``longest`` bytes; None where there is none."""
    try:
        with open_regular(path) as (file, status):
            # One that is too long is not read for that; one that grows is.
            data = b"" if status.st_size > longest else file.read(longest + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise SandboxError(f"cannot read {path}: {reason}; expected a regular file") from error
    if max(status.st_size, len(data)) > longest:
        raise too_long(f"cannot read {path}: it is longer than {longest} bytes")
    return data
