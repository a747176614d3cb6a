"""The engine by its C library: a call that costs hardly more than the engine's own.

All of it is private to wasmtime's binding and moves with each major version: it is pinned
(``wasmtime==50.*``), and ``way`` tries it before it is used. A mistake here ends in SIGSEGV:
every pointer comes from the library, a closed cell has no pointer left to misuse, and what
may run a guest lets other threads run meanwhile.
"""

import ctypes
import itertools
from collections.abc import Callable, Sequence
from ctypes import byref, c_char, c_size_t, c_uint64
from typing import Any

from wasmtime import Config, Engine, InstancePre, Linker

from sandbox import library, pool
from sandbox.cell import Crossing, Number
from sandbox.library import POINTER, SIZES
from sandbox.limits import Limits
from sandbox.plain import function_type
from sandbox.shape import MEMORY, Shape
from sandbox.signature import NUMBERS, WasmType
from sandbox.slots import WORDS, Form, landing
from sandbox.timers import Engines

_ITEM_AT = 8  # in an extern, behind its kind
_MEMORY = b"\x03"  # an extern's kind
_ABI_MEMORY = MEMORY.encode()
_SMALL_BYTES = 1 << 20

_Extern = c_char * SIZES["extern"]
_Instance = c_char * SIZES["instance"]


class RawCell:
    """A ``Cell``."""

    __slots__ = (
        "_context",
        "_found",
        "_functions",
        "_instance",
        "_link",
        "_measured",
        "_memory",
        "_size",
        "_store",
    )

    def __init__(self, link: "RawLink", limits: Limits) -> None:
        self._link = link
        self._functions = link.functions
        self._found: dict[str, Any] = {}
        self._instance = _Instance()
        self._memory: Any = None
        self._measured: Any = None  # mostly the same, and no other is in the ABI
        self._size = 0  # as it was last seen
        self._store = library.store_new(link.engine, None, None)
        self._context = library.store_context(self._store)
        library.store_limiter(
            self._store,
            limits.mem_bytes,
            limits.table_elements,
            limits.instances,
            limits.tables,
            limits.memories,
        )
        library.set_epoch(self._context, 1)

    def start(self) -> None:
        """Make the instance."""
        trap = POINTER()
        error = library.instantiate(self._link.pre, self._context, self._instance, byref(trap))
        if error or trap.value:
            library.fail(error, trap)
        name = self._link.memory
        if name is None:
            self._size = self._link.least_memory_bytes
            return
        extern = _Extern()
        if library.export(self._context, self._instance, name, len(name), extern):
            self._measured = byref(extern, _ITEM_AT)
            if name == _ABI_MEMORY:
                self._remember(extern)

    def exports(self, name: str) -> bool:
        """Whether there is such a function."""
        return name in self._functions

    def call(self, name: str, *numbers: Number) -> Number | None:
        """Call a function."""
        form = self._functions[name]
        function = self._found.get(name)
        if function is None:
            extern = _Extern()
            if not library.export(
                self._context, self._instance, form.name, form.name_bytes, extern
            ):
                raise KeyError(name)
            function = self._found[name] = byref(extern, _ITEM_AT)
        return self._enter(function, form, numbers)

    def call_back(self, caller: object, name: str, *numbers: Number) -> Number | None:
        """Call a function from within a host function."""
        form = self._functions[name]
        extern = _Extern()
        if not library.caller_export(caller, form.name, form.name_bytes, extern):
            raise KeyError(name)
        return self._enter(byref(extern, _ITEM_AT), form, numbers)

    def find_memory(self, caller: object) -> bool:
        """Learn of the memory."""
        if self._memory is None:
            extern = _Extern()
            if library.caller_export(caller, _ABI_MEMORY, len(_ABI_MEMORY), extern):
                self._remember(extern)
        return self._memory is not None

    def size_bytes(self) -> int:
        """The size of the memory."""
        if self._memory is None:
            return 0
        self._size = int(library.memory_size(self._context, self._memory))
        return self._size

    def peak_bytes(self) -> int:
        """The memory at its largest."""
        measured = self._measured or self._memory
        if measured is not None:
            self._size = int(library.memory_size(self._context, measured))
        return self._size

    def read(self, pointer: int, length: int) -> bytes:
        """Copy out."""
        if self._memory is None:
            return b""
        start = library.memory_data(self._context, self._memory)
        return library.string_at(start + pointer, length)

    def write(self, pointer: int, data: bytes) -> None:
        """Copy in."""
        if self._memory is not None:
            start = library.memory_data(self._context, self._memory)
            library.copy(start + pointer, data, len(data))

    def get_fuel(self) -> int:
        """The fuel that is left."""
        units = c_uint64()
        error = library.get_fuel(self._context, byref(units))
        if error:
            library.fail(error, None)
        return units.value

    def set_fuel(self, units: int) -> None:
        """Replace it."""
        error = library.set_fuel(self._context, units)
        if error:
            library.fail(error, None)

    def close(self) -> None:
        """Free all of it, once."""
        try:
            store = self._store
        except AttributeError:
            return
        # a large memory takes milliseconds to free
        delete = library.store_delete if self._size <= _SMALL_BYTES else library.store_delete_slowly
        del self._store, self._context
        delete(store)

    def __del__(self, delete: Callable[[int], None] = library.store_delete) -> None:
        # at the end of the process there are no globals any more
        if hasattr(self, "_store"):
            delete(self._store)

    def _remember(self, extern: Any) -> None:  # noqa: ANN401  # an array of ctypes
        if extern[0] == _MEMORY:
            self._memory = byref(extern, _ITEM_AT)

    def _enter(self, function: Any, form: Form, numbers: Sequence[Number]) -> Number | None:  # noqa: ANN401  # a reference of ctypes
        if form.has_floats:
            numbers = form.without_floats(numbers)
        words: list[Any] = [0] * form.words
        words[::WORDS] = numbers  # refuses any other number of them; ctypes cuts each to its bits
        slots = form.slots(*words)
        trap = POINTER()
        error = library.call(self._context, function, slots, form.slot_count, byref(trap))
        if error or trap.value:
            library.fail(error, trap)
        return form.result.unpack_from(slots)[0] if form.result else None


