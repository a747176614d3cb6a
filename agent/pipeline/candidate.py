"""What a repository offers, fetched as far as needed to believe it: head first, code last.

Manifest and signature are verified against the payload's *descriptor*: the SHA-256 that the
signature covers is layer 0's digest, so code is fetched only once it is believed (contract §4).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry
from agent.context import Context
from agent.errors import FormatError, PolicyError
from agent.model import FirstSeen, Generation
from agent.pipeline.admission import refusal
from agent.pipeline.plan import Offer
from agent.pipeline.subjects import subject_of
from sandbox.manifest import PluginManifest

if TYPE_CHECKING:
    import trust

MAX_MANIFEST_BYTES = 64 * 1024
MAX_SIGNATURE_BYTES = 1024
MAX_README_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that is believed, wherever it came from; nothing of it was run or installed.

    Attributes:
        release: 64 hex.
        payload_sha256: 64 hex.
        key_id: The key that signed it.
        digest: The OCI manifest's; None for one that came without a registry.
        repository: Where it came from; None for one that came without a registry.
    """

    manifest: PluginManifest
    manifest_bytes: bytes
    signature: bytes
    release: str
    payload_sha256: str
    key_id: str
    digest: str | None = None
    repository: str | None = None

    @property
    def stem(self) -> str:
        """What its files are called."""
        return self.manifest.stem

    def generation(self, *, installed_at: float) -> Generation:
        """What it is in the plugin tree once it is sealed; not committed."""
        return Generation(
            plugin_id=self.manifest.id,
            version=self.manifest.version,
            release=self.release,
            stem=self.stem,
            payload_sha256=self.payload_sha256,
            key_id=self.key_id,
            capabilities=tuple(self.manifest.capabilities),
            digest=self.digest,
            repository=self.repository,
            installed_at=installed_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(Candidate):
    """A candidate that a repository offers: its head was fetched and judged, its code was not."""

    offer: Offer
    artifact: registry.PluginArtifact


@dataclass(frozen=True, slots=True)
class Head:
    """The small files of an artifact, read and checked for shape, not yet judged."""

    artifact: registry.PluginArtifact
    manifest: PluginManifest
    manifest_bytes: bytes
    signature: bytes

    @property
    def subject(self) -> "trust.Subject":
        """What the signature must speak of; the payload by its descriptor."""
        digest = self.artifact.payload.digest.removeprefix("sha256:")
        return subject_of(self.manifest, self.manifest_bytes, digest)


def read_head(
    context: Context,
    repository: registry.Readable,
    artifact: registry.PluginArtifact,
) -> Head:
    """Fetch an artifact's ``.toml`` and ``.sig``, and parse the manifest.

    Raises:
        sandbox.SandboxError: The plugin manifest is malformed, or needs another host.
        registry.RegistryError: As the registry answers.
    """
    plugin_bytes = repository.read_blob(artifact.plugin_manifest, max_bytes=MAX_MANIFEST_BYTES)
    signature = repository.read_blob(artifact.signature, max_bytes=MAX_SIGNATURE_BYTES)
    where = _where(repository.location, artifact)
    plugin = context.parse_manifest(plugin_bytes, where)
    return Head(artifact, plugin, plugin_bytes, signature)


def check_head(location: registry.Location, offer: Offer, head: Head) -> None:
    """Check that the signed manifest is what the reference and the titles say.

    Raises:
        FormatError: Id, version or stem differ.
    """
    plugin, artifact = head.manifest, head.artifact
    where = _where(location, artifact)
    if plugin.id != location.plugin_id:
        raise FormatError(
            f"cannot use {where}: its signed id is {plugin.id}, expected {location.plugin_id}"
        )
    if offer.version is not None and plugin.version != offer.version:
        raise FormatError(
            f"cannot use {where}: its signed version is {plugin.version}, expected {offer.version}"
        )
    if artifact.stem is not None and artifact.stem != plugin.stem:
        raise FormatError(
            f"cannot use {where}: its titles say {artifact.stem}, its manifest {plugin.stem}"
        )


def _where(location: registry.Location, artifact: registry.PluginArtifact) -> str:
    return f"{location.text}@{artifact.manifest.digest[:19]}…"


def judge_head(
    context: Context, repository: registry.Repository, offer: Offer, head: Head
) -> Offered:
    """Verify a head against the trust store.

    Raises:
        TrustError: It is refused; the message names the finding.
    """
    import trust

    subject = head.subject
    evidence = trust.Evidence(signature=head.signature, repository=repository.location.text)
    verdict = context.judge(subject, evidence)
    if not verdict.accepted:
        raise refusal(f"{head.manifest.id} {head.manifest.version}", verdict)
    return Offered(
        manifest=head.manifest,
        manifest_bytes=head.manifest_bytes,
        signature=head.signature,
        release=subject.release,
        payload_sha256=subject.payload_sha256,
        key_id=verdict.key_id or "",
        digest=head.artifact.manifest.digest,
        repository=repository.location.text,
        offer=offer,
        artifact=head.artifact,
    )


def has_moved(context: Context, location: registry.Location, offer: Offer, digest: str) -> bool:
    """Whether a version's tag names another manifest than the one that was believed first there.

    Raises:
        PolicyError: It does, and no release that is kept here came by that one: whether this
            is the same release signed anew can't be said.
    """
    first = _first_seen(context, location, offer).digest
    if first in (None, digest):
        return False
    if _first_release(context, location, offer) is None:
        raise _moved(context, location, offer, digest)
    return True


def refuse_other_release(
    context: Context, location: registry.Location, offer: Offer, head: Head
) -> None:
    """Refuse what a moved tag names, unless it is the release it named before, signed anew.

    Raises:
        PolicyError: It is another.
    """
    if head.subject.release != _first_release(context, location, offer):
        raise _moved(context, location, offer, head.artifact.manifest.digest)


def _first_seen(context: Context, location: registry.Location, offer: Offer) -> FirstSeen:
    return context.ledger.seen(location.text).get(str(offer.tag), FirstSeen(at=0))


def _first_release(context: Context, location: registry.Location, offer: Offer) -> str | None:
    """The release that a tag named first; told by what is kept here where it was not noted."""
    first = _first_seen(context, location, offer)
    kept = context.ledger.generations(location.plugin_id)
    return first.release or next((g.release for g in kept if g.digest == first.digest), None)


def _moved(context: Context, location: registry.Location, offer: Offer, digest: str) -> PolicyError:
    first = _first_seen(context, location, offer).digest
    return PolicyError(
        f"cannot use {location.text}:{offer.tag}: the tag was moved, got {digest}, "
        f"first seen {first}",
        reason="moved-tag",
        hint=f"if you trust the new bytes, name them: agent pull {location.text}@{digest}",
    )


def refuse_large_module(context: Context, artifact: registry.PluginArtifact) -> None:
    """Refuse a module that this host would not compile, by its descriptor: nothing is fetched.

    Raises:
        FormatError: It is larger than ``sandbox.max_module_bytes``.
    """
    size, longest = artifact.payload.size_bytes, context.config.sandbox.max_module_bytes
    if size > longest:
        raise FormatError(
            f"cannot use {artifact.manifest.digest}: its module has {size} bytes, expected "
            f"≤ {longest}",
            hint="raise sandbox.max_module_bytes, if this host is to run it",
        )
