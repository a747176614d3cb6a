"""A repository in a folder: an OCI image layout, safe between processes and across crashes.

A reader never waits: blobs and the index appear by rename. A writer holds the layout's lock only
while it exchanges the index. A crash leaves blobs that nothing names, which are inert.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.digest import check_bytes
from registry.errors import BusyError, ContentError, NotFoundError, ReferenceFormatError
from registry.layout_index import MAX_INDEX_BYTES, LayoutIndex
from registry.layout_reader import LayoutReader
from registry.layout_store import INDEX, MARKER, FolderStore, blob_name
from registry.model import Descriptor, Manifest
from registry.reference import LayoutLocation
from registry.repository import Files, Progress, check_unmoved
from registry.version_tags import is_tag

MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
_LOCK_TIMEOUT_S = 30


class LayoutRepository(LayoutReader):
    """See ``Repository``. Reading changes nothing on the disk.

    Args:
        location: DIR and ID. The layout is DIR/ID, and ref names are tags; if DIR is a layout
            itself, it is that one, and ref names are ``ID:TAG``.
        files: How things come to the disk.
    """

    def __init__(self, location: LayoutLocation, files: Files) -> None:
        shared = (location.folder / MARKER).is_file()
        self._root = location.folder if shared else location.folder / location.name
        prefix = f"{location.name}:" if shared else ""
        super().__init__(location, FolderStore(self._root), files, prefix)

    @property
    def takes_in_turn(self) -> bool:
        """Say no: each blob is a file of its own."""
        return False

    def tagged(self, tag: str) -> Descriptor | None:
        """Say what a tag is set to; a manifest without a ref name is set to none."""
        return self._index_or_empty().named(self._prefix + tag, self._location.text)

    def mount_blob(self, descriptor: Descriptor) -> bool:  # noqa: ARG002 - the Protocol's
        """Say no: a layout has no siblings."""
        return False

    def push_blob(
        self, descriptor: Descriptor, source: Path | bytes, *, progress: Progress | None = None
    ) -> None:
        """Copy a blob into the layout, verified on the way."""
        path = self._place_for(descriptor.digest)
        if isinstance(source, bytes):
            check_bytes(source, descriptor.digest, descriptor.size_bytes, "blob to push")
            self._files.write_atomic(path, source)
            if progress is not None:
                progress(len(source))
            return
        with source.open("rb") as file:
            self._keep(file, descriptor, path, 0o644, progress)

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
        path = self._place_for(manifest.digest)
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
            if not (self._root / MARKER).exists():
                self._files.write_atomic(self._root / MARKER, MARKER_BYTES)
            self._files.write_atomic(self._root / INDEX, document)
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

    def _place_for(self, digest: str) -> Path:
        """Where a blob belongs, in folders of the layout's own.

        Raises:
            ContentError: One of them is a link: it would lead out of the layout.
        """
        path = self._root / blob_name(digest)
        for folder in (path.parent.parent, path.parent):
            if folder.is_symlink():
                message = f"cannot push to {self._root}: {folder} is a link, expected a folder"
                raise ContentError(message)
        self._files.make_folder(path.parent)
        return path

    def _index_or_empty(self) -> LayoutIndex:
        try:
            return self.index()
        except NotFoundError:
            return LayoutIndex.empty()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._files.lock(self._root / ".lock", timeout_s=_LOCK_TIMEOUT_S):
                yield
        except TimeoutError as error:
            message = f"cannot push to {self._root}: another process is at it; try again"
            raise BusyError(message) from error
