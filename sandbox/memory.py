"""Guest memory, every pointer checked (contract section 8: pointers and lengths are unsigned)."""

from sandbox.context import CallContext
from sandbox.errors import GuestTrap

_U32 = 0xFFFF_FFFF


def unsigned(value: int) -> int:
    """An i32 as the guest means a pointer or a length."""
    return value & _U32


def find(context: CallContext, caller: object) -> None:
    """Learn the guest's memory from a host call, which may come from its start function.

    Raises:
        GuestTrap: The module exports no memory.
    """
    if not context.require_store().find_memory(caller):
        raise GuestTrap(
            "cannot read the guest's memory: it does not export one as 'memory'",
            code="NO_MEMORY",
        )


def size_bytes(context: CallContext) -> int:
    """The size of the memory now."""
    return 0 if context.store is None else context.store.size_bytes()


def check(context: CallContext, pointer: int, length: int) -> tuple[int, int]:
    """A pointer and a length as the unsigned numbers they are, if all of it is the guest's.

    Raises:
        GuestTrap: Some of it is out of bounds.
    """
    pointer, length = pointer & _U32, length & _U32
    size = size_bytes(context)
    if pointer + length > size:
        raise GuestTrap(
            f"cannot use guest memory {pointer}+{length}: the memory has {size} bytes",
            code="MEMORY_OUT_OF_BOUNDS",
        )
    return pointer, length


def read(context: CallContext, pointer: int, length: int) -> bytes:
    """Copy bytes out of the guest.

    Raises:
        GuestTrap: Some of them are out of bounds.
    """
    pointer, length = check(context, pointer, length)
    return context.require_store().read(pointer, length) if length else b""


def write(context: CallContext, pointer: int, data: bytes) -> None:
    """Copy bytes into the guest.

    Raises:
        GuestTrap: Some of them would be out of bounds.
    """
    pointer, length = check(context, pointer, len(data))
    if length:
        context.require_store().write(pointer, data)


def read_text(context: CallContext, pointer: int, length: int) -> str:
    """Copy UTF-8 out of the guest.

    Raises:
        GuestTrap: Out of bounds, or not UTF-8.
    """
    return decode(read(context, pointer, length))


def read_c_text(context: CallContext, pointer: int, *, longest_bytes: int) -> str:
    """Copy NUL-terminated UTF-8 out of the guest.

    Raises:
        GuestTrap: Out of bounds, no NUL within ``longest_bytes``, or not UTF-8.
    """
    pointer = unsigned(pointer)
    room = max(0, min(longest_bytes, size_bytes(context) - pointer))
    text, end, _ = read(context, pointer, room).partition(b"\0")
    if not end:
        raise GuestTrap(
            f"cannot read text at {pointer}: no NUL within {room} bytes",
            code="MEMORY_OUT_OF_BOUNDS",
        )
    return decode(text)


def decode(data: bytes) -> str:
    """The text that a guest gave.

    Raises:
        GuestTrap: It is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GuestTrap(f"cannot read the guest's text: {error}", code="INVALID_UTF8") from error
