"""The ``index.json`` of an OCI image layout: which manifest a name stands for. Pure.

OCI image specification, "Image Layout". Entries and keys that we do not know are kept as they are.
"""

import json
from dataclasses import dataclass

from registry.errors import ContentError, NotFoundError
from registry.model import INDEX_MEDIA_TYPE, Descriptor, Manifest
from registry.strict_json import parse_object

MAX_INDEX_BYTES = 4 << 20
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """An index and its entries.

    Attributes:
        document: As read.
        kept: Its ``manifests`` as read, in the order of the document.
        entries: The same, parsed.
    """

    document: dict[str, object]
    kept: tuple[object, ...]
    entries: tuple[Descriptor, ...]

    @classmethod
    def empty(cls) -> "LayoutIndex":
        """Return the index of a new layout."""
        return cls({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE}, kept=(), entries=())

    @classmethod
    def parse(cls, raw: bytes, what: str) -> "LayoutIndex":
        """Read an index.

        Args:
            raw: The document; the caller has bounded its size.
            what: How messages call it.

        Raises:
            ContentError: It is not strict JSON or an entry is malformed.
        """
        document = parse_object(raw, what)
        manifests = document.get("manifests")
        if not isinstance(manifests, list):
            message = f"cannot read {what}: it has no list of manifests"
            raise ContentError(message)
        entries = tuple(
            Descriptor.parse(entry, f"entry {number} of {what}")
            for number, entry in enumerate(manifests)
        )
        return cls(document, tuple(manifests), entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The ref names, in order."""
        return tuple(entry.annotations[REF_NAME] for entry in self._named())

    def names_of(self, entry: Descriptor) -> tuple[str, ...]:
        """The ref name of an entry, if it has one."""
        name = entry.annotations.get(REF_NAME)
        return () if name is None else (name,)

    @property
    def sole_unnamed(self) -> Descriptor | None:
        """The only manifest, if it is the only one and has no ref name."""
        if len(self.entries) == 1 and REF_NAME not in self.entries[0].annotations:
            return self.entries[0]
        return None

    def named(self, name: str, what: str) -> Descriptor | None:
        """Return the entry with a ref name, if there is one.

        Raises:
            ContentError: There are several, for different manifests.
        """
        found = {e.digest: e for e in self._named() if e.annotations[REF_NAME] == name}
        if len(found) > 1:
            message = f"cannot read {what}: ref name {name!r} stands for {len(found)} manifests"
            raise ContentError(message)
        return next(iter(found.values()), None)

    def find(self, name: str, what: str) -> Descriptor:
        """Return what a ref name stands for; the sole manifest without one stands for any.

        Raises:
            NotFoundError: Nothing.
            ContentError: Several manifests.
        """
        entry = self.named(name, what) or self.sole_unnamed
        if entry is None:
            message = f"cannot find {name!r} in {what}"
            raise NotFoundError(message)
        return entry

    def with_manifest(self, manifest: Manifest, name: str | None) -> bytes:
        """Write the index with one more manifest, or with a name that stands for another one.

        Args:
            manifest: To be listed.
            name: Its ref name; ``None``: listed without one, once.
        """
        entry = manifest.descriptor.document()
        if name is not None:
            entry["annotations"] = {REF_NAME: name}
        listed = zip(self.kept, self.entries, strict=True)
        if name is None:
            # Listed under a name is listed: no second entry.
            manifests = list(self.kept)
            if all(descriptor.digest != manifest.digest for descriptor in self.entries):
                manifests.append(entry)
        else:
            manifests = [
                old for old, descriptor in listed if descriptor.annotations.get(REF_NAME) != name
            ]
            manifests.append(entry)
        document = {**self.document, "manifests": manifests}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def _named(self) -> tuple[Descriptor, ...]:
        return tuple(entry for entry in self.entries if REF_NAME in entry.annotations)
