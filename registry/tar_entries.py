"""What is in a tar file, by its headers: a table of places, and nothing is ever unpacked.

POSIX ustar and pax, and what GNU tar writes for long names. What could mean two things to two
programs is refused: links, devices, names that lead out, a name that is there twice.
"""

import re
import tarfile
from dataclasses import dataclass
from typing import BinaryIO

from registry.errors import ContentError

BLOCK_BYTES = 512
_MAX_ENTRIES = 50_000
_MAX_RECORD_BYTES = 64 << 10
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_PAX_LENGTH = re.compile(rb"[1-9][0-9]{0,5} ")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file in an archive.

    Attributes:
        start: Where its bytes begin in the archive.
        size_bytes: How many.
    """

    start: int
    size_bytes: int


def read_entries(file: BinaryIO, what: str) -> dict[str, Entry]:
    """Read the headers of a tar file.

    Args:
        file: Open, and seekable.
        what: How messages call it.

    Returns:
        The regular files by name, a leading ``./`` left out.

    Raises:
        ContentError: It is no tar file, or compressed; it is cut off; an entry is a link, a
            device or another special file; a name leads out of the archive or is there twice;
            or there are more than 50,000 entries.
    """
    size_bytes = file.seek(0, 2)
    place, number = 0, 0
    entries: dict[str, Entry] = {}
    long_name: str | None = None
    while (header := _header(file, place, what)) is not None:
        number += 1
        if number > _MAX_ENTRIES:
            message = f"cannot read {what}: more than {_MAX_ENTRIES} entries"
            raise ContentError(message)
        start = place + BLOCK_BYTES
        if not 0 <= header.size <= size_bytes - start:
            message = (
                f"cannot read {what}: entry {number} has {header.size} bytes, and "
                f"{max(0, size_bytes - start)} are left"
            )
            raise ContentError(message)
        place = start + -(-header.size // BLOCK_BYTES) * BLOCK_BYTES
        if header.type in (*_PAX, tarfile.GNUTYPE_LONGNAME):
            record = _record(file, start, header, what)
            long_name = _long_name(record, header, what) or long_name
            continue
        name = _checked(long_name or header.name, what)
        long_name = None
        if header.type == tarfile.DIRTYPE and not header.size:
            continue
        if header.type not in _FILES:
            message = f"cannot read {what}: {name[:200]!r} is no regular file or folder"
            raise ContentError(message)
        if name in entries:
            message = f"cannot read {what}: {name[:200]!r} is there twice"
            raise ContentError(message)
        entries[name] = Entry(start, header.size)
    return entries


def _header(file: BinaryIO, place: int, what: str) -> tarfile.TarInfo | None:
    """The header at a place; ``None`` at the end of the archive."""
    file.seek(place)
    block = file.read(BLOCK_BYTES)
    if place == 0 and block.startswith(_GZIP):
        message = f"cannot read {what}: it is compressed; gunzip it first"
        raise ContentError(message)
    if place and not block.strip(b"\0"):
        return None  # some leave out the blocks of zeros
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        message = f"cannot read {what}: at byte {place} is no tar header ({error})"
        raise ContentError(message) from error


def _record(file: BinaryIO, start: int, header: tarfile.TarInfo, what: str) -> bytes:
    if header.size > _MAX_RECORD_BYTES:
        message = f"cannot read {what}: got a record of {header.size} bytes in its headers"
        raise ContentError(message)
    file.seek(start)
    return file.read(header.size)


def _long_name(record: bytes, header: tarfile.TarInfo, what: str) -> str | None:
    """The name that a record gives to the next entry, if it does."""
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return record.rstrip(b"\0").decode("utf-8", "replace")
    said = _pax(record, what)
    if b"size" in said or (b"path" in said and header.type == tarfile.XGLTYPE):
        # Only files of more than 8 GiB need the one and nobody the other, and whoever overlooks
        # them sees other entries.
        message = f"cannot read {what}: a pax header sets the size, or the names of all"
        raise ContentError(message)
    return said[b"path"].decode("utf-8", "replace") if b"path" in said else None


def _pax(record: bytes, what: str) -> dict[bytes, bytes]:
    """The records of a pax header: length, space, key, "=", value, newline."""
    said: dict[bytes, bytes] = {}
    rest = record
    while rest:
        found = _PAX_LENGTH.match(rest)
        length = int(found[0]) if found else 0
        key, equals, value = rest[found.end() if found else 0 : length].partition(b"=")
        if length > len(rest) or not equals or not value.endswith(b"\n"):
            message = f"cannot read {what}: a pax header is malformed"
            raise ContentError(message)
        said[key] = value[:-1]
        rest = rest[length:]
    return said


def _checked(name: str, what: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        message = f"cannot read {what}: {name[:200]!r} leads out of it"
        raise ContentError(message)
    return "/".join(parts)
