"""The file calls of WASI preview 1, read only, in the folder behind ``/plugin/data``.

wasmtime's own would wait for a named pipe past every deadline, and charge no fuel. Each of these
costs what any host function does, and one unit for each byte that it gives.
"""

import os
import stat
import struct
from collections.abc import Callable

from sandbox import memory
from sandbox.context import CallContext
from sandbox.folder import ROOT
from sandbox.hostfuncs import border
from sandbox.hostfuncs.answers import (
    I32,
    I64,
    NAMETOOLONG,
    NOTDIR,
    PERM,
    Answering,
    always,
    answering,
    folder_of,
    give,
    opened,
    path_at,
)
from sandbox.hostfuncs.wasi import (
    BADF,
    INVAL,
    MOST_VECTORS,
    SPIPE,
    STREAMS,
    SUCCESS,
    VECTOR_FUEL,
)

GUEST_DATA = "/plugin/data"
"""Where a plugin with ``fs_read`` sees its data."""

_STDIN = 0
_UNKNOWN, _FOLDER, _REGULAR, _LINK = 0, 3, 4, 7  # a stream is unknown: 2 would be a terminal
_TYPES = {stat.S_IFDIR: _FOLDER, stat.S_IFREG: _REGULAR, stat.S_IFLNK: _LINK}
_FOLLOWS, _CREATES, _MUST_BE_FOLDER, _TRUNCATES = 1, 1, 2, 8
_RIGHT_TO_READ, _RIGHT_TO_WRITE = 1 << 1, 1 << 6
# seek, tell, advise, fd_filestat_get, poll
_OF_FILES = _RIGHT_TO_READ | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 21 | 1 << 27
# path_open, readdir, readlink, path_filestat_get, fd_filestat_get
_OF_FOLDERS = 1 << 13 | 1 << 14 | 1 << 15 | 1 << 18 | 1 << 21
_STATUS_BYTES = 64
_MOST_READ_BYTES = 1 << 20
_ENTRY_FUEL = 100
_U64 = 0xFFFF_FFFF_FFFF_FFFF


@answering(*I32 * 2)
def fd_prestat_get(context: CallContext, fd: int, place: int) -> int:
    """Whether a descriptor is the folder that is there from the start."""
    opened(context, fd)
    if fd != ROOT:
        return BADF
    return give(context, place, struct.pack("<II", 0, len(GUEST_DATA)))


@answering(*I32 * 3)
def fd_prestat_dir_name(context: CallContext, fd: int, place: int, length: int) -> int:
    """Its name."""
    if fd in STREAMS:
        return NOTDIR
    opened(context, fd)
    if fd != ROOT:
        return BADF
    if memory.unsigned(length) < len(GUEST_DATA):
        return NAMETOOLONG
    return give(context, place, GUEST_DATA.encode())


@answering(*I32 * 5, *I64 * 2, *I32 * 2)
def path_open(
    context: CallContext,
    fd: int,
    look: int,
    path: int,
    length: int,
    how: int,
    rights: int,
    _inherited: int,
    _flags: int,
    place: int,
) -> int:
    """Open a file or a folder to read; whatever would write is refused."""
    folder, name = folder_of(context), path_at(context, path, length)
    opened(context, fd)
    if how & (_CREATES | _TRUNCATES) or rights & _RIGHT_TO_WRITE:
        return PERM
    number = folder.open(fd, name, follows=bool(look & _FOLLOWS))
    if how & _MUST_BE_FOLDER and not folder.get(number).is_folder:
        folder.close(number)
        return NOTDIR
    return give(context, place, struct.pack("<I", number))


@answering(*I32)
def fd_close(context: CallContext, fd: int) -> int:
    """Close a file; the streams stay as they are."""
    if fd not in STREAMS:
        folder_of(context).close(fd)
    return SUCCESS


@answering(*I32 * 4)
def fd_read(context: CallContext, fd: int, vectors: int, count: int, done: int) -> int:
    """Read on; stdin is empty."""
    if fd == _STDIN:
        return _read(context, vectors, count, done, lambda _: b"")
    descriptor = opened(context, fd).descriptor
    return _read(context, vectors, count, done, lambda size: os.read(descriptor, size))


@answering(*I32 * 3, *I64, *I32)
def fd_pread(context: CallContext, fd: int, vectors: int, count: int, at: int, done: int) -> int:
    """Read at a place."""
    if fd == _STDIN:
        return SPIPE
    descriptor = opened(context, fd).descriptor
    return _read(context, vectors, count, done, lambda size: os.pread(descriptor, size, at))


def _read(
    context: CallContext, vectors: int, count: int, done: int, read: Callable[[int], bytes]
) -> int:
    if not 0 <= count <= MOST_VECTORS:
        return INVAL
    context.charge(count * VECTOR_FUEL)
    table = memory.read(context, vectors, count * 8)
    places = list(struct.iter_unpack("<II", table))
    for pointer, length in places:
        memory.check(context, pointer, length)
    data = read(min(sum(length for _, length in places), _MOST_READ_BYTES))
    context.charge(len(data) * border.BYTE_FUEL)
    begin = 0
    for pointer, length in places:
        memory.write(context, pointer, data[begin : begin + length])
        begin += length
    memory.write(context, done, struct.pack("<I", len(data)))
    return SUCCESS


@answering(*I32, *I64, *I32 * 2)
def fd_seek(context: CallContext, fd: int, by: int, whence: int, place: int) -> int:
    """Move on or back in a file."""
    return _seek(context, fd, by, whence, place)


@answering(*I32 * 2)
def fd_tell(context: CallContext, fd: int, place: int) -> int:
    """Where in a file the next read begins."""
    return _seek(context, fd, 0, os.SEEK_CUR, place)


