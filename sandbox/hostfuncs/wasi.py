"""The calls of WASI preview 1 that write, wait, exit, tell the time or make random bytes.

All of preview 1 is the sandbox's own: wasmtime's would escape the deadline (``poll_oneoff``),
the log (``fd_write``) and the fuel (all of them). Those on files are in ``files``, those on what
a program is given in ``program``.
"""

import os
import struct
import threading
import time

from sandbox import memory
from sandbox.context import CallContext, StopCallError
from sandbox.errors import GuestTrap
from sandbox.hostfuncs import border
from sandbox.signature import WasmType

SUCCESS, BADF, INVAL, NOTSUP, SPIPE = 0, 8, 28, 58, 70

STREAMS = _STDIN, _STDOUT, _STDERR = 0, 1, 2
MOST_VECTORS = 1024
VECTOR_FUEL = 100  # also of an empty one
_MOST_SUBSCRIPTIONS = 1024
_SUBSCRIPTION_BYTES = 48
_EVENT_BYTES = 32
_CLOCK, _FD_WRITE = 0, 2
_REALTIME, _MONOTONIC = 0, 1
_ABSOLUTE = 1

# the guest need not know when the machine was started; one less, for 0 reads as "never"
_BOOT_NS = time.monotonic_ns() - 1

_I32 = ("i32",)


def fd_write(
    context: CallContext, caller: object, fd: int, vectors: int, count: int, written: int
) -> int:
    """Write to stdout or stderr; every other descriptor is read only.

    Raises:
        GuestTrap: Out of bounds, or a command's output is too long.
        StopCallError: ``log`` is denied, or no fuel for it.
    """
    if fd not in {_STDOUT, _STDERR}:
        return BADF
    if not 0 <= count <= MOST_VECTORS:
        return INVAL
    is_result = context.is_command and fd == _STDOUT
    if not is_result:
        context.demand("log")
    memory.find(context, caller)
    context.charge(count * VECTOR_FUEL)
    table = memory.read(context, vectors, count * 8)
    total = 0
    for pointer, length in struct.iter_unpack("<II", table):
        memory.check(context, pointer, length)
        context.charge(length * border.BYTE_FUEL)
        total += length
        data = memory.read(context, pointer, length)
        if is_result:
            _take_result(context, data)
        else:
            _say(context, fd, data)
    memory.write(context, written, struct.pack("<I", memory.unsigned(total)))
    return SUCCESS


def _take_result(context: CallContext, data: bytes) -> None:
    longest = context.limits.output_bytes
    if len(context.stdout) + len(data) > longest:
        raise GuestTrap(
            f"cannot take the output of {context.func}: it is longer than {longest} bytes",
            code="OUTPUT_TOO_LONG",
        )
    context.stdout += data


def _say(context: CallContext, fd: int, data: bytes) -> None:
    context.log.write("stderr" if fd == _STDERR else "stdout", data)
    if context.is_command:
        context.stderr += data[: max(0, context.limits.log_bytes - len(context.stderr))]


def fd_pwrite(_context: CallContext, _caller: object, fd: int, *_rest: int) -> int:
    """Write at a place: streams have none, files are read only."""
    return SPIPE if fd in STREAMS else BADF


def fd_renumber(_context: CallContext, _caller: object, _old: int, _new: int) -> int:
    """Refuse to move descriptors: a stream under another number would escape ``fd_write``."""
    return NOTSUP


def poll_oneoff(
    context: CallContext, caller: object, subscriptions: int, events: int, count: int, stored: int
) -> int:
    """Wait for clocks, at most as long as the call may take; descriptors are always ready.

    Raises:
        DeadlineExceeded: The wait would go on after the deadline, which has now passed.
        GuestTrap: Out of bounds.
        StopCallError: No fuel for it.
    """
    if not 0 < count <= _MOST_SUBSCRIPTIONS:
        return INVAL
    memory.find(context, caller)
    context.charge(count * _SUBSCRIPTION_BYTES * border.BYTE_FUEL)
    table = memory.read(context, subscriptions, count * _SUBSCRIPTION_BYTES)
    ready, clocks = [], []
    for place in range(0, len(table), _SUBSCRIPTION_BYTES):
        user, kind = struct.unpack_from("<QB", table, place)
        if kind == _CLOCK:
            clock, timeout, _, flags = struct.unpack_from("<I4xQQH", table, place + 16)
            clocks.append((_wait_ns(clock, timeout, flags), user))
        elif kind <= _FD_WRITE:
            ready.append((user, kind))
        else:
            return INVAL
    if not ready:
        shortest_ns = min(clocks)[0]
        _sleep(context, shortest_ns / 1e9)
        ready = [(user, _CLOCK) for wait_ns, user in clocks if wait_ns <= shortest_ns]
    for place, (user, kind) in enumerate(ready):
        event = struct.pack("<QHB21x", user, SUCCESS, kind)
        memory.write(context, memory.unsigned(events) + place * _EVENT_BYTES, event)
    memory.write(context, stored, struct.pack("<I", len(ready)))
    return SUCCESS


def _wait_ns(clock: int, timeout_ns: int, flags: int) -> int:
    if flags & _ABSOLUTE:
        return max(0, timeout_ns - _now_ns(clock))
    return timeout_ns


def _sleep(context: CallContext, wait_s: float) -> None:
    late = wait_s > context.remaining_s
    context.wait_for(threading.Event(), wait_s)
    if late:
        context.fail(context.overdue())
        raise StopCallError


def clock_time_get(
    context: CallContext, caller: object, clock: int, _precision: int, place: int
) -> int:
    """The wall clock, or nanoseconds since this process began to run plugins."""
    if clock not in {_REALTIME, _MONOTONIC}:
        return INVAL
    memory.find(context, caller)
    memory.write(context, place, struct.pack("<Q", _now_ns(clock)))
    return SUCCESS


def _now_ns(clock: int) -> int:
    return time.time_ns() if clock == _REALTIME else time.monotonic_ns() - _BOOT_NS


def random_get(context: CallContext, caller: object, place: int, length: int) -> int:
    """Random bytes, charged before they are made.

    Raises:
        GuestTrap: Out of bounds.
        StopCallError: No fuel for it.
    """
    memory.find(context, caller)
    place, length = memory.check(context, place, length)
    context.charge(length * border.BYTE_FUEL)
    memory.write(context, place, os.urandom(length))
    return SUCCESS


def proc_exit(context: CallContext, _caller: object, code: int) -> None:
    """End the call with an exit code."""
    context.exit(memory.unsigned(code))


def proc_raise(_context: CallContext, _caller: object, signal: int) -> int:
    """Refuse to send signals.

    Raises:
        GuestTrap: Always.
    """
    raise GuestTrap(f"cannot send the guest signal {signal}", code="PROC_RAISE")


CALLS: dict[str, tuple[WasmType, border.Body]] = {
    "fd_write": (WasmType(_I32 * 4, _I32), fd_write),
    "fd_pwrite": (WasmType(("i32", "i32", "i32", "i64", "i32"), _I32), fd_pwrite),
    "fd_renumber": (WasmType(_I32 * 2, _I32), fd_renumber),
    "poll_oneoff": (WasmType(_I32 * 4, _I32), poll_oneoff),
    "clock_time_get": (WasmType(("i32", "i64", "i32"), _I32), clock_time_get),
    "random_get": (WasmType(_I32 * 2, _I32), random_get),
    "proc_exit": (WasmType(_I32, ()), proc_exit),
    "proc_raise": (WasmType(_I32, _I32), proc_raise),
}
