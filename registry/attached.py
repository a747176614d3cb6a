"""The tree of what hangs on a manifest: each referrer fetched, and believed by its own bytes.

A list of referrers is hearsay: whoever may push can write a fallback index. What a manifest refers
to is what it says itself, under its digest; so nothing can hang on itself, however long the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from registry.errors import ContentError, NotFoundError
from registry.model import Descriptor, Manifest
from registry.referrers import MAX_REFERRERS, fallback_tag, kind_of
from registry.repository import Readable, Repository

_MAX_DEPTH = 8
# All of them are in memory at once; a signature's manifest has 1 KiB.
_MAX_BYTES = 16 << 20
_COSIGN_SUFFIXES = (".sig", ".att", ".sbom")


@dataclass(frozen=True, slots=True)
class Attached:
    """One referrer.

    Attributes:
        descriptor: As it was listed.
        manifest: As it was fetched; ``None`` where there is a problem.
        problem: Why it can't be used.
        referrers: What hangs on it in turn.
        tag: Where it was found by its name alone: it says nothing of what it refers to.
    """

    descriptor: Descriptor
    manifest: Manifest | None = None
    problem: str | None = None
    referrers: tuple["Attached", ...] = ()
    tag: str | None = None

    @property
    def kind(self) -> str:
        """What it is: its type, or that of what it holds; as it was listed where it is not here."""
        if self.manifest is None:
            return self.descriptor.artifact_type or self.descriptor.media_type
        if self.tag is not None and self.manifest.layers:
            return self.manifest.layers[0].media_type
        return kind_of(self.manifest)

    def flat(self) -> Iterator["Attached"]:
        """This one and all that hang on it; each comes after the one that it refers to."""
        yield self
        for referrer in self.referrers:
            yield from referrer.flat()


def attached_to(
    repository: Readable, digest: str, *, artifact_type: str | None = None
) -> tuple[Attached, ...]:
    """Find what hangs on a manifest, and on that in turn.

    Args:
        repository: Where.
        digest: The manifest's.
        artifact_type: Those of this type alone, at each step.

    Raises:
        ContentError: They are more than 1,000 or 16 MiB in all, or more than 8 deep.
        RegistryError: As of the repository.
    """
    return _Search(repository, artifact_type).below(digest, depth=1)


def at_cosign_tags(repository: Repository, digest: str) -> tuple[Attached, ...]:
    """Find what cosign put beside a manifest before it knew referrers (until 3.0, by default).

    Args:
        repository: Where.
        digest: The manifest's.

    Raises:
        RegistryError: As of the repository.
    """
    found = []
    for suffix in _COSIGN_SUFFIXES:
        tag = fallback_tag(digest) + suffix
        try:
            descriptor = repository.resolve(tag)
        except NotFoundError:
            continue
        if descriptor.digest == digest:
            continue  # the sole manifest of a layout stands for any tag
        try:
            found.append(Attached(descriptor, repository.manifest(descriptor.digest), tag=tag))
        except (ContentError, NotFoundError) as error:
            found.append(Attached(descriptor, problem=str(error), tag=tag))
    return tuple(found)


class _Search:
    def __init__(self, repository: Readable, artifact_type: str | None) -> None:
        self._repository = repository
        self._artifact_type = artifact_type
        self._left = MAX_REFERRERS
        self._left_bytes = _MAX_BYTES

    def below(self, digest: str, *, depth: int) -> tuple[Attached, ...]:
        listed = self._repository.referrers(digest, artifact_type=self._artifact_type)
        self._left -= len(listed)
        if self._left < 0:
            raise self._refusal(f"more than {MAX_REFERRERS} manifests")
        if listed and depth > _MAX_DEPTH:
            raise self._refusal(f"it is more than {_MAX_DEPTH} deep")
        return tuple(self._attached(entry, digest, depth) for entry in listed)

    def _attached(self, entry: Descriptor, digest: str, depth: int) -> Attached:
        try:
            manifest = self._repository.manifest(entry.digest)
        except (ContentError, NotFoundError) as error:
            # One that is broken hides none of the others.
            return Attached(entry, problem=str(error))
        self._left_bytes -= len(manifest.raw)
        if self._left_bytes < 0:
            raise self._refusal(f"manifests of more than {_MAX_BYTES} bytes")
        subject = manifest.subject
        if subject is None or subject.digest != digest:
            refers = "nothing" if subject is None else subject.digest
            return Attached(entry, problem=f"it refers to {refers}")
        return Attached(entry, manifest, referrers=self.below(entry.digest, depth=depth + 1))

    def _refusal(self, why: str) -> ContentError:
        return ContentError(
            f"cannot list what is attached in {self._repository.location.text}: {why}"
        )
