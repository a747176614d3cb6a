"""What a repository can do, whether it is behind HTTP or in a folder."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from registry.errors import TagMovedError
from registry.model import Descriptor, Manifest
from registry.reference import Location

Progress = Callable[[int], None]
"""Gets the number of bytes of each piece that went over, never the sum.

A negative one takes back what has to come again; what a cache has counts as if it came.
"""


def check_unmoved(location: Location, tag: str, *, named: str, digest: str) -> None:
    """Refuse to let a released version's tag name other bytes.

    Args:
        location: The repository.
        tag: The version's tag.
        named: The digest it names now.
        digest: The digest it is about to name.

    Raises:
        TagMovedError: They differ.
    """
    if named != digest:
        message = (
            f"cannot push {digest} to {location.text}:{tag}: it names {named}, and a released "
            "version stays what it is; push a new version, or --force"
        )
        raise TagMovedError(message)


class Files(Protocol):
    """The durable file operations that this room needs; injected, so that faults can be."""

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents, if missing."""
        ...

    def temporary(
        self, folder: Path, *, mode: int = 0o600
    ) -> AbstractContextManager[tuple[BinaryIO, Path]]:
        """Open a new file in ``folder`` that is gone at the end unless published."""
        ...

    def publish(self, temporary: Path, final: Path) -> None:
        """Make a temporary file durable under its final name."""
        ...

    def write_atomic(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Replace a file so that a reader or a crash sees the old or the new."""
        ...

    def lock(self, path: Path, *, timeout_s: float) -> AbstractContextManager[None]:
        """Hold a lock between processes; ``TimeoutError`` if it can't be had."""
        ...


class Readable(Protocol):
    """Where manifests and blobs come from; every method may raise ``RegistryError``.

    ``NotFoundError`` says that the thing asked for isn't there, ``ContentError`` that it is not
    what it should be; over HTTP also ``AuthenticationError`` and ``NetworkError``.
    """

    @property
    def location(self) -> Location:
        """Where it is."""
        ...

    def manifest(self, reference: str) -> Manifest:
        """Fetch the manifest at a tag or a ``sha256:…``; its bytes have the digest asked for."""
        ...

    def read_blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Fetch a small blob into memory, verified; larger than ``max_bytes`` is refused."""
        ...

    def fetch_blob(
        self, descriptor: Descriptor, destination: Path, *, progress: Progress | None = None
    ) -> None:
        """Fetch a blob to a file, which appears whole and verified or not at all."""
        ...

    def referrers(self, digest: str, *, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List what says that it refers to a manifest, whether that is here or not.

        Nothing is proven by it: a referrer's own manifest names its subject. More than 1,000
        are refused.

        Args:
            digest: The manifest's.
            artifact_type: List those of this type alone.
        """
        ...


class Writable(Protocol):
    """Where manifests and blobs go to; every method may raise ``RegistryError``."""

    @property
    def location(self) -> Location:
        """Where it is."""
        ...

    @property
    def takes_in_turn(self) -> bool:
        """Whether it wants blobs one by one, as their order is part of what comes of them."""
        ...

    def tagged(self, tag: str) -> Descriptor | None:
        """Say what a tag is set to, for one who is about to set it; ``None``: nothing."""
        ...

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether the blob is there."""
        ...

    def mount_blob(self, descriptor: Descriptor) -> bool:
        """Take a blob over from a sibling on the same registry, without a byte of it moving.

        Says whether that could be done; where it could not, the blob has to be pushed.
        """
        ...

    def push_blob(
        self, descriptor: Descriptor, source: Path | bytes, *, progress: Progress | None = None
    ) -> None:
        """Store a blob, verified on the way."""
        ...

    def push_manifest(self, raw: bytes, *, tag: str | None, move: bool = True) -> Descriptor:
        """Store a manifest, once its blobs are there, and point a tag at it.

        One with a ``subject`` is listed among that one's referrers from then on. With
        ``move=False`` a tag that names other bytes is left alone: ``TagMovedError``.
        """
        ...


class Repository(Readable, Writable, Protocol):
    """One plugin's releases, to be read and written. A context manager."""

    def resolve(self, tag: str) -> Descriptor:
        """Say what a tag names, without fetching it. What it says is proven by ``manifest``."""
        ...

    def tags(self) -> tuple[str, ...]:
        """List the tags in no order, without those that only hold referrers."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
