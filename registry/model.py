"""Descriptors and manifests of the OCI image specification 1.1, read strictly."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from registry.digest import parse_digest, sha256_digest
from registry.errors import ContentError
from registry.strict_json import parse_object

MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
MAX_MANIFEST_BYTES = 4 << 20
_MAX_SIZE_BYTES = 2**63 - 1
_SCHEMA_VERSION = 2
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a piece of content: media type, digest and size (OCI "Content Descriptors").

    Attributes:
        media_type: As given, RFC 6838 without parameters.
        digest: ``sha256:<64 lowercase hex>``.
        size_bytes: The exact size of the content.
        annotations: Free text for people, never to be trusted.
        artifact_type: What kind of artifact a manifest is, where the descriptor says so.
    """

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str | None = None

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Self:
        """Describe bytes in memory."""
        return cls(media_type, sha256_digest(data), len(data))

    @classmethod
    def parse(cls, document: object, what: str) -> Self:
        """Read a descriptor out of a parsed JSON document.

        Args:
            document: The value at its place in the document.
            what: How messages call it.

        Raises:
            ContentError: A required key is missing, or a value is not of its form.
        """
        if not isinstance(document, dict):
            message = f"cannot read {what}: got {type(document).__name__}, expected a descriptor"
            raise ContentError(message)
        size_bytes = document.get("size")
        # bool is an int to Python, not to JSON.
        if type(size_bytes) is not int or not 0 <= size_bytes <= _MAX_SIZE_BYTES:
            message = f"cannot read {what}: its size is {str(size_bytes)[:40]}, expected bytes"
            raise ContentError(message)
        digest = document.get("digest")
        if not isinstance(digest, str):
            message = f"cannot read {what}: it has no digest"
            raise ContentError(message)
        return cls(
            media_type=_media_type(document.get("mediaType"), f"mediaType of {what}"),
            digest=parse_digest(digest),
            size_bytes=size_bytes,
            annotations=_annotations(document.get("annotations"), what),
            artifact_type=_artifact_type(document.get("artifactType"), what),
        )

    def document(self) -> dict[str, object]:
        """Return the JSON form; annotations and artifact type only where there are some."""
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size_bytes,
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        return document


@dataclass(frozen=True, slots=True)
class Manifest:
    """One OCI image manifest with the bytes it was read from: those are what a digest names.

    Attributes:
        raw: The document as stored.
        digest: SHA-256 of ``raw``.
        media_type: Always ``application/vnd.oci.image.manifest.v1+json``.
        artifact_type: ``artifactType``, if given.
        config: The config's descriptor.
        layers: In the order of the document.
        annotations: Free text for people.
        subject: The manifest that this one refers to, if it does.
    """

    raw: bytes = field(repr=False)
    digest: str
    media_type: str
    artifact_type: str | None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    subject: Descriptor | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a manifest (OCI image specification, "Image Manifest").

        Args:
            raw: The document, at most 4 MiB.

        Raises:
            ContentError: It is larger, is not strict JSON (see ``strict_json``), is an index or
                another kind of document, or a descriptor in it is malformed.
        """
        digest = sha256_digest(raw)
        what = f"manifest {digest}"
        if len(raw) > MAX_MANIFEST_BYTES:
            message = f"cannot read {what}: got {len(raw)} bytes, expected ≤ {MAX_MANIFEST_BYTES}"
            raise ContentError(message)
        document = parse_object(raw, what)
        media_type = document.get("mediaType", MANIFEST_MEDIA_TYPE)
        if media_type == INDEX_MEDIA_TYPE or "manifests" in document:
            message = f"cannot read {what}: got an index, expected one manifest"
            raise ContentError(message)
        version = document.get("schemaVersion")
        if (
            media_type != MANIFEST_MEDIA_TYPE
            or type(version) is not int
            or version != _SCHEMA_VERSION
        ):
            message = (
                f"cannot read {what}: got {str(media_type)[:80]!r}, schemaVersion "
                f"{str(version)[:20]}, expected {MANIFEST_MEDIA_TYPE}, schemaVersion 2"
            )
            raise ContentError(message)
        layers = document.get("layers")
        if not isinstance(layers, list):
            message = f"cannot read {what}: it has no list of layers"
            raise ContentError(message)
        return cls(
            raw=raw,
            digest=digest,
            media_type=MANIFEST_MEDIA_TYPE,
            artifact_type=_artifact_type(document.get("artifactType"), what),
            config=Descriptor.parse(document.get("config"), f"config of {what}"),
            layers=tuple(
                Descriptor.parse(layer, f"layer {number} of {what}")
                for number, layer in enumerate(layers)
            ),
            annotations=_annotations(document.get("annotations"), what),
            subject=subject_of(document, what),
        )

    @property
    def descriptor(self) -> Descriptor:
        """What names this manifest."""
        return Descriptor(
            self.media_type, self.digest, len(self.raw), artifact_type=self.artifact_type
        )

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())


def subject_of(document: Mapping[str, object], what: str) -> Descriptor | None:
    """What a manifest or an index refers to.

    Args:
        document: As parsed.
        what: How messages call it.

    Raises:
        ContentError: It is no descriptor.
    """
    subject = document.get("subject")
    return None if subject is None else Descriptor.parse(subject, f"subject of {what}")


def _media_type(value: object, what: str) -> str:
    if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value):
        message = f"cannot read {what}: got {str(value)[:80]!r}, expected type/subtype"
        raise ContentError(message)
    return value


def _artifact_type(value: object, what: str) -> str | None:
    # Some write an empty one where there is none.
    return None if value in (None, "") else _media_type(value, f"artifactType of {what}")


def _annotations(value: object, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        message = f"cannot read annotations of {what}: expected an object of strings"
        raise ContentError(message)
    return dict(value)
