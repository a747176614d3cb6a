"""Digests, and the copy that believes none: size, SHA-256 and end of input are checked."""

import hashlib
import re
from collections.abc import Callable
from typing import Protocol

from registry.errors import ContentError

_ROOM_BYTES = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Source(Protocol):
    """Where bytes come from: an open file, or the body of a response."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Put bytes into a buffer and say how many; none means the end."""
        ...


class Sink(Protocol):
    """Where bytes go to."""

    def write(self, data: memoryview, /) -> object:
        """Take all of ``data``, which is going to change after that."""
        ...


class Hash(Protocol):
    """A SHA-256 in the making, and the memory that the bytes are read into."""

    def room(self) -> memoryview:
        """Where the next bytes may be put."""
        ...

    def take(self, count: int) -> None:
        """Hash the first bytes of the room, which are not to be changed before the next."""
        ...

    def restart(self) -> None:
        """Forget what came."""
        ...

    def hexdigest(self) -> str:
        """Of all that came so far."""
        ...


class _OnTheSpot:
    """A ``Hash`` that is taken by whoever brings the bytes."""

    def __init__(self, size_bytes: int) -> None:
        self._sha256 = hashlib.sha256()
        self._room = memoryview(bytearray(min(_ROOM_BYTES, max(size_bytes, 1))))

    def room(self) -> memoryview:
        return self._room

    def take(self, count: int) -> None:
        self._sha256.update(self._room[:count])

    def restart(self) -> None:
        self._sha256 = hashlib.sha256()

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


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


class VerifiedCopy:
    """A copy of a blob in pieces of at most 1 MiB, from one source or from several in turn.

    What was written before an error is the caller's to throw away; no more than ``size_bytes``
    are ever written.

    Args:
        sink: Gets the bytes.
        digest: ``sha256:<hex>`` as promised.
        size_bytes: The size as promised.
        what: For messages.
        progress: Called with the number of bytes of each piece; a negative one takes back what
            has to come again.
        sha256: Takes the hash; ``None``: on the spot.

    Attributes:
        count: How many bytes are there.
    """

    def __init__(
        self,
        sink: Sink,
        digest: str,
        size_bytes: int,
        what: str,
        progress: Callable[[int], None] | None = None,
        sha256: Hash | None = None,
    ) -> None:
        self._sink = sink
        self._digest = digest
        self._size_bytes = size_bytes
        self._what = what
        self._progress = progress
        self._sha256 = sha256 or _OnTheSpot(size_bytes)
        self.count = 0

    def go_on_with(self, source: Source) -> None:
        """Count on what the sink holds from before: it is hashed once more, and not written.

        Args:
            source: Reads it; no more than the promised size.
        """
        while count := source.readinto(self._sha256.room()[: self._size_bytes - self.count]):
            self._take_in(count)

    def take(self, source: Source) -> None:
        """Take what is missing.

        Args:
            source: Begins where the last one broke off; read until its end.

        Raises:
            ContentError: It ends early, or goes on after its size.
        """
        size_bytes = self._size_bytes
        while self.count < size_bytes:
            room = self._sha256.room()[: size_bytes - self.count]
            count = source.readinto(room)
            if not count:
                message = (
                    f"cannot accept {self._what}: got {self.count} bytes, expected {size_bytes}"
                )
                raise ContentError(message)
            # Hashed beside the write, where there is a thread for that.
            self._take_in(count)
            self._sink.write(room[:count])
        if source.readinto(self._sha256.room()[:1]):
            message = (
                f"cannot accept {self._what}: got more than the {size_bytes} bytes it should be"
            )
            raise ContentError(message)

    def restart(self) -> None:
        """Begin anew; the caller has emptied the sink."""
        self._sha256.restart()
        if self._progress is not None and self.count:
            self._progress(-self.count)
        self.count = 0

    def _take_in(self, count: int) -> None:
        self._sha256.take(count)
        self.count += count
        if self._progress is not None:
            self._progress(count)

    @property
    def is_right(self) -> bool:
        """Whether all that was promised is there."""
        return f"sha256:{self._sha256.hexdigest()}" == self._digest

    def check(self) -> None:
        """Require it.

        Raises:
            ContentError: The bytes have another SHA-256.
        """
        if not self.is_right:
            got = f"sha256:{self._sha256.hexdigest()}"
            message = f"cannot accept {self._what}: its bytes are {got}"
            raise ContentError(message)


def copy_verified(
    source: Source,
    sink: Sink,
    *,
    digest: str,
    size_bytes: int,
    what: str,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Copy a blob from one source and check it on the way; see ``VerifiedCopy``.

    Raises:
        ContentError: The input ends early, goes on after its size, or has another SHA-256.
    """
    copy = VerifiedCopy(sink, digest, size_bytes, what, progress)
    copy.take(source)
    copy.check()
