"""The tree of what hangs on a manifest: each referrer fetched, and believed by its own bytes.

A list of referrers is hearsay: whoever may push can write a fallback index. What a manifest refers
to is what it says itself, under its digest; so nothing can hang on itself, however long the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from registry.errors import ContentError, NotFoundError
from registry.model import Descriptor, Manifest
from registry.referrers import MAX_REFERRERS
from registry.repository import Readable

_MAX_DEPTH = 8
# All of them are in memory at once; a signature's manifest has 1 KiB.
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Attached:
    """One referrer.

    Attributes:
        descriptor: As it was listed.
        manifest: As it was fetched; ``None`` where there is a problem.
        problem: Why it can't be used.
        referrers: What hangs on it in turn.
    """

    descriptor: Descriptor
    manifest: Manifest | None = None
    problem: str | None = None
    referrers: tuple["Attached", ...] = ()

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
