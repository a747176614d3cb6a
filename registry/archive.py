"""An OCI image layout as one tar file: read where it lies, written in one go.

The file is a layout for whoever unpacks it (skopeo's ``oci-archive:``); ref names are ``ID:TAG``.
"""

import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from registry.digest import Source, check_bytes, copy_verified
from registry.errors import ContentError, NotFoundError
from registry.layout import MARKER_BYTES
from registry.layout_index import MAX_INDEX_BYTES, LayoutIndex
from registry.layout_reader import Known, LayoutReader
from registry.layout_store import INDEX, MARKER, blob_name
from registry.model import Descriptor, Manifest
from registry.reading import open_regular
from registry.reference import LayoutLocation
from registry.repository import Files, Progress, check_unmoved
from registry.tar_entries import BLOCK_BYTES, Entry, read_entries


@contextmanager
def open_archive(path: Path, files: Files) -> Iterator["Archive"]:
    """Open a layout in a tar file to be read.

    Raises:
        ContentError: See ``read_entries``.
        OSError: It can't be opened, or is no regular file.
    """
    with open_regular(path) as file:
        yield Archive(path, _ArchiveStore(file, read_entries(file, f"archive {path}")), files)


class Archive:
    """A layout in a tar file.

    Args:
        path: Of the file.
        store: Its entries.
        files: How blobs come out of it to the disk.

    Attributes:
        whole: All of it, whatever plugin it is of; its ref names are no tags.
    """

    def __init__(self, path: Path, store: "_ArchiveStore", files: Files) -> None:
        self._path = path
        self._store = store
        self._files = files
        self._known = Known()
        self.whole = self._reader(LayoutLocation(path.parent, path.name))

    def named(self, plugin_id: str) -> LayoutReader:
        """The archive as the repository of one plugin."""
        return self._reader(LayoutLocation(self._path, plugin_id), f"{plugin_id}:")

    def _reader(self, location: LayoutLocation, prefix: str = "") -> LayoutReader:
        # What one of them found is found for all: there can be thousands of releases.
        return _ArchiveReader(location, self._store, self._files, prefix, self._known)

    def index(self) -> LayoutIndex:
        """What is in it.

        Raises:
            ContentError: It is no layout, or its index is malformed.
        """
        try:
            return self.whole.index()
        except NotFoundError as error:
            message = f"cannot read archive {self._path}: it is no OCI layout; {error}"
            raise ContentError(message) from error


class _ArchiveReader(LayoutReader):
    """See ``LayoutReader``; the index of an open archive is read once."""

    def index(self) -> LayoutIndex:
        """What is in it."""
        if self._known.index is None:
            self._known.index = super().index()
        return self._known.index


class _ArchiveStore:
    """See ``Store``: the entries of a tar file, of which several may be read at once.

    Args:
        file: The archive.
        entries: Its table.
    """

    def __init__(self, file: BinaryIO, entries: dict[str, Entry]) -> None:
        self._file = file
        self._entries = entries

    @contextmanager
    def open(self, name: str, what: str) -> Iterator[Source]:
        """See ``Store``."""
        entry = self._entries.get(name)
        if entry is None:
            message = f"cannot find {what}: no entry {name}"
            raise NotFoundError(message)
        yield _Part(self._file, entry)

    def size_bytes(self, name: str) -> int | None:
        """See ``Store``."""
        entry = self._entries.get(name)
        return None if entry is None else entry.size_bytes


class _Part:
    """A file's next bytes, and no more of them than agreed."""

    def __init__(self, file: BinaryIO, entry: Entry) -> None:
        self._file = file
        self._place = entry.start
        self._end = entry.start + entry.size_bytes

    def readinto(self, buffer: memoryview, /) -> int:
        """See ``Source``."""
        part = buffer[: self._end - self._place]
        count = os.preadv(self._file.fileno(), [part], self._place)
        self._place += count
        return count


