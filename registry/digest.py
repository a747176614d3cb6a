"""Digests, and the copy that believes none: size, SHA-256 and end of input are checked."""

import hashlib
import re
from collections.abc import Callable
from typing import Protocol

from registry.errors import ContentError

CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Source(Protocol):
    """Where bytes come from: an open file, or the body of a response."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none means the end."""
        ...


class Sink(Protocol):
    """Where bytes go to."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""
        ...


def parse_digest(text: str) -> str:
    """Return ``text`` if it is ``sha256:`` and 64 lowercase hex characters.

    Raises:
        ContentError: It is anything else. Other algorithms of the OCI image specification
            ("Digests") are refused: nothing here could check them.
    """
    if not _DIGEST.fullmatch(text):
        message = f"cannot use digest {text[:80]!r}: expected sha256:<64 lowercase hex>"
        raise ContentError(message)
    return text


def sha256_digest(data: bytes) -> str:
    """Return the digest of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_bytes(data: bytes, digest: str, size_bytes: int, what: str) -> bytes:
    """Return ``data`` if it has this size and digest.

    Args:
        data: The bytes, all of them.
        digest: ``sha256:<hex>`` as promised.
        size_bytes: The size as promised.
        what: How messages call these bytes.

    Raises:
        ContentError: Size or SHA-256 differ.
    """
    if len(data) != size_bytes:
        message = f"cannot accept {what}: got {len(data)} bytes, expected {size_bytes}"
        raise ContentError(message)
    if (got := sha256_digest(data)) != digest:
        message = f"cannot accept {what}: its bytes are {got}, expected {digest}"
        raise ContentError(message)
    return data


def copy_verified(
    source: Source,
    sink: Sink,
    *,
    digest: str,
    size_bytes: int,
    what: str,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Copy a blob in pieces of at most 1 MiB and check it on the way.

    What was written before an error is the caller's to throw away; no more than ``size_bytes``
    are ever written.

    Args:
        source: Read until its end.
        sink: Gets the bytes.
        digest: ``sha256:<hex>`` as promised.
        size_bytes: The size as promised.
        what: For messages.
        progress: Called with the number of bytes of each piece.

    Raises:
        ContentError: The input ends early, goes on after its size, or has another SHA-256.
    """
    sha256 = hashlib.sha256()
    missing = size_bytes
    while missing:
        piece = source.read(min(CHUNK_BYTES, missing))
        if not piece:
            message = (
                f"cannot accept {what}: got {size_bytes - missing} bytes, expected {size_bytes}"
            )
            raise ContentError(message)
        sha256.update(piece)
        sink.write(piece)
        missing -= len(piece)
        if progress is not None:
            progress(len(piece))
    if source.read(1):
        message = f"cannot accept {what}: got more than the {size_bytes} bytes it should be"
        raise ContentError(message)
    if (got := "sha256:" + sha256.hexdigest()) != digest:
        message = f"cannot accept {what}: its bytes are {got}"
        raise ContentError(message)
