"""The calls of WASI preview 1 on what a program is given, and on what no guest has: sockets.

wasmtime's own charge no fuel. Each of these costs what any host function does, and one unit for
each byte that it gives.
"""

import struct
from collections.abc import Sequence

from sandbox import memory
from sandbox.context import CallContext
from sandbox.hostfuncs import border
from sandbox.hostfuncs.answers import I32, Answering, always, answering, give
from sandbox.hostfuncs.wasi import BADF, INVAL, SUCCESS

_NOTSOCK = 57
_CLOCKS, _PROCESSOR_CLOCKS = (0, 1), (2, 3)
_RESOLUTION_NS = 1


def _given(context: CallContext, texts: Sequence[bytes], pointers: int, place: int) -> int:
    """Copy texts to the guest one behind the other, and where each begins."""
    if not texts:
        return SUCCESS
    place, length = memory.check(context, place, sum(map(len, texts)))
    context.charge((length + 4 * len(texts)) * border.BYTE_FUEL)
    starts = []
    for text in texts:
        starts.append(place)
        place += len(text)
    memory.write(context, pointers, struct.pack(f"<{len(starts)}I", *starts))
    memory.write(context, place - length, b"".join(texts))
    return SUCCESS


def _sizes(context: CallContext, texts: Sequence[bytes], count: int, length: int) -> int:
    give(context, length, struct.pack("<I", sum(map(len, texts))))
    return give(context, count, struct.pack("<I", len(texts)))


@answering(*I32 * 2)
def args_get(context: CallContext, pointers: int, place: int) -> int:
    """The arguments of a command; a reactor has its name alone."""
    return _given(context, context.arguments, pointers, place)


@answering(*I32 * 2)
def args_sizes_get(context: CallContext, count: int, length: int) -> int:
    """How many there are, and their length together."""
    return _sizes(context, context.arguments, count, length)


@answering(*I32 * 2)
def environ_get(context: CallContext, pointers: int, place: int) -> int:
    """The environment: the plugin's settings."""
    return _given(context, context.environment, pointers, place)


@answering(*I32 * 2)
def environ_sizes_get(context: CallContext, count: int, length: int) -> int:
    """How many variables there are, and their length together."""
    return _sizes(context, context.environment, count, length)


@answering(*I32 * 2)
def clock_res_get(context: CallContext, clock: int, place: int) -> int:
    """How fine a clock is; those of the processor's time are none here."""
    if clock not in _CLOCKS:
        return BADF if clock in _PROCESSOR_CLOCKS else INVAL
    return give(context, place, struct.pack("<Q", _RESOLUTION_NS))


@answering()
def sched_yield(_context: CallContext) -> int:
    """Let others go first: there are none in an instance."""
    return SUCCESS


CALLS: dict[str, Answering] = {
    "args_get": args_get,
    "args_sizes_get": args_sizes_get,
    "clock_res_get": clock_res_get,
    "environ_get": environ_get,
    "environ_sizes_get": environ_sizes_get,
    "sched_yield": sched_yield,
    "sock_accept": always(_NOTSOCK, _NOTSOCK, *I32 * 3),
    "sock_recv": always(_NOTSOCK, _NOTSOCK, *I32 * 6),
    "sock_send": always(_NOTSOCK, _NOTSOCK, *I32 * 5),
    "sock_shutdown": always(_NOTSOCK, _NOTSOCK, *I32 * 2),
}
