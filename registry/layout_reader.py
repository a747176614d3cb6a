"""Reading an OCI image layout, in whatever its files are: a folder, or an archive.

OCI image specification, "Image Layout". Digests are checked before they become names, and bytes
before they are believed.
"""

from dataclasses import dataclass, field
from pathlib import Path

from registry.digest import Source, check_bytes, copy_verified, parse_digest, sha256_digest
from registry.errors import ContentError, NotFoundError, ReferenceFormatError
from registry.layout_index import MAX_INDEX_BYTES, LayoutIndex
from registry.layout_store import INDEX, MARKER, Store, blob_name
from registry.model import (
    INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    subject_of,
)
from registry.reference import LayoutLocation
from registry.referrers import Found, fallback_tag, parse_list
from registry.repository import Files, Progress
from registry.strict_json import parse_object
from registry.version_tags import is_release_tag, is_tag

_MAX_MARKER_BYTES = 4096
_MAX_SEARCHED_BYTES = 64 << 20
_PIECE_BYTES = 16 << 10
_VERSION_ANNOTATION = "org.opencontainers.image.version"


@dataclass(slots=True)
class Known:
    """What was found in a layout and never changes.

    Attributes:
        subjects: What a manifest refers to, by its digest.
        index: The index, where nobody can write a new one.
    """

    subjects: dict[str, str | None] = field(default_factory=dict)
    index: LayoutIndex | None = None


class LayoutReader:
    """See ``Readable``. Reading changes nothing in the layout.

    Args:
        location: How messages call it.
        store: Its files.
        files: How blobs come out of it to the disk.
        prefix: What ref names begin with before the tag.
        known: Shared by readers of the same layout; ``None``: there is no other.
    """

    def __init__(
        self,
        location: LayoutLocation,
        store: Store,
        files: Files,
        prefix: str = "",
        known: Known | None = None,
    ) -> None:
        self._location = location
        self._store = store
        self._files = files
        self._prefix = prefix
        self._known = known or Known()
        self._read_before: tuple[bytes, LayoutIndex] | None = None

    @property
    def location(self) -> LayoutLocation:
        """Where it is."""
        return self._location

    def index(self) -> LayoutIndex:
        """What is in the layout.

        Raises:
            NotFoundError: There is no layout.
            ContentError: It is no layout of version 1, or its index is malformed.
        """
        what = f"layout {self._location.text}"
        marker = parse_object(self._read(MARKER, _MAX_MARKER_BYTES, what), f"{MARKER} of {what}")
        if not str(marker.get("imageLayoutVersion")).startswith("1."):
            message = f"cannot read {what}: expected imageLayoutVersion 1.0.0"
            raise ContentError(message)
        what = f"index of {what}"
        raw = self._read(INDEX, MAX_INDEX_BYTES, what)
        if self._read_before is None or self._read_before[0] != raw:
            self._read_before = raw, LayoutIndex.parse(raw, what)
        return self._read_before[1]

    def resolve(self, tag: str) -> Descriptor:
        """Look up what a tag names."""
        if not is_tag(tag):
            message = f"cannot use tag {tag[:140]!r}: it is none"
            raise ReferenceFormatError(message)
        return self.index().find(self._prefix + tag, self._location.text)

    def manifest(self, reference: str) -> Manifest:
        """Read and parse a manifest of at most 4 MiB; its bytes have the digest asked for."""
        digest = reference if ":" in reference else self.resolve(reference).digest
        return Manifest.parse(self._document(digest))

    def read_blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Read a small blob into memory, verified."""
        what = f"blob {descriptor.digest} of {self._location.text}"
        if descriptor.size_bytes > max_bytes:
            message = f"cannot accept {what}: {descriptor.size_bytes} bytes, expected ≤ {max_bytes}"
            raise ContentError(message)
        raw = self._read(blob_name(descriptor.digest), descriptor.size_bytes, what)
        return check_bytes(raw, descriptor.digest, descriptor.size_bytes, what)

    def fetch_blob(
        self, descriptor: Descriptor, destination: Path, *, progress: Progress | None = None
    ) -> None:
        """Copy a blob to a file, which appears whole and verified or not at all."""
        what = f"blob {descriptor.digest} of {self._location.text}"
        with self._store.open(blob_name(descriptor.digest), what) as source:
            self._keep(source, descriptor, destination, 0o600, progress)

    def tags(self) -> tuple[str, ...]:
        """List the tags; a sole manifest without a ref name is listed by its version annotation."""
        index = self.index()
        names = index.names
        sole = index.sole_unnamed
        if sole is not None and sole.media_type == MANIFEST_MEDIA_TYPE:
            version = self.manifest(sole.digest).annotations.get(_VERSION_ANNOTATION, "")
            names = (self._prefix + version.replace("+", "_"),)
        tags = [name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)]
        if self._prefix and not tags:
            message = f"cannot find {self._location.name} in layout {self._location.folder}"
            raise NotFoundError(message)
        return tuple(dict.fromkeys(tag for tag in tags if is_release_tag(tag)))

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether a file of this size is at the blob's place."""
        return self._store.size_bytes(blob_name(descriptor.digest)) == descriptor.size_bytes

    def referrers(self, digest: str, *, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List the manifests of the index that refer to one, and what a fallback tag lists."""
        parse_digest(digest)
        what = f"referrers of {digest} in {self._location.text}"
        found = Found(what, artifact_type)
        try:
            index = self.index()
        except NotFoundError:
            return ()
        listed = index.named(self._prefix + fallback_tag(digest), self._location.text)
        if listed is not None:
            found.add(parse_list(self._document(listed.digest), what))
        # Of all each time: who asks again gets the same answer.
        if sum(entry.size_bytes for entry in index.entries) > _MAX_SEARCHED_BYTES:
            message = f"cannot read {what}: more than {_MAX_SEARCHED_BYTES} bytes to search"
            raise ContentError(message)
        for entry in index.entries:
            if entry.digest not in self._known.subjects:
                self._known.subjects[entry.digest] = self._subject(entry)
            if self._known.subjects[entry.digest] == digest:
                found.add((entry,))
        return found.entries

    def _subject(self, entry: Descriptor) -> str | None:
        """What an entry of the index refers to; what can't be read refers to nothing."""
        if entry.media_type not in (MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE):
            return None
        try:
            raw = self._document(entry.digest, min(entry.size_bytes, MAX_MANIFEST_BYTES))
            subject = subject_of(parse_object(raw, entry.digest), entry.digest)
        except (ContentError, NotFoundError):
            return None
        return None if subject is None else subject.digest

    def _document(self, digest: str, max_bytes: int = MAX_MANIFEST_BYTES) -> bytes:
        what = f"manifest {digest} of {self._location.text}"
        raw = self._read(blob_name(digest), max_bytes, what)
        if (got := sha256_digest(raw)) != digest:
            message = f"cannot accept {what}: its bytes are {got}"
            raise ContentError(message)
        return raw

    def _read(self, name: str, max_bytes: int, what: str) -> bytes:
        with self._store.open(name, what) as file:
            data, piece = bytearray(), memoryview(bytearray(_PIECE_BYTES))
            while len(data) <= max_bytes and (count := file.readinto(piece)):
                data += piece[:count]
        if len(data) > max_bytes:
            message = f"cannot read {what}: got more than {max_bytes} bytes"
            raise ContentError(message)
        return bytes(data)

    def _keep(
        self,
        source: Source,
        descriptor: Descriptor,
        path: Path,
        mode: int,
        progress: Progress | None,
    ) -> None:
        """Put a blob at its place on the disk, verified."""
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