class RawLink:
    """A ``Link``; holds what its pointers point at."""

    def __init__(self, engine: Engine, instances: InstancePre, shape: Shape) -> None:
        self._kept = (engine, instances)
        self.engine = library.address(engine)
        self.pre = library.address(instances)
        self.memory = None if shape.memory is None else shape.memory.encode()
        self.least_memory_bytes = shape.least_memory_bytes
        self.functions = {
            name: Form(name, kind)
            for name, kind in shape.functions.items()
            if len(kind.results) <= 1 and {*kind.params, *kind.results} <= set(NUMBERS)
        }

    def open(self, limits: Limits) -> RawCell:
        """A new cell."""
        return RawCell(self, limits)


class RawWay:
    """A ``Way``."""

    @staticmethod
    def new_engine(config: Config) -> Engine:
        """An engine with a timer, and mostly with room for its instance."""
        return _engines.new(config)

    @staticmethod
    def new_wide_engine(config: Config) -> Engine:
        """An engine with a timer, and no room that its instance might not fit into."""
        return pool.new_wide_engine(config)

    @staticmethod
    def rest(engine: Engine) -> None:
        """Keep it."""
        _engines.rest(engine)

    @staticmethod
    def define(linker: Linker, place: tuple[str, str], kind: WasmType, crossing: Crossing) -> None:
        """Put a host function into a linker."""
        number = next(_numbers)
        _crossings[number] = landing(kind, crossing)
        module, name = (text.encode() for text in place)
        function = function_type(kind)  # it must live until the library has copied it
        # the library forgets the number by _forget, also where it refuses the function
        library.check(
            library.define(
                library.address(linker),
                *(module, len(module), name, len(name)),
                library.address(function),
                *(ctypes.cast(_CROSS, POINTER), number, ctypes.cast(_FORGET, POINTER)),
            )
        )

    @staticmethod
    def link(engine: Engine, instances: InstancePre, shape: Shape) -> RawLink:
        """Make a link."""
        return RawLink(engine, instances, shape)


_engines = Engines(pool.new_engine)
_numbers = itertools.count(1)
_crossings: dict[int, Callable[[int, int], None]] = {}


def _cross(number: int, caller: int, slots: int, _count: int) -> int | None:
    """Where every call of a host function arrives; the address returned is a trap's."""
    try:
        _crossings[number](caller, slots)
    except BaseException:  # noqa: BLE001  # nothing may leave it; the guest does not go on
        trap: int | None = library.trap_new(b"host function", 13)
        return trap
    return None


def _forget(number: int, crossings: dict[int, Callable[[int, int], None]] = _crossings) -> None:
    # at the end of the process there are no globals any more
    crossings.pop(number, None)


# what the library holds pointers to: never freed
_CROSS = ctypes.CFUNCTYPE(POINTER, POINTER, POINTER, POINTER, c_size_t)(_cross)
_FORGET = ctypes.CFUNCTYPE(None, POINTER)(_forget)
