"""What hangs on a manifest by ``subject``: lists of it, read and written. Pure.

OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema".
"""

import json
from collections.abc import Collection, Iterable

from registry.digest import parse_digest
from registry.errors import ContentError
from registry.layout_index import LayoutIndex
from registry.model import (
    INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
)

MAX_REFERRERS = 1000
"""More of one manifest is a flood."""
_MANIFEST_TYPES = (MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE)
_SCHEMA_VERSION = 2
_MAX_LOOKS = 32


def fallback_tag(digest: str) -> str:
    """The tag of the index that lists a manifest's referrers where a registry has no API for it.

    Raises:
        ContentError: It is no digest.
    """
    return parse_digest(digest).replace(":", "-")


def kind_of(manifest: Manifest) -> str:
    """What a list of referrers calls a manifest: its type, else its config's."""
    return manifest.artifact_type or manifest.config.media_type


def entry_of(manifest: Manifest) -> Descriptor:
    """A manifest as a list of referrers has it."""
    return Descriptor(
        manifest.media_type,
        manifest.digest,
        len(manifest.raw),
        manifest.annotations,
        kind_of(manifest),
    )


class Found:
    """Referrers of one manifest as they are found: each once, and not too many.

    Args:
        what: How messages call the list.
        artifact_type: Keep those of this type alone; ``None``: all.
    """

    def __init__(self, what: str, artifact_type: str | None) -> None:
        self._what = what
        self._artifact_type = artifact_type
        self._entries: dict[str, Descriptor] = {}

    def add(self, entries: Iterable[Descriptor]) -> None:
        """Take more of them.

        Raises:
            ContentError: They are too many.
        """
        for entry in entries:
            if entry.media_type not in _MANIFEST_TYPES:
                continue  # nothing else can have a subject
            if self._artifact_type in (None, entry.artifact_type):
                self._entries.setdefault(entry.digest, entry)
            if len(self._entries) > MAX_REFERRERS:
                message = f"cannot read {self._what}: more than {MAX_REFERRERS}"
                raise ContentError(message)

    @property
    def entries(self) -> tuple[Descriptor, ...]:
        """What was found, in the order of the lists."""
        return tuple(self._entries.values())


def parse_list(raw: bytes, what: str) -> tuple[Descriptor, ...]:
    """Read a list of referrers: an image index.

    Args:
        raw: The document; the caller has bounded its size.
        what: How messages call it.

    Raises:
        ContentError: It is another kind of document, or an entry is malformed.
    """
    return _index(raw, what).entries


def doubtful(
    raw: bytes, manifest: Manifest, what: str, *, is_refused: bool
) -> tuple[Descriptor, ...]:
    """Choose entries of a fallback index that are worth a look before it is written.

    Few of them: the next manifest that is listed has others looked at.

    Args:
        raw: The index.
        manifest: Is to be listed; nothing is written, nor looked at, where it is.
        what: How messages call the index.
        is_refused: Choose all: the registry does not take an index with what it has not.

    Raises:
        ContentError: See ``parse_list``.
    """
    entries = parse_list(raw, what)
    if any(entry.digest == manifest.digest for entry in entries):
        return ()
    known = [entry for entry in entries if entry.media_type in _MANIFEST_TYPES]
    if is_refused or len(known) <= _MAX_LOOKS:
        return tuple(known)
    start = int(manifest.digest[-8:], 16) % len(known)
    return tuple((known[start:] + known[:start])[:_MAX_LOOKS])


def with_referrer(
    raw: bytes | None, manifest: Manifest, what: str, gone: Collection[str] = ()
) -> bytes | None:
    """Write a fallback index with one more entry; what else is in it stays as it is.

    Args:
        raw: The index; ``None``: there is none yet.
        manifest: Refers to the index's subject.
        what: How messages call the index.
        gone: Digests of entries that are there no more.

    Returns:
        The new index; ``None``: it lists the manifest already.

    Raises:
        ContentError: See ``parse_list``; or it has no room left.
    """
    index = LayoutIndex.empty() if raw is None else _index(raw, what)
    if any(entry.digest == manifest.digest for entry in index.entries):
        return None
    listed = zip(index.kept, index.entries, strict=True)
    kept = [old for old, entry in listed if entry.digest not in gone]
    if len(kept) >= MAX_REFERRERS:
        message = f"cannot add {manifest.digest} to {what}: got {MAX_REFERRERS} there already"
        raise ContentError(message)
    manifests = [*kept, entry_of(manifest).document()]
    document = {**index.document, "manifests": manifests}
    written = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    if len(written) > MAX_MANIFEST_BYTES:
        message = f"cannot add {manifest.digest} to {what}: it would exceed {MAX_MANIFEST_BYTES}"
        raise ContentError(message)
    return written


def _index(raw: bytes, what: str) -> LayoutIndex:
    index = LayoutIndex.parse(raw, what)
    media_type = index.document.get("mediaType", INDEX_MEDIA_TYPE)
    version = index.document.get("schemaVersion")
    if media_type != INDEX_MEDIA_TYPE or version != _SCHEMA_VERSION:
        message = (
            f"cannot read {what}: got {str(media_type)[:80]!r}, schemaVersion "
            f"{str(version)[:20]}, expected {INDEX_MEDIA_TYPE}, schemaVersion 2"
        )
        raise ContentError(message)
    return index
