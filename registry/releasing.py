"""The order in which a release comes into a repository: blobs, versions, channels."""

import functools
from collections.abc import Callable, Sequence

from registry.model import Descriptor, Manifest
from registry.parallel import run_all
from registry.repository import Writable, check_unmoved
from registry.version_tags import parse_tag, tag_to_version


def release(
    repository: Writable,
    manifest: Manifest,
    send: Callable[[Sequence[Descriptor]], None],
    *,
    tags: Sequence[str],
    force: bool,
) -> None:
    """Put a manifest into a repository, under its tags, after its blobs.

    Version tags come before channels, so that a channel never names a release that its version
    doesn't.

    Args:
        repository: Where to.
        manifest: What.
        send: Puts those of its blobs into the repository that are not there.
        tags: Versions (``+`` or ``_``) and channels.
        force: Let a version's tag name other bytes than before.

    Raises:
        ReferenceFormatError: A tag is malformed.
        TagMovedError: A version's tag names other bytes, and ``force`` was not given; nothing
            was pushed then, unless another publisher came first in that moment.
        RegistryError: As of the repository, and of ``send``.
    """
    names = [parse_tag(tag) for tag in tags]
    versions = [name for name in names if tag_to_version(name) is not None]
    if not force:
        require_unmoved(repository, manifest.digest, versions)
    send(manifest.blobs)
    for name in versions:
        repository.push_manifest(manifest.raw, tag=name, move=force)
    for name in names:
        if name not in versions:
            repository.push_manifest(manifest.raw, tag=name)
    if not names:
        repository.push_manifest(manifest.raw, tag=None)


def send_each(
    repository: Writable, blobs: Sequence[Descriptor], send: Callable[[Descriptor], None]
) -> None:
    """Send blobs: up to four at once, small ones first; or in turn, where their order counts.

    Args:
        repository: Where to.
        blobs: Each once.
        send: Puts one of them there.

    Raises:
        BaseException: As of ``send``: the first that failed; the others are given up.
    """
    if repository.takes_in_turn:
        for blob in blobs:
            send(blob)
        return
    small_first = sorted(blobs, key=lambda blob: blob.size_bytes)
    run_all([functools.partial(send, blob) for blob in small_first])


def require_unmoved(repository: Writable, digest: str, versions: Sequence[str]) -> None:
    """Refuse to put a manifest where one of its versions names another.

    Raises:
        TagMovedError: It does.
        RegistryError: As of the repository.
    """
    for name in versions:
        if (named := repository.tagged(name)) is not None:
            check_unmoved(repository.location, name, named=named.digest, digest=digest)
