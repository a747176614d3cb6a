"""The plugin's shape in a registry: which layer is what. Pure. Contract §4."""

import re
from dataclasses import dataclass

from registry.errors import ContentError, UnsignedError
from registry.model import Descriptor, Manifest

ARTIFACT_TYPE = "application/vnd.stack-composer.plugin.v1"
CONFIG_MEDIA_TYPE = "application/vnd.wasm.config.v0+json"
PAYLOAD_MEDIA_TYPE = "application/wasm"
SIGNATURE_MEDIA_TYPE = "application/vnd.stack-composer.plugin.signature.v1+hex"
PLUGIN_MANIFEST_MEDIA_TYPE = "application/vnd.stack-composer.plugin.manifest.v1+toml"
README_MEDIA_TYPE = "text/markdown"
TITLE = "org.opencontainers.image.title"
README_TITLE = "README.md"
DEFAULT_MAX_ARTIFACT_BYTES = 2 << 30
# What older tools call the code.
_PAYLOAD_MEDIA_TYPES = (
    PAYLOAD_MEDIA_TYPE,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
)
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class PluginArtifact:
    """A manifest whose layers have the plugin's shape; nothing is verified by that.

    Attributes:
        manifest: The OCI manifest.
        payload: The code, layer 0.
        signature: The ``.sig``.
        plugin_manifest: The ``.toml``.
        readme: The ``README.md``, if there is one.
        stem: What the titles call the plugin; ``None`` where there are no titles.
    """

    manifest: Manifest
    payload: Descriptor
    signature: Descriptor
    plugin_manifest: Descriptor
    readme: Descriptor | None
    stem: str | None


def read_artifact(
    manifest: Manifest, *, max_artifact_bytes: int = DEFAULT_MAX_ARTIFACT_BYTES
) -> PluginArtifact:
    """Find the plugin's parts among a manifest's layers, by media type.

    Layers of types that are not the plugin's are ignored, so that later publishers can add some.

    Args:
        manifest: As fetched.
        max_artifact_bytes: How large config and layers may be together.

    Raises:
        ContentError: It is another kind of artifact; a part is missing, is there twice, or is
            not titled as it must be; the code is not layer 0; it is too large.
        UnsignedError: The part that is missing is the signature.
    """
    what = f"artifact {manifest.digest}"
    if manifest.artifact_type != ARTIFACT_TYPE:
        message = (
            f"cannot use {what}: got artifactType {manifest.artifact_type}, "
            f"expected {ARTIFACT_TYPE}"
        )
        raise ContentError(message)
    size_bytes = sum(part.size_bytes for part in (manifest.config, *manifest.layers))
    if size_bytes > max_artifact_bytes:
        message = f"cannot use {what}: got {size_bytes} bytes, expected ≤ {max_artifact_bytes}"
        raise ContentError(message)
    payload = _only(manifest, _PAYLOAD_MEDIA_TYPES, what)
    if payload is None or payload is not manifest.layers[0]:
        message = f"cannot use {what}: expected {PAYLOAD_MEDIA_TYPE} as layer 0"
        raise ContentError(message)
    signature = _only(manifest, (SIGNATURE_MEDIA_TYPE,), what)
    if signature is None:
        message = f"cannot use {what}: it is unsigned, no layer is a {SIGNATURE_MEDIA_TYPE}"
        raise UnsignedError(message)
    plugin_manifest = _required(manifest, PLUGIN_MANIFEST_MEDIA_TYPE, what)
    readme = _only(manifest, (README_MEDIA_TYPE,), what)
    if readme is not None and readme.annotations.get(TITLE, README_TITLE) != README_TITLE:
        message = f"cannot use {what}: its text/markdown layer is not titled {README_TITLE}"
        raise ContentError(message)
    stems = {
        stem
        for part, suffix in ((payload, ".wasm"), (signature, ".sig"), (plugin_manifest, ".toml"))
        if (stem := _stem(part, suffix, what)) is not None
    }
    if len(stems) > 1:
        message = f"cannot use {what}: its layers are titled for {' and '.join(sorted(stems))}"
        raise ContentError(message)
    return PluginArtifact(
        manifest=manifest,
        payload=payload,
        signature=signature,
        plugin_manifest=plugin_manifest,
        readme=readme,
        stem=next(iter(stems), None),
    )


def is_stem(text: str) -> bool:
    """Say whether a text can be the common name of a plugin's files."""
    return _STEM.fullmatch(text) is not None


def _required(manifest: Manifest, media_type: str, what: str) -> Descriptor:
    part = _only(manifest, (media_type,), what)
    if part is None:
        message = f"cannot use {what}: it has no layer of type {media_type}"
        raise ContentError(message)
    return part


def _only(manifest: Manifest, media_types: tuple[str, ...], what: str) -> Descriptor | None:
    found = [layer for layer in manifest.layers if layer.media_type in media_types]
    if len(found) > 1:
        message = f"cannot use {what}: got {len(found)} layers of type {media_types[0]}, expected 1"
        raise ContentError(message)
    return found[0] if found else None


def _stem(part: Descriptor, suffix: str, what: str) -> str | None:
    title = part.annotations.get(TITLE)
    if title is None:
        return None
    stem = title.removesuffix(suffix)
    if not title.endswith(suffix) or not is_stem(stem):
        message = f"cannot use {what}: got title {title[:80]!r}, expected <stem>{suffix}"
        raise ContentError(message)
    return stem
