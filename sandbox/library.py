"""wasmtime's C library itself: prototypes of the few functions that ``raw`` calls.

Private to wasmtime's binding, so it moves with each major version: see ``way``.
"""

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any

from wasmtime import Trap, WasmtimeError, _ffi

SIZES = {"extern": 32, "func": 16, "instance": 16, "memory": 24, "val_raw": 16}
"""What is taken for granted of the library's structures, in bytes."""

# the same library twice: what returns in a microsecond keeps the GIL, what runs a guest or
# frees much memory lets go of it
_HELD = ctypes.PyDLL("wasmtime", handle=_ffi.dll._handle)  # noqa: SLF001
_RELEASED = ctypes.CDLL("wasmtime", handle=_ffi.dll._handle)  # noqa: SLF001


_Function = Callable[..., Any]


def _declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> _Function:  # noqa: ANN401  # ctypes's own types
    function = library[f"wasmtime_{name}"]
    function.restype, function.argtypes = result, arguments
    return function


POINTER = c_void_p
store_new = _declare(_HELD, "store_new", POINTER, POINTER, POINTER, POINTER)
store_context = _declare(_HELD, "store_context", POINTER, POINTER)
store_limiter = _declare(_HELD, "store_limiter", None, POINTER, *[c_int64] * 5)
store_delete = _declare(_HELD, "store_delete", None, POINTER)
store_delete_slowly = _declare(_RELEASED, "store_delete", None, POINTER)
set_fuel = _declare(_HELD, "context_set_fuel", POINTER, POINTER, c_uint64)
get_fuel = _declare(_HELD, "context_get_fuel", POINTER, POINTER, POINTER)
set_epoch = _declare(_HELD, "context_set_epoch_deadline", None, POINTER, c_uint64)
instantiate = _declare(
    _RELEASED, "instance_pre_instantiate", POINTER, POINTER, POINTER, POINTER, POINTER
)
export = _declare(
    _HELD, "instance_export_get", c_bool, POINTER, POINTER, c_char_p, c_size_t, POINTER
)
caller_export = _declare(_HELD, "caller_export_get", c_bool, POINTER, c_char_p, c_size_t, POINTER)
call = _declare(
    _RELEASED, "func_call_unchecked", POINTER, POINTER, POINTER, POINTER, c_size_t, POINTER
)
memory_data = _declare(_HELD, "memory_data", POINTER, POINTER, POINTER)
memory_size = _declare(_HELD, "memory_data_size", c_size_t, POINTER, POINTER)
trap_new = _declare(_HELD, "trap_new", POINTER, c_char_p, c_size_t)
define = _declare(
    _HELD,
    "linker_define_func_unchecked",
    POINTER,
    POINTER,
    *[c_char_p, c_size_t] * 2,
    *[POINTER] * 4,
)
# of a few bytes mostly: letting go of the GIL would cost more than the copy
copy = ctypes.PYFUNCTYPE(POINTER, POINTER, c_char_p, c_size_t)(("memmove", ctypes.pythonapi))
string_at = ctypes.string_at


def address(item: Any) -> int:  # noqa: ANN401  # whatever of the binding's holds a pointer
    """What it points at."""
    address = ctypes.cast(item.ptr(), POINTER).value
    if not address:
        message = f"{item!r} has no address"
        raise ValueError(message)
    return address


def check(error: int | None) -> None:
    """Raise an error that the library returned."""
    if error:
        fail(error, None)


def fail(error: int | None, trap: ctypes.c_void_p | None) -> None:
    """Raise what the library returned, which so is freed in the end."""
    if error:
        pointer = ctypes.cast(error, ctypes.POINTER(_ffi.wasmtime_error_t))
        raise WasmtimeError._from_ptr(pointer)  # noqa: SLF001
    if trap is not None and trap.value:
        raise Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(_ffi.wasm_trap_t)))  # noqa: SLF001
