"""Fetching a blob over links that break: what came stays, the rest is asked for by Range.

RFC 9110, §14. The SHA-256 is taken on the way and covers what came before a break.
"""

import io
import re
from http import HTTPStatus
from typing import BinaryIO

from registry.digest import Source, VerifiedCopy
from registry.errors import ContentError, NetworkError
from registry.exchange import Reply
from registry.hashing import SideHash
from registry.model import Descriptor
from registry.repository import Progress
from registry.transport import Transport
from registry.writeback import EarlyWriteback

# A connection that brought less has not got on: a few of those in a row, and it is given up.
_GETTING_ON_BYTES = 64 << 10
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


def download(
    transport: Transport,
    path: str,
    descriptor: Descriptor,
    file: BinaryIO,
    *,
    what: str,
    progress: Progress | None,
    begun: Source | None = None,
) -> None:
    """Fetch a blob into an open file.

    Args:
        transport: To the registry.
        path: The blob's.
        descriptor: What must come.
        file: Gets the bytes.
        what: How messages call it.
        progress: Called with the number of bytes of each piece; a negative one takes back what
            has to come again.
        begun: The same file, if it holds the beginning of them from before; ``None``: it is empty.

    Raises:
        ContentError: Other bytes came, or more or fewer.
        NetworkError: It broke off too often without getting on, or took too long.
        RegistryError: See ``Transport.request``.
    """
    size_bytes = descriptor.size_bytes
    with SideHash(size_bytes) as sha256, transport.operation(size_bytes):
        sink = file if isinstance(file, io.BytesIO) else EarlyWriteback(file)
        copy = VerifiedCopy(sink, descriptor.digest, size_bytes, what, progress, sha256)
        if begun is not None:
            copy.go_on_with(begun)
        failures, is_resumed, resumes = 0, copy.count > 0, True
        while True:
            start = copy.count if resumes else 0
            is_resumed |= start > 0
            # All of it can be there already, from before.
            if not start == size_bytes > 0:
                try:
                    _fetch(transport, path, file, copy, start, size_bytes, what)
                except _BrokenOffError:
                    if copy.count != size_bytes:
                        failures = failures + 1 if copy.count - start < _GETTING_ON_BYTES else 1
                        if failures >= transport.attempts:
                            raise
                        transport.pause(path, failures)
                        continue
            if is_resumed and resumes and not copy.is_right:
                # The parts do not belong together: once more, as a whole.
                resumes = False
                continue
            copy.check()
            file.truncate()
            return


def _fetch(
    transport: Transport,
    path: str,
    file: BinaryIO,
    copy: VerifiedCopy,
    start: int,
    size_bytes: int,
    what: str,
) -> None:
    """Take what is missing from ``start`` on, or all where the registry gives no parts."""
    if start:
        with transport.request(
            "GET",
            path,
            headers={"Range": f"bytes={start}-"},
            transfer_bytes=size_bytes - start,
            expected=(
                HTTPStatus.OK,
                HTTPStatus.PARTIAL_CONTENT,
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            ),
        ) as reply:
            if reply.status == HTTPStatus.PARTIAL_CONTENT and _is_rest(reply, start, size_bytes):
                file.seek(start)
                _take(reply, copy)
                return
            if reply.status == HTTPStatus.OK:
                _take_all(reply, file, copy, size_bytes, what)
                return
        # 416, whose body some registries announce as the whole blob, or some other part.
    with transport.request("GET", path, transfer_bytes=size_bytes) as reply:
        _take_all(reply, file, copy, size_bytes, what)


def _take_all(reply: Reply, file: BinaryIO, copy: VerifiedCopy, size_bytes: int, what: str) -> None:
    length = reply.header("Content-Length")
    if length is not None and length != str(size_bytes):
        message = f"cannot accept {what}: got {length[:20]} bytes, expected {size_bytes}"
        raise ContentError(message)
    file.seek(0)
    file.truncate()
    copy.restart()
    _take(reply, copy)


def _take(reply: Reply, copy: VerifiedCopy) -> None:
    try:
        copy.take(reply)
    except NetworkError as error:
        raise _BrokenOffError(str(error)) from error


class _BrokenOffError(NetworkError):
    """An answer that had begun did not come to its end; without one, attempts were made."""


def _is_rest(reply: Reply, start: int, size_bytes: int) -> bool:
    """Whether an answer says to be all from ``start`` on."""
    said = _RANGE.fullmatch(reply.header("Content-Range") or "")
    return (
        said is not None
        and (int(said[1]), int(said[2])) == (start, size_bytes - 1)
        and said[3] in {"*", str(size_bytes)}
    )
