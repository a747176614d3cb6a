"""The file calls of WASI preview 1, read only, in the folder behind ``/plugin/data``.

wasmtime's own would wait for a named pipe past every deadline, and charge no fuel. Each of these
costs what any host function does, and one unit for each byte that it gives.
"""

import errno
import functools
import os
import stat
import struct
from collections.abc import Callable

from sandbox import memory
from sandbox.context import CallContext
from sandbox.folder import ROOT, Entry, Folder, Opened
from sandbox.hostfuncs import border
from sandbox.hostfuncs.wasi import BADF, INVAL, MOST_VECTORS, SPIPE, SUCCESS, VECTOR_FUEL
from sandbox.signature import WasmType

GUEST_DATA = "/plugin/data"
"""Where a plugin with ``fs_read`` sees its data."""

ACCES, IO, ISDIR, LOOP, MFILE, NAMETOOLONG, NOENT, NOTDIR, PERM = 2, 29, 31, 32, 33, 37, 44, 54, 63
_ERRORS = {
    errno.EACCES: ACCES,
    errno.EBADF: BADF,
    errno.EINVAL: INVAL,
    errno.EISDIR: ISDIR,
    errno.ELOOP: LOOP,
    errno.EMFILE: MFILE,
    errno.ENAMETOOLONG: NAMETOOLONG,
    errno.ENOENT: NOENT,
    errno.ENOTDIR: NOTDIR,
    errno.EXDEV: PERM,  # it leads out
}
_STREAMS = range(3)
_STDIN = 0
_UNKNOWN, _CHARACTERS, _FOLDER, _REGULAR, _LINK = 0, 2, 3, 4, 7
_TYPES = {stat.S_IFDIR: _FOLDER, stat.S_IFREG: _REGULAR, stat.S_IFLNK: _LINK}
_FOLLOWS = 1
_CREATES, _MUST_BE_FOLDER, _TRUNCATES = 1, 2, 8
_RIGHT_TO_READ, _RIGHT_TO_WRITE = 1 << 1, 1 << 6
# seek, tell, advise, fd_filestat_get, poll
_OF_FILES = _RIGHT_TO_READ | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 21 | 1 << 27
# path_open, readdir, readlink, path_filestat_get, fd_filestat_get
_OF_FOLDERS = 1 << 13 | 1 << 14 | 1 << 15 | 1 << 18 | 1 << 21
_MOST_READ_BYTES = 1 << 20
_ENTRY_FUEL = 100
_U64 = 0xFFFF_FFFF_FFFF_FFFF

_i32, _i64 = ("i32",), ("i64",)
SHADOWED: dict[str, tuple[WasmType, border.Body]] = {}
"""By name; what is imported of them takes the place of wasmtime's."""


def _call(*params: str) -> Callable[[border.Body], border.Body]:
    """Take a body in, by its name; what the system refuses is an error's number in the guest."""

    def add(body: border.Body) -> border.Body:
        @functools.wraps(body)
        def told(context: CallContext, caller: object, *numbers: int) -> int | None:
            memory.find(context, caller)
            try:
                return body(context, *numbers)
            except OSError as error:
                return _ERRORS.get(error.errno or 0, IO)

        SHADOWED[body.__name__] = (WasmType(params, _i32), told)
        return told

    return add


def _folder(context: CallContext) -> Folder:
    if context.folder is None:
        raise OSError(errno.EBADF, "")
    return context.folder


def _opened(context: CallContext, fd: int) -> Opened:
    return _folder(context).get(fd)


def _path(context: CallContext, pointer: int, length: int) -> bytes:
    pointer, length = memory.check(context, pointer, length)
    context.charge(length * border.BYTE_FUEL)
    return memory.read(context, pointer, length)


def _give(context: CallContext, place: int, data: bytes) -> int:
    context.charge(len(data) * border.BYTE_FUEL)
    memory.write(context, place, data)
    return SUCCESS


