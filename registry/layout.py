"""A repository in a folder: an OCI image layout, safe between processes and across crashes.

A reader never waits: blobs and the index appear by rename. A writer holds the layout's lock only
while it exchanges the index. A crash leaves blobs that nothing names, which are inert.
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from registry.digest import check_bytes, copy_verified, parse_digest, sha256_digest
from registry.errors import (
    BusyError,
    ContentError,
    NotFoundError,
    ReferenceFormatError,
)
from registry.layout_index import MAX_INDEX_BYTES, LayoutIndex
from registry.model import MANIFEST_MEDIA_TYPE, MAX_MANIFEST_BYTES, Descriptor, Manifest
from registry.reading import open_regular
from registry.reference import LayoutLocation
from registry.repository import Files, Progress, check_unmoved
from registry.strict_json import parse_object
from registry.version_tags import is_release_tag, is_tag

_MARKER = "oci-layout"
_MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_MARKER_BYTES = 4096
_LOCK_TIMEOUT_S = 30
_VERSION_ANNOTATION = "org.opencontainers.image.version"


class LayoutRepository:
    """See ``Repository``. Reading changes nothing on the disk.

    Args:
        location: DIR and ID. The layout is DIR/ID, and ref names are tags; if DIR is a layout
            itself, it is that one, and ref names are ``ID:TAG``.
        files: How things come to the disk.
    """

    def __init__(self, location: LayoutLocation, files: Files) -> None:
        self._location = location
        self._files = files
        shared = (location.folder / _MARKER).is_file()
        self._root = location.folder if shared else location.folder / location.name
        self._prefix = f"{location.name}:" if shared else ""

    @property
    def location(self) -> LayoutLocation:
        """Where it is."""
        return self._location

    def resolve(self, tag: str) -> Descriptor:
        """Look up what a tag names."""
        if not is_tag(tag):
            message = f"cannot use tag {tag[:140]!r}: it is none"
            raise ReferenceFormatError(message)
        return self._index().find(self._prefix + tag, self._location.text)

    def tagged(self, tag: str) -> Descriptor | None:
        """Say what a tag is set to; a manifest without a ref name is set to none."""
        return self._index_or_empty().named(self._prefix + tag, self._location.text)

    def manifest(self, reference: str) -> Manifest:
        """Read and parse a manifest of at most 4 MiB; its bytes have the digest asked for."""
        digest = reference if ":" in reference else self.resolve(reference).digest
        what = f"manifest {digest} of {self._location.text}"
        raw = self._read(self._blob_path(digest), MAX_MANIFEST_BYTES, what)
        if (got := sha256_digest(raw)) != digest:
            message = f"cannot accept {what}: its bytes are {got}"
            raise ContentError(message)
        return Manifest.parse(raw)

    def read_blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Read a small blob into memory, verified."""
        what = f"blob {descriptor.digest} of {self._location.text}"
        if descriptor.size_bytes > max_bytes:
            message = f"cannot accept {what}: {descriptor.size_bytes} bytes, expected ≤ {max_bytes}"
            raise ContentError(message)
        raw = self._read(self._blob_path(descriptor.digest), descriptor.size_bytes, what)
        return check_bytes(raw, descriptor.digest, descriptor.size_bytes, what)

    def fetch_blob(
        self, descriptor: Descriptor, destination: Path, *, progress: Progress | None = None
    ) -> None:
        """Copy a blob to a file, which appears whole and verified or not at all."""
        path = self._blob_path(descriptor.digest)
        with self._open(path, f"blob {descriptor.digest} of {self._location.text}") as source:
            self._store(source, descriptor, destination, 0o600, progress)

    def tags(self) -> tuple[str, ...]:
        """List the tags; a sole manifest without a ref name is listed by its version annotation."""
        index = self._index()
        names = index.names
        sole = index.sole_unnamed
        if sole is not None and sole.media_type == MANIFEST_MEDIA_TYPE:
            version = self.manifest(sole.digest).annotations.get(_VERSION_ANNOTATION, "")
            names = (self._prefix + version.replace("+", "_"),)
        tags = [name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)]
        if self._prefix and not tags:
            message = f"cannot find {self._location.name} in layout {self._root}"
            raise NotFoundError(message)
        return tuple(dict.fromkeys(tag for tag in tags if is_release_tag(tag)))

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether a file of this size is at the blob's place."""
        try:
            return self._blob_path(descriptor.digest).stat().st_size == descriptor.size_bytes
        except (FileNotFoundError, NotADirectoryError):
            return False

    def push_blob(
        self, descriptor: Descriptor, source: Path | bytes, *, progress: Progress | None = None
    ) -> None:
        """Copy a blob into the layout, verified on the way."""
        path = self._blob_path(descriptor.digest)
        self._files.make_folder(path.parent)
        if isinstance(source, bytes):
            check_bytes(source, descriptor.digest, descriptor.size_bytes, "blob to push")
            self._files.write_atomic(path, source)
            if progress is not None:
                progress(len(source))
            return
        with source.open("rb") as file:
            self._store(file, descriptor, path, 0o644, progress)

    def push_manifest(self, raw: bytes, *, tag: str | None, move: bool = True) -> Descriptor:
        """Store a manifest whose blobs are there, and point a tag at it, in that order.

        Between processes: none loses another's tags, and with ``move=False`` the first one wins.

        Raises:
            BusyError: The lock could not be had within 30 s.
            ContentError: A blob that the manifest names isn't there.
            TagMovedError: ``move=False``, and the tag names other bytes.
        """
        manifest = Manifest.parse(raw)
        if tag is not None and not is_tag(tag):
            message = f"cannot use tag {tag[:140]!r}: it is none"
            raise ReferenceFormatError(message)
        for blob in (manifest.config, *manifest.layers):
            if not self.has_blob(blob):
                message = f"cannot push {manifest.digest}: blob {blob.digest} was not pushed before"
                raise ContentError(message)
        path = self._blob_path(manifest.digest)
        self._files.make_folder(path.parent)
        self._files.write_atomic(path, raw)
        with self._locked():
            index = self._index_or_empty()
            name = None if tag is None else self._prefix + tag
            named = None if name is None else index.named(name, self._location.text)
            if tag is not None and named is not None and not move:
                check_unmoved(self._location, tag, named=named.digest, digest=manifest.digest)
            document = index.with_manifest(manifest, name)
            if len(document) > MAX_INDEX_BYTES:
                message = f"cannot push to {self._root}: its index would exceed {MAX_INDEX_BYTES}"
                raise ContentError(message)
            if not (self._root / _MARKER).exists():
                self._files.write_atomic(self._root / _MARKER, _MARKER_BYTES)
            self._files.write_atomic(self._root / "index.json", document)
        return manifest.descriptor

    def close(self) -> None:
        """Nothing is held open between calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _blob_path(self, digest: str) -> Path:
        return self._root / "blobs" / "sha256" / parse_digest(digest).removeprefix("sha256:")

    def _index_or_empty(self) -> LayoutIndex:
        try:
            return self._index()
        except NotFoundError:
            return LayoutIndex.empty()

    def _index(self) -> LayoutIndex:
        what = f"layout {self._root}"
        marker = parse_object(
            self._read(self._root / _MARKER, _MAX_MARKER_BYTES, what), f"{_MARKER} of {what}"
        )
        if not str(marker.get("imageLayoutVersion")).startswith("1."):
            message = f"cannot read {what}: expected imageLayoutVersion 1.0.0"
            raise ContentError(message)
        raw = self._read(self._root / "index.json", MAX_INDEX_BYTES, f"index of {what}")
        return LayoutIndex.parse(raw, f"index of {what}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._files.lock(self._root / ".lock", timeout_s=_LOCK_TIMEOUT_S):
                yield
        except TimeoutError as error:
            message = f"cannot push to {self._root}: another process is at it; try again"
            raise BusyError(message) from error

    @contextmanager
    def _open(self, path: Path, what: str) -> Iterator[BinaryIO]:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open_regular(path))
            except (FileNotFoundError, NotADirectoryError) as error:
                message = f"cannot find {what}: no file {path}"
                raise NotFoundError(message) from error
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                message = f"cannot read {what}: {path} is no regular file"
                raise ContentError(message) from error
            yield file

    def _read(self, path: Path, max_bytes: int, what: str) -> bytes:
        with self._open(path, what) as file:
            data = bytearray()
            while piece := file.read(max_bytes + 1 - len(data)):
                data += piece
        if len(data) > max_bytes:
            message = f"cannot read {what}: got more than {max_bytes} bytes"
            raise ContentError(message)
        return bytes(data)

    def _store(
        self,
        source: BinaryIO,
        descriptor: Descriptor,
        path: Path,
        mode: int,
        progress: Progress | None,
    ) -> None:
        with self._files.temporary(path.parent, mode=mode) as (file, temporary):
            copy_verified(
                source,
                file,
                digest=descriptor.digest,
                size_bytes=descriptor.size_bytes,
                what=f"blob {descriptor.digest} of {self._location.text}",
                progress=progress,
            )
            file.flush()
            self._files.publish(temporary, path)