class ArchiveWriter:
    """Writes a layout into an open file, blob by blob; the same blobs in turn make the same bytes.

    Several threads may bring blobs; one is written after the other, in the order of their coming.

    Args:
        file: Empty; the caller publishes it once ``finish`` is done.
        path: What it is going to be called.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._index = LayoutIndex.empty()
        self._sizes: dict[str, int] = {}
        self._writing = threading.Lock()
        self._add(MARKER, io.BytesIO(MARKER_BYTES), Descriptor.of("application/json", MARKER_BYTES))

    def named(self, plugin_id: str) -> "ArchivedPlugin":
        """The part of the archive that belongs to one plugin."""
        return ArchivedPlugin(self, LayoutLocation(self._path, plugin_id))

    def finish(self) -> None:
        """Write the index, and the end of the archive."""
        document = json.dumps(self._index.document, separators=(",", ":")).encode()
        self._add(INDEX, io.BytesIO(document), Descriptor.of("application/json", document))
        self._file.write(b"\0" * 2 * BLOCK_BYTES)
        self._file.flush()

    def tagged(self, name: str) -> Descriptor | None:
        """What a ref name stands for."""
        return self._index.named(name, f"archive {self._path}")

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob of this size is in the archive already."""
        return self._sizes.get(blob.digest) == blob.size_bytes

    def add_blob(
        self,
        blob: Descriptor,
        source: Path | bytes,
        progress: Progress | None = None,
    ) -> None:
        """Write a blob, verified on the way.

        Raises:
            ContentError: It is not what its descriptor says: the archive can't be used any more.
        """
        name = blob_name(blob.digest)
        with self._writing:
            if self.has(blob):
                return
            if isinstance(source, bytes):
                check_bytes(source, blob.digest, blob.size_bytes, f"blob {blob.digest}")
                self._add(name, io.BytesIO(source), blob, progress)
            else:
                with source.open("rb") as file:
                    self._add(name, file, blob, progress)
            self._sizes[blob.digest] = blob.size_bytes

    def add_manifest(self, manifest: Manifest, name: str | None) -> None:
        """Write a manifest, and list it under a ref name, or under none."""
        blobs = (manifest.config, *manifest.layers)
        missing = [blob.digest for blob in blobs if not self.has(blob)]
        if missing:
            message = f"cannot write {manifest.digest}: blob {missing[0]} was not written before"
            raise ContentError(message)
        self.add_blob(manifest.descriptor, manifest.raw)
        what = f"archive {self._path}"
        document = self._index.with_manifest(manifest, name)
        if len(document) > MAX_INDEX_BYTES:
            message = f"cannot write {what}: its index would exceed {MAX_INDEX_BYTES}"
            raise ContentError(message)
        self._index = LayoutIndex.parse(document, what)

    def _add(
        self, name: str, source: Source, blob: Descriptor, progress: Progress | None = None
    ) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.mode = blob.size_bytes, 0o644
        self._file.write(header.tobuf(tarfile.USTAR_FORMAT))
        copy_verified(
            source,
            self._file,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            what=f"blob {blob.digest}",
            progress=progress,
        )
        self._file.write(b"\0" * (-blob.size_bytes % BLOCK_BYTES))


class ArchivedPlugin:
    """See ``Writable``: one plugin's releases in an archive that is being written.

    Args:
        archive: The archive.
        location: How messages call this part of it.
    """

    def __init__(self, archive: ArchiveWriter, location: LayoutLocation) -> None:
        self._archive = archive
        self._location = location

    @property
    def location(self) -> LayoutLocation:
        """Where it is."""
        return self._location

    @property
    def takes_in_turn(self) -> bool:
        """Say yes: the same releases make the same bytes."""
        return True

    def tagged(self, tag: str) -> Descriptor | None:
        """Say what a tag is set to."""
        return self._archive.tagged(self._name(tag))

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether the blob was written."""
        return self._archive.has(descriptor)

    def mount_blob(self, descriptor: Descriptor) -> bool:  # noqa: ARG002 - the Protocol's
        """Say no: an archive has no siblings."""
        return False

    def push_blob(
        self, descriptor: Descriptor, source: Path | bytes, *, progress: Progress | None = None
    ) -> None:
        """Write a blob."""
        self._archive.add_blob(descriptor, source, progress)

    def push_manifest(self, raw: bytes, *, tag: str | None, move: bool = True) -> Descriptor:
        """Write a manifest whose blobs are there, under ``ID:TAG``."""
        manifest = Manifest.parse(raw)
        if tag is not None and not move and (named := self.tagged(tag)) is not None:
            check_unmoved(self._location, tag, named=named.digest, digest=manifest.digest)
        self._archive.add_manifest(manifest, None if tag is None else self._name(tag))
        return manifest.descriptor

    def _name(self, tag: str) -> str:
        return f"{self._location.name}:{tag}"