def _seek(context: CallContext, fd: int, by: int, whence: int, place: int) -> int:
    if fd in STREAMS:
        return SPIPE
    file = opened(context, fd)
    if file.is_folder:
        return BADF
    if whence not in {os.SEEK_SET, os.SEEK_CUR, os.SEEK_END}:
        return INVAL
    return give(context, place, struct.pack("<Q", os.lseek(file.descriptor, by, whence)))


@answering(*I32 * 2)
def fd_fdstat_get(context: CallContext, fd: int, place: int) -> int:
    """What a descriptor is and is good for."""
    kind, rights = _UNKNOWN, _RIGHT_TO_READ if fd == _STDIN else _RIGHT_TO_WRITE
    if fd not in STREAMS:
        is_folder = opened(context, fd).is_folder
        kind = _FOLDER if is_folder else _REGULAR
        rights = _OF_FILES | _OF_FOLDERS if is_folder else _OF_FILES
    return give(context, place, struct.pack("<BxH4xQQ", kind, 0, rights, rights))


@answering(*I32 * 2)
def fd_filestat_get(context: CallContext, fd: int, place: int) -> int:
    """What is known of an open file."""
    if fd in STREAMS:
        return give(context, place, bytes(_STATUS_BYTES))
    return give(context, place, _facts(os.fstat(opened(context, fd).descriptor)))


@answering(*I32 * 5)
def path_filestat_get(
    context: CallContext, fd: int, look: int, path: int, length: int, place: int
) -> int:
    """What is known of a file."""
    folder, name = folder_of(context), path_at(context, path, length)
    found = folder.look_up(fd, name, follows=bool(look & _FOLLOWS))
    try:
        return give(context, place, _facts(os.fstat(found)))
    finally:
        os.close(found)


def _facts(status: os.stat_result) -> bytes:
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), _UNKNOWN)
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    numbers = (status.st_nlink, status.st_size, *(ns & _U64 for ns in times))
    return struct.pack("<QQB7x5Q", status.st_dev, status.st_ino, kind, *numbers)


@answering(*I32 * 6)
def path_readlink(
    context: CallContext, fd: int, path: int, length: int, place: int, room: int, used: int
) -> int:
    """Where a link leads, unless that is told from the root of the disk."""
    found = folder_of(context).look_up(fd, path_at(context, path, length), follows=False)
    try:
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            return INVAL
        target = os.readlink(b"", dir_fd=found)
    finally:
        os.close(found)
    if target.startswith(b"/"):
        return PERM
    target = target[: memory.unsigned(room)]
    give(context, place, target)
    return give(context, used, struct.pack("<I", len(target)))


@answering(*I32 * 3, *I64, *I32)
def fd_readdir(context: CallContext, fd: int, place: int, room: int, at: int, used: int) -> int:
    """What lies in a folder, from an entry on; as much as there is room for."""
    folder = opened(context, fd)
    if not folder.is_folder:
        return NOTDIR
    place, room = memory.check(context, place, room)
    entries = folder.entries

    def pay() -> None:
        context.go_on()
        context.charge(_ENTRY_FUEL)

    if entries is None or not at:
        entries = folder_of(context).list(fd, pay)
    told = bytearray()
    for number in range(at & _U64, len(entries)):
        name, inode, kind = entries[number]
        told += struct.pack("<QQIB3x", number + 1, inode, len(name), _TYPES.get(kind, _UNKNOWN))
        told += name
        if len(told) >= room:
            break
    give(context, place, bytes(told[:room]))
    return give(context, used, struct.pack("<I", min(len(told), room)))


def _is_refused(*params: str) -> Answering:
    """A call that would change something."""

    def body(context: CallContext, *_rest: int) -> int:
        return BADF if context.folder is None else PERM

    return answering(*params)(body)


CALLS: dict[str, Answering] = {
    "fd_advise": always(SUCCESS, BADF, *I32, *I64 * 2, *I32),
    "fd_allocate": _is_refused(*I32, *I64 * 2),
    "fd_close": fd_close,
    "fd_datasync": always(SUCCESS, BADF, *I32),
    "fd_fdstat_get": fd_fdstat_get,
    "fd_fdstat_set_flags": always(SUCCESS, BADF, *I32 * 2),
    "fd_fdstat_set_rights": always(SUCCESS, BADF, *I32, *I64 * 2),
    "fd_filestat_get": fd_filestat_get,
    "fd_filestat_set_size": _is_refused(*I32, *I64),
    "fd_filestat_set_times": _is_refused(*I32, *I64 * 2, *I32),
    "fd_pread": fd_pread,
    "fd_prestat_dir_name": fd_prestat_dir_name,
    "fd_prestat_get": fd_prestat_get,
    "fd_read": fd_read,
    "fd_readdir": fd_readdir,
    "fd_seek": fd_seek,
    "fd_sync": always(SUCCESS, BADF, *I32),
    "fd_tell": fd_tell,
    "path_create_directory": _is_refused(*I32 * 3),
    "path_filestat_get": path_filestat_get,
    "path_filestat_set_times": _is_refused(*I32 * 4, *I64 * 2, *I32),
    "path_link": _is_refused(*I32 * 7),
    "path_open": path_open,
    "path_readlink": path_readlink,
    "path_remove_directory": _is_refused(*I32 * 3),
    "path_rename": _is_refused(*I32 * 6),
    "path_symlink": _is_refused(*I32 * 5),
    "path_unlink_file": _is_refused(*I32 * 3),
}
"""All of them that preview 1 has, but for those that write."""
