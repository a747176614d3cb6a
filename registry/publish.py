"""How a plugin becomes an artifact, and how that gets into a repository. Contract §4."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from registry.artifact import (
    ARTIFACT_TYPE,
    CONFIG_MEDIA_TYPE,
    PAYLOAD_MEDIA_TYPE,
    PLUGIN_MANIFEST_MEDIA_TYPE,
    README_MEDIA_TYPE,
    README_TITLE,
    SIGNATURE_MEDIA_TYPE,
    TITLE,
    is_stem,
)
from registry.digest import sha256_digest
from registry.errors import ContentError
from registry.model import MANIFEST_MEDIA_TYPE, Descriptor, Manifest
from registry.parallel import one_at_a_time
from registry.releasing import release, send_each
from registry.repository import Progress, Writable

_OCI = "org.opencontainers.image"
_PLUGIN = "dev.stack-composer.plugin"


@dataclass(frozen=True, slots=True)
class ArtifactInput:
    """What an artifact is made of.

    Attributes:
        stem: The common name of the plugin's files.
        payload: The ``.wasm``.
        signature: The bytes of the ``.sig``.
        plugin_manifest: The bytes of the ``.toml``.
        readme: The bytes of the README, if there is one.
        created: When; with a time zone.
        plugin_id: From the manifest, as all that follows; hints for people.
        version: SemVer.
        abi: The host API's major version.
        capabilities: As requested.
        name: For people.
        wasi: What the code imports: a core module or a component.
        min_host: A constraint on the host's version.
        description: One line.
        license: An SPDX expression.
        authors: As in the manifest.
        homepage: A URL.
        source: A URL.
        revision: What the source was built from.
        imports: Of a component: the interfaces it imports.
        exports: Of a component: the interfaces it exports.
        payload_sha256: Of the payload, where it is known; else it is read for that.
    """

    stem: str
    payload: Path
    signature: bytes
    plugin_manifest: bytes
    readme: bytes | None
    created: datetime
    plugin_id: str
    version: str
    abi: int
    capabilities: Sequence[str]
    name: str
    wasi: Literal["wasip1", "wasip2"] = "wasip1"
    min_host: str | None = None
    description: str | None = None
    license: str | None = None
    authors: Sequence[str] = ()
    homepage: str | None = None
    source: str | None = None
    revision: str | None = None
    imports: Sequence[str] = ()
    exports: Sequence[str] = ()
    payload_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BuiltArtifact:
    """An artifact ready to be pushed.

    Attributes:
        manifest_raw: The OCI manifest's bytes.
        digest: Their digest: what the release's tag is going to name.
        config_raw: The config's bytes.
        config: Its descriptor.
        layers: In order.
        sources: Where the bytes of config and layers are, by digest.
    """

    manifest_raw: bytes = field(repr=False)
    digest: str
    config_raw: bytes = field(repr=False)
    config: Descriptor
    layers: tuple[Descriptor, ...]
    sources: Mapping[str, Path | bytes] = field(repr=False, hash=False)


def build_artifact(given: ArtifactInput) -> BuiltArtifact:
    """Make manifest and config; the same input gives the same digest.

    Args:
        given: The files and what the manifest says of them.

    Raises:
        ContentError: The stem is no file name, ``created`` has no time zone, or the result does
            not meet the OCI schema.
        OSError: The payload can't be read.
    """
    if not is_stem(given.stem) or given.created.tzinfo is None:
        message = f"cannot build artifact {given.stem!r}: expected a file name and a time zone"
        raise ContentError(message)
    payload_sha256 = given.payload_sha256 or _sha256(given.payload)
    texts = [
        (SIGNATURE_MEDIA_TYPE, f"{given.stem}.sig", given.signature),
        (PLUGIN_MANIFEST_MEDIA_TYPE, f"{given.stem}.toml", given.plugin_manifest),
    ]
    if given.readme is not None:
        texts.append((README_MEDIA_TYPE, README_TITLE, given.readme))
    layers = (
        Descriptor(
            PAYLOAD_MEDIA_TYPE,
            f"sha256:{payload_sha256}",
            given.payload.stat().st_size,
            {TITLE: f"{given.stem}.wasm"},
        ),
        *(
            Descriptor(media_type, sha256_digest(data), len(data), {TITLE: title})
            for media_type, title, data in texts
        ),
    )
    config_raw = _compact(_config(given, layers))
    config = Descriptor.of(CONFIG_MEDIA_TYPE, config_raw)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": config.document(),
        "layers": [layer.document() for layer in layers],
        "annotations": _annotations(given),
        "artifactType": ARTIFACT_TYPE,
    }
    _check_schema(document)
    manifest_raw = _compact(document)
    return BuiltArtifact(
        manifest_raw=manifest_raw,
        digest=sha256_digest(manifest_raw),
        config_raw=config_raw,
        config=config,
        layers=layers,
        sources={
            **{sha256_digest(data): data for _, _, data in texts},
            config.digest: config_raw,
            layers[0].digest: given.payload,
        },
    )


def push_artifact(
    repository: Writable,
    built: BuiltArtifact,
    sources: Mapping[str, Path | bytes],
    *,
    tags: Sequence[str],
    force: bool,
    progress: Progress | None = None,
) -> Descriptor:
    """Put an artifact into a repository, under its tags; blobs that are there stay.

    Pushing the same again changes nothing; see ``release``.

    Args:
        repository: Where to.
        built: What.
        sources: The bytes by digest; usually ``built.sources``.
        tags: Versions (``+`` or ``_``) and channels.
        force: Let a version's tag name other bytes than before.
        progress: Gets the bytes of each piece that went over.

    Raises:
        ReferenceFormatError: A tag is malformed.
        TagMovedError: A version's tag names other bytes, and ``force`` was not given; nothing
            was pushed then, unless another publisher came first in that moment.
        RegistryError: As of the repository.
        OSError: A source can't be read.
    """

    def send(blobs: Sequence[Descriptor]) -> None:
        _push_blobs(repository, blobs, sources, progress)

    release(repository, Manifest.parse(built.manifest_raw), send, tags=tags, force=force)
    return Descriptor(MANIFEST_MEDIA_TYPE, built.digest, len(built.manifest_raw))


def _push_blobs(
    repository: Writable,
    blobs: Sequence[Descriptor],
    sources: Mapping[str, Path | bytes],
    progress: Progress | None,
) -> None:
    """Put blobs there; those that are there stay."""
    counted = None if progress is None else one_at_a_time(progress)

    def push(blob: Descriptor) -> None:
        if not repository.has_blob(blob) and not repository.mount_blob(blob):
            repository.push_blob(blob, sources[blob.digest], progress=counted)

    send_each(repository, blobs, push)


def _config(given: ArtifactInput, layers: Sequence[Descriptor]) -> dict[str, object]:
    """The CNCF wasm config, version 0."""
    config: dict[str, object] = {
        "created": _rfc3339(given.created),
        "author": ", ".join(given.authors),
        "architecture": "wasm",
        "os": given.wasi,
        "layerDigests": [layer.digest for layer in layers],
    }
    if given.wasi == "wasip2":
        config["component"] = {"imports": list(given.imports), "exports": list(given.exports)}
    return config


def _annotations(given: ArtifactInput) -> dict[str, str]:
    said = {
        f"{_OCI}.title": given.name,
        f"{_OCI}.version": given.version,
        f"{_OCI}.created": _rfc3339(given.created),
        f"{_OCI}.description": given.description,
        f"{_OCI}.licenses": given.license,
        f"{_OCI}.authors": ", ".join(given.authors),
        f"{_OCI}.source": given.source,
        f"{_OCI}.url": given.homepage,
        f"{_OCI}.revision": given.revision,
        f"{_PLUGIN}.id": given.plugin_id,
        f"{_PLUGIN}.abi": str(given.abi),
        f"{_PLUGIN}.capabilities": ",".join(given.capabilities),
        f"{_PLUGIN}.min-host": given.min_host,
    }
    return {key: text for key, text in said.items() if text}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _compact(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _check_schema(document: dict[str, object]) -> None:
    import oras.schemas
    from jsonschema import ValidationError, validate

    try:
        validate(document, schema=oras.schemas.manifest)
    except ValidationError as error:
        message = f"cannot build artifact: {error.message}"
        raise ContentError(message) from error
