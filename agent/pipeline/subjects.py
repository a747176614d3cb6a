"""From bytes to what a signature must speak of (contract §3)."""

import hashlib
from typing import TYPE_CHECKING

from sandbox.manifest import PluginManifest

if TYPE_CHECKING:
    import trust


def subject_of(
    manifest: PluginManifest, manifest_bytes: bytes, payload: bytes | str
) -> "trust.Subject":
    """The subject of a release.

    Args:
        manifest: The parsed manifest: its id and version.
        manifest_bytes: The ``.toml``.
        payload: The ``.wasm`` bytes, or their SHA-256 as 64 hex.
    """
    import trust

    return trust.Subject(
        id=manifest.id,
        version=manifest.version,
        manifest_sha256=hashlib.sha256(manifest_bytes).hexdigest(),
        payload_sha256=payload if isinstance(payload, str) else hashlib.sha256(payload).hexdigest(),
    )
