"""The border that every host function crosses: charge, do, and let no exception out."""

import json
from collections.abc import Callable
from typing import Any

from wasmtime import Linker

from sandbox import memory
from sandbox.cell import Way
from sandbox.context import CallContext, StopCallError
from sandbox.errors import GuestTrap, MemoryExceeded, MissingExport
from sandbox.exports import ALLOC
from sandbox.signature import WasmType

CALL_FUEL = 1_000
"""What each host call costs, beside its bytes: crossing takes microseconds, and wasmtime
charges nothing for it."""

BYTE_FUEL = 1
"""What each byte that the host copies costs."""

Body = Callable[..., int | None]
"""A host function: ``body(context, caller, *wasm_arguments)``."""


class Seat:
    """Where host functions find the call that runs; one per engine, which runs one at a time.

    The functions know the seat and not the linker: the binding keeps them in a global table,
    and a way back to the linker would keep it alive for ever.
    """

    __slots__ = ("context",)

    def __init__(self) -> None:
        self.context: CallContext | None = None


def define(
    way: Way, linker: Linker, seat: Seat, place: tuple[str, str], kind: WasmType, body: Body
) -> None:
    """Define a host function that charges fuel and records whatever goes wrong."""
    nothing = 0 if kind.results else None

    def crossing(caller: object, *arguments: Any) -> int | None:  # noqa: ANN401  # wasm's numbers
        context = seat.context
        if context is None or context.ended:
            return nothing
        try:
            context.charge(CALL_FUEL)
            return body(context, caller, *arguments)
        except StopCallError:
            return nothing
        # not only Exception: what leaves a callback into native code is lost or worse
        except BaseException as error:  # noqa: BLE001
            context.fail(error)
            return nothing

    way.define(linker, place, kind, crossing)


def read_text(context: CallContext, caller: object, pointer: int, length: int) -> str:
    """Text that the guest passes, charged by the byte before it is copied.

    Raises:
        GuestTrap: Out of bounds, or not UTF-8.
        StopCallError: No fuel for it.
    """
    return memory.decode(read_bytes(context, caller, pointer, length))


def read_bytes(context: CallContext, caller: object, pointer: int, length: int) -> bytes:
    """Bytes that the guest passes, charged before they are copied.

    Raises:
        GuestTrap: Out of bounds.
        StopCallError: No fuel for it.
    """
    memory.find(context, caller)
    pointer, length = memory.check(context, pointer, length)
    context.charge(length * BYTE_FUEL)
    return memory.read(context, pointer, length)


def err(code: str, message: str) -> str:
    """The answer of a host function that could not do what was asked."""
    return json.dumps({"err": {"code": code, "message": message}})


def require_alloc(context: CallContext) -> None:
    """Refuse to answer a guest that can't be answered.

    Raises:
        GuestTrap: The host function was called from within ``alloc``.
        MissingExport: There is none.
    """
    if not context.require_store().exports(ALLOC):
        raise MissingExport(
            f"cannot answer {context.func}: the module does not export alloc(len i32) -> i32"
        )
    if context.replying:
        raise GuestTrap("cannot answer within alloc", code="REENTRANT_CALL")


def reply(context: CallContext, caller: object, text: str) -> int:
    """Give text to the guest: ``alloc``, copy, and the packed pointer and length.

    Raises:
        GuestTrap: ``alloc`` trapped, lied, or called a function that must reply itself.
        MemoryExceeded: ``alloc`` had no room.
        MissingExport: There is no ``alloc``.
        StopCallError: No fuel for it.
    """
    data = text.encode("utf-8")
    context.charge(len(data) * BYTE_FUEL)
    memory.find(context, caller)
    require_alloc(context)
    context.replying = True
    try:
        at = context.require_store().call_back(caller, ALLOC, len(data))
    finally:
        context.replying = False
    if context.ended:
        raise StopCallError
    pointer = memory.unsigned(int(at or 0))
    if not pointer:
        raise MemoryExceeded(f"cannot answer {context.func}: alloc({len(data)}) returned 0")
    memory.write(context, pointer, data)
    return pointer << 32 | len(data)