@_call(*_i32 * 2)
def fd_prestat_get(context: CallContext, fd: int, place: int) -> int:
    """Whether a descriptor is the folder that is there from the start."""
    _opened(context, fd)
    if fd != ROOT:
        return BADF
    return _give(context, place, struct.pack("<II", 0, len(GUEST_DATA)))


@_call(*_i32 * 3)
def fd_prestat_dir_name(context: CallContext, fd: int, place: int, length: int) -> int:
    """Its name."""
    _opened(context, fd)
    if fd != ROOT:
        return BADF
    if memory.unsigned(length) < len(GUEST_DATA):
        return NAMETOOLONG
    return _give(context, place, GUEST_DATA.encode())


@_call(*_i32 * 5, *_i64 * 2, *_i32 * 2)
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
    folder, name = _folder(context), _path(context, path, length)
    _opened(context, fd)
    if how & (_CREATES | _TRUNCATES) or rights & _RIGHT_TO_WRITE:
        return PERM
    number = folder.open(fd, name, follows=bool(look & _FOLLOWS))
    if how & _MUST_BE_FOLDER and not folder.get(number).is_folder:
        folder.close(number)
        return NOTDIR
    return _give(context, place, struct.pack("<I", number))


@_call(*_i32)
def fd_close(context: CallContext, fd: int) -> int:
    """Close a file; the streams stay as they are."""
    if fd not in _STREAMS:
        _folder(context).close(fd)
    return SUCCESS


@_call(*_i32 * 4)
def fd_read(context: CallContext, fd: int, vectors: int, count: int, done: int) -> int:
    """Read on; stdin is empty."""
    if fd == _STDIN:
        return _read(context, vectors, count, done, lambda _: b"")
    descriptor = _opened(context, fd).descriptor
    return _read(context, vectors, count, done, lambda size: os.read(descriptor, size))


@_call(*_i32 * 3, *_i64, *_i32)
def fd_pread(context: CallContext, fd: int, vectors: int, count: int, at: int, done: int) -> int:
    """Read at a place."""
    if fd in _STREAMS:
        return SPIPE
    descriptor = _opened(context, fd).descriptor
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


@_call(*_i32, *_i64, *_i32 * 2)
def fd_seek(context: CallContext, fd: int, by: int, whence: int, place: int) -> int:
    """Move on or back in a file."""
    return _seek(context, fd, by, whence, place)


@_call(*_i32 * 2)
def fd_tell(context: CallContext, fd: int, place: int) -> int:
    """Where in a file the next read begins."""
    return _seek(context, fd, 0, os.SEEK_CUR, place)


def _seek(context: CallContext, fd: int, by: int, whence: int, place: int) -> int:
    if fd in _STREAMS:
        return SPIPE
    file = _opened(context, fd)
    if file.is_folder:
        return BADF
    if whence not in {os.SEEK_SET, os.SEEK_CUR, os.SEEK_END}:
        return INVAL
    return _give(context, place, struct.pack("<Q", os.lseek(file.descriptor, by, whence)))


@_call(*_i32 * 2)
def fd_fdstat_get(context: CallContext, fd: int, place: int) -> int:
    """What a descriptor is and is good for."""
    kind, rights = _CHARACTERS, _RIGHT_TO_READ if fd == _STDIN else _RIGHT_TO_WRITE
    if fd not in _STREAMS:
        is_folder = _opened(context, fd).is_folder
        kind = _FOLDER if is_folder else _REGULAR
        rights = _OF_FILES | _OF_FOLDERS if is_folder else _OF_FILES
    return _give(context, place, struct.pack("<BxH4xQQ", kind, 0, rights, rights))


@_call(*_i32 * 2)
def fd_filestat_get(context: CallContext, fd: int, place: int) -> int:
    """What is known of an open file."""
    if fd in _STREAMS:
        return _give(context, place, struct.pack("<16xB47x", _CHARACTERS))
    return _give(context, place, _facts(os.fstat(_opened(context, fd).descriptor)))


