"""How a file call of WASI answers: its error as a number, what it gives charged by the byte."""

import errno
import functools
from collections.abc import Callable

from sandbox import memory
from sandbox.context import CallContext
from sandbox.folder import Folder, Opened
from sandbox.hostfuncs import border
from sandbox.hostfuncs.wasi import BADF, INVAL, STREAMS, SUCCESS
from sandbox.signature import WasmType

ACCES, IO, ISDIR, LOOP, MFILE, NAMETOOLONG, NFILE, NOENT = 2, 29, 31, 32, 33, 37, 41, 44
NOMEM, NOTDIR, PERM = 48, 54, 63
_ERRORS = {
    errno.EACCES: ACCES,
    errno.EBADF: BADF,
    errno.EINVAL: INVAL,
    errno.EISDIR: ISDIR,
    errno.ELOOP: LOOP,
    errno.EMFILE: MFILE,
    errno.ENAMETOOLONG: NAMETOOLONG,
    errno.ENFILE: NFILE,
    errno.ENOENT: NOENT,
    errno.ENOMEM: NOMEM,
    errno.ENOTDIR: NOTDIR,
    errno.EXDEV: PERM,  # it leads out
}
I32, I64 = ("i32",), ("i64",)
Answering = tuple[WasmType, border.Body]
"""A file call: its type and what it does."""


def answering(*params: str) -> Callable[[border.Body], Answering]:
    """Make a body a file call; what the system refuses is an error's number in the guest."""

    def make(body: border.Body) -> Answering:
        @functools.wraps(body)
        def told(context: CallContext, caller: object, *numbers: int) -> int | None:
            memory.find(context, caller)
            try:
                return body(context, *numbers)
            except OSError as error:
                return _ERRORS.get(error.errno or 0, IO)

        return WasmType(params, I32), told

    return make


def always(answer: int, of_streams: int, *params: str) -> Answering:
    """A call that does nothing: one answer for whatever the guest has open, one for streams."""

    def body(context: CallContext, fd: int, *_rest: int) -> int:
        if fd in STREAMS:
            return of_streams
        opened(context, fd)
        return answer

    return answering(*params)(body)


def folder_of(context: CallContext) -> Folder:
    """What the guest sees of the disk.

    Raises:
        OSError: Nothing (EBADF).
    """
    if context.folder is None:
        raise OSError(errno.EBADF, "")
    return context.folder


def opened(context: CallContext, fd: int) -> Opened:
    """What the guest has open under a descriptor.

    Raises:
        OSError: Nothing (EBADF).
    """
    return folder_of(context).get(fd)


def path_at(context: CallContext, pointer: int, length: int) -> bytes:
    """A path that the guest passes, charged before it is copied.

    Raises:
        GuestTrap: Out of bounds.
        StopCallError: No fuel for it.
    """
    pointer, length = memory.check(context, pointer, length)
    context.charge(length * border.BYTE_FUEL)
    return memory.read(context, pointer, length)


def give(context: CallContext, place: int, data: bytes) -> int:
    """Copy to the guest, charged; returns success.

    Raises:
        GuestTrap: Out of bounds.
        StopCallError: No fuel for it.
    """
    context.charge(len(data) * border.BYTE_FUEL)
    memory.write(context, place, data)
    return SUCCESS
