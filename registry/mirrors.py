"""Mirrors in front of a registry: asked in order for what a digest names, and never believed.

A pull-through registry, Dragonfly or Spegel. The digest is the judge of what they give. What a tag
names is the registry's own to say; a mirror's word counts only where that can't be reached.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from registry.errors import NetworkError, NotFoundError, ReferenceFormatError, RegistryError
from registry.kept import KeptConnections
from registry.model import Descriptor, Manifest
from registry.reference import HttpLocation, parse_location
from registry.repository import Progress, Repository

_LOG = logging.getLogger("stack_composer.registry")
T = TypeVar("T")


def mirror_of(location: HttpLocation, mirror: str) -> HttpLocation:
    """Where a mirror has a repository.

    Args:
        location: The repository.
        mirror: ``HOST[:PORT][/PATH]``; the repository's name follows on it.

    Raises:
        ReferenceFormatError: It is malformed.
    """
    found = parse_location(f"{mirror}/{location.name}", Path("/"))
    if not isinstance(found, HttpLocation):
        message = f"cannot use mirror {mirror!r}: expected HOST[:PORT][/PATH]"
        raise ReferenceFormatError(message)
    return found


class MirroredRepository:
    """See ``Repository``; writes go to the registry alone.

    Args:
        origin: The repository itself.
        mirrors: The same one at each mirror; opened when it is first needed.
        connections: Theirs; they know which mirrors were found absent a moment ago.
        owns_connections: They end with this.
    """

    def __init__(
        self,
        origin: Repository,
        mirrors: Sequence[tuple[HttpLocation, Callable[[], Repository]]],
        connections: KeptConnections,
        *,
        owns_connections: bool,
    ) -> None:
        self._origin = origin
        self._mirrors = mirrors
        self._connections = connections
        self._owns_connections = owns_connections
        self._opened: dict[str, Repository] = {}

    @property
    def location(self) -> HttpLocation:
        """The registry's, not a mirror's."""
        location = self._origin.location
        if not isinstance(location, HttpLocation):
            raise TypeError("only registries have mirrors")
        return location

    @property
    def takes_in_turn(self) -> bool:
        """Say no: a registry takes several."""
        return False

    def resolve(self, tag: str) -> Descriptor:
        """Ask the registry what a tag names; mirrors where it can't be reached."""
        return self._said(lambda repository: repository.resolve(tag))

    def tagged(self, tag: str) -> Descriptor | None:
        """Ask the registry what a tag is set to."""
        return self._origin.tagged(tag)

    def manifest(self, reference: str) -> Manifest:
        """Fetch a manifest by its digest from a mirror; the registry says which one a tag means."""
        digest = reference if ":" in reference else self.resolve(reference).digest
        return self._given(lambda repository: repository.manifest(digest))

    def read_blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Fetch a small blob into memory, verified."""
        return self._given(lambda repository: repository.read_blob(descriptor, max_bytes=max_bytes))

    def fetch_blob(
        self, descriptor: Descriptor, destination: Path, *, progress: Progress | None = None
    ) -> None:
        """Fetch a blob to a file, which appears whole and verified or not at all."""
        self._given(
            lambda repository: repository.fetch_blob(descriptor, destination, progress=progress)
        )

    def tags(self) -> tuple[str, ...]:
        """List the registry's tags; a mirror's where it can't be reached."""
        return self._said(lambda repository: repository.tags())

    def referrers(self, digest: str, *, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Ask the registry what hangs on a manifest; mirrors where it can't be reached."""
        return self._said(
            lambda repository: repository.referrers(digest, artifact_type=artifact_type)
        )

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Ask the registry whether the blob is there."""
        return self._origin.has_blob(descriptor)

    def mount_blob(self, descriptor: Descriptor) -> bool:
        """Have the registry take a blob over from a sibling."""
        return self._origin.mount_blob(descriptor)

    def push_blob(
        self, descriptor: Descriptor, source: Path | bytes, *, progress: Progress | None = None
    ) -> None:
        """Upload a blob to the registry."""
        self._origin.push_blob(descriptor, source, progress=progress)

    def push_manifest(self, raw: bytes, *, tag: str | None, move: bool = True) -> Descriptor:
        """Store a manifest in the registry and point a tag at it."""
        return self._origin.push_manifest(raw, tag=tag, move=move)

    def close(self) -> None:
        """Close idle connections, unless others share them."""
        if self._owns_connections:
            self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _given(self, use: Callable[[Repository], T]) -> T:
        """Take from the first mirror that has it, else from the registry."""
        for location, opens in self._mirrors:
            try:
                return use(self._open(location, opens))
            except NotFoundError:
                continue
            except RegistryError as error:
                self._leave(location, error)
        return use(self._origin)

    def _said(self, use: Callable[[Repository], T]) -> T:
        """Take the registry's word; a mirror's where the registry can't be reached."""
        try:
            return use(self._origin)
        except NetworkError as unreachable:
            for location, opens in self._mirrors:
                try:
                    return use(self._open(location, opens))
                except RegistryError as error:
                    self._leave(location, error)
            raise unreachable  # noqa: TRY201 - the registry's answer counts, not a mirror's

    def _open(self, location: HttpLocation, opens: Callable[[], Repository]) -> Repository:
        if self._connections.is_absent(location.host):
            message = f"cannot find mirror {location.host}: it was not there a moment ago"
            raise NotFoundError(message)
        if location.text not in self._opened:
            self._opened[location.text] = opens()
        return self._opened[location.text]

    def _leave(self, location: HttpLocation, error: RegistryError) -> None:
        """Tell why a mirror was passed over; one that is not there is not asked for a while."""
        if self._connections.is_absent(location.host):
            return
        if isinstance(error, NetworkError):
            self._connections.set_absent(location.host)
        _LOG.warning("mirror %s of %s: %s", location.host, self.location.host, error)