@_call(*_i32 * 5)
def path_filestat_get(
    context: CallContext, fd: int, look: int, path: int, length: int, place: int
) -> int:
    """What is known of a file."""
    name = _path(context, path, length)
    found = _folder(context).look_up(fd, name, follows=bool(look & _FOLLOWS))
    try:
        return _give(context, place, _facts(os.fstat(found)))
    finally:
        os.close(found)


def _facts(status: os.stat_result) -> bytes:
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), _UNKNOWN)
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    numbers = (status.st_nlink, status.st_size, *(ns & _U64 for ns in times))
    return struct.pack("<QQB7x5Q", status.st_dev, status.st_ino, kind, *numbers)


@_call(*_i32 * 6)
def path_readlink(
    context: CallContext, fd: int, path: int, length: int, place: int, room: int, used: int
) -> int:
    """Where a link leads, unless that is told from the root of the disk."""
    found = _folder(context).look_up(fd, _path(context, path, length), follows=False)
    try:
        target = os.readlink(b"", dir_fd=found)
    finally:
        os.close(found)
    if target.startswith(b"/"):
        return PERM
    target = target[: memory.unsigned(room)]
    _give(context, place, target)
    return _give(context, used, struct.pack("<I", len(target)))


@_call(*_i32 * 3, *_i64, *_i32)
def fd_readdir(context: CallContext, fd: int, place: int, room: int, at: int, used: int) -> int:
    """What lies in a folder, from an entry on; as much as there is room for."""
    folder = _opened(context, fd)
    if not folder.is_folder:
        return NOTDIR
    if folder.entries is None or not at:
        folder.entries = _entries(context, folder.descriptor)
    room, told = memory.unsigned(room), bytearray()
    for number, (name, inode, kind) in enumerate(folder.entries[at & _U64 :], (at & _U64) + 1):
        told += struct.pack("<QQIB3x", number, inode, len(name), _TYPES.get(kind, _UNKNOWN)) + name
        if len(told) >= room:
            break
    _give(context, place, bytes(told[:room]))
    return _give(context, used, struct.pack("<I", min(len(told), room)))


def _entries(context: CallContext, descriptor: int) -> list[Entry]:
    own = os.fstat(descriptor).st_ino
    entries: list[Entry] = [(name, own, stat.S_IFDIR) for name in (b".", b"..")]
    readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with os.scandir(readable) as found:
            for entry in found:
                context.charge(_ENTRY_FUEL)
                kind = entry.stat(follow_symlinks=False).st_mode
                entries.append((os.fsencode(entry.name), entry.inode(), stat.S_IFMT(kind)))
    finally:
        os.close(readable)
    return entries


def _needs_nothing(name: str, *params: str) -> None:
    """Calls that change nothing here: any descriptor that is open will do."""

    def body(context: CallContext, fd: int, *_rest: int) -> int:
        if fd not in _STREAMS:
            _opened(context, fd)
        return SUCCESS

    body.__name__ = name
    _call(*params)(body)


def _is_refused(name: str, *params: str) -> None:
    """Calls that would change something."""

    def body(context: CallContext, *_rest: int) -> int:
        return BADF if context.folder is None else PERM

    body.__name__ = name
    _call(*params)(body)


for _name, _params in {
    "fd_advise": (*_i32, *_i64 * 2, *_i32),
    "fd_datasync": _i32,
    "fd_sync": _i32,
    "fd_fdstat_set_flags": _i32 * 2,
    "fd_fdstat_set_rights": (*_i32, *_i64 * 2),
}.items():
    _needs_nothing(_name, *_params)
for _name, _params in {
    "fd_allocate": (*_i32, *_i64 * 2),
    "fd_filestat_set_size": (*_i32, *_i64),
    "fd_filestat_set_times": (*_i32, *_i64 * 2, *_i32),
    "path_create_directory": _i32 * 3,
    "path_filestat_set_times": (*_i32 * 4, *_i64 * 2, *_i32),
    "path_link": _i32 * 7,
    "path_remove_directory": _i32 * 3,
    "path_rename": _i32 * 6,
    "path_symlink": _i32 * 5,
    "path_unlink_file": _i32 * 3,
}.items():
    _is_refused(_name, *_params)
