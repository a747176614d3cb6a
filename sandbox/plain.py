"""The engine by wasmtime's public API alone; ``raw`` is the fast way."""

from wasmtime import (
    Caller,
    Config,
    Engine,
    Func,
    FuncType,
    InstancePre,
    Linker,
    Memory,
    Store,
    ValType,
)

from sandbox.cell import Crossing, Number
from sandbox.limits import Limits
from sandbox.shape import MEMORY, Shape
from sandbox.signature import WasmType

_VALUE_TYPES = {"i32": ValType.i32, "i64": ValType.i64, "f32": ValType.f32, "f64": ValType.f64}


def function_type(kind: WasmType) -> FuncType:
    """A type for one engine only: on a second one it aborts the process."""
    return FuncType(
        [_VALUE_TYPES[name]() for name in kind.params],
        [_VALUE_TYPES[name]() for name in kind.results],
    )


class PlainCell:
    """A ``Cell``."""

    def __init__(self, store: Store, instances: InstancePre, shape: Shape) -> None:
        self._store = store
        self._instances = instances
        self._shape = shape
        self._functions: dict[str, Func] = {}
        self._memory: Memory | None = None
        self._measured: Memory | None = None
        self._peak_bytes = 0

    def start(self) -> None:
        """Make the instance."""
        exports = self._instances.instantiate(self._store).exports(self._store)
        for name in exports:
            item = exports[name]
            if isinstance(item, Func):
                self._functions[name] = item
            elif isinstance(item, Memory):
                self._measured = item
                self._memory = item if name == MEMORY else self._memory
        self._peak_bytes = self._shape.least_memory_bytes

    def exports(self, name: str) -> bool:
        """Whether there is such a function."""
        return name in self._shape.functions

    def call(self, name: str, *numbers: Number) -> Number | None:
        """Call a function."""
        result: Number | None = self._functions[name](self._store, *numbers)
        return result

    def call_back(self, caller: object, name: str, *numbers: Number) -> Number | None:
        """Call a function from within a host function."""
        function = _require_caller(caller).get(name)
        if not isinstance(function, Func):
            raise TypeError(name)
        result: Number | None = function(self._store, *numbers)
        return result

    def find_memory(self, caller: object) -> bool:
        """Learn of the memory."""
        if self._memory is None:
            found = _require_caller(caller).get(MEMORY)
            self._memory = found if isinstance(found, Memory) else None
        return self._memory is not None

    def size_bytes(self) -> int:
        """The size of the memory."""
        return 0 if self._memory is None else self._memory.data_len(self._store)

    def peak_bytes(self) -> int:
        """The memory at its largest."""
        measured = self._measured or self._memory
        return self._peak_bytes if measured is None else measured.data_len(self._store)

    def read(self, pointer: int, length: int) -> bytes:
        """Copy out."""
        if self._memory is None:
            return b""
        return bytes(self._memory.read(self._store, pointer, pointer + length))

    def write(self, pointer: int, data: bytes) -> None:
        """Copy in."""
        if self._memory is not None:
            self._memory.write(self._store, bytearray(data), pointer)

    def get_fuel(self) -> int:
        """The fuel that is left."""
        return self._store.get_fuel()

    def set_fuel(self, units: int) -> None:
        """Replace it."""
        self._store.set_fuel(units)

    def close(self) -> None:
        """Free all of it."""
        self._store.close()


class PlainLink:
    """A ``Link``."""

    def __init__(self, engine: Engine, instances: InstancePre, shape: Shape) -> None:
        self._engine = engine
        self._instances = instances
        self._shape = shape

    def open(self, limits: Limits) -> PlainCell:
        """A new cell."""
        store = Store(self._engine)
        store.set_limits(
            memory_size=limits.mem_bytes,
            table_elements=limits.table_elements,
            instances=limits.instances,
            tables=limits.tables,
            memories=limits.memories,
        )
        store.set_epoch_deadline(1)
        return PlainCell(store, self._instances, self._shape)


class PlainWay:
    """A ``Way``."""

    @staticmethod
    def new_engine(config: Config) -> Engine:
        """An engine."""
        return Engine(config)

    new_wide_engine = new_engine

    @staticmethod
    def rest(_engine: Engine) -> None:
        """Let it go: it is interrupted before it is disarmed, or not at all."""

    @staticmethod
    def define(linker: Linker, place: tuple[str, str], kind: WasmType, crossing: Crossing) -> None:
        """Put a host function into a linker."""
        linker.define_func(*place, function_type(kind), crossing, access_caller=True)

    @staticmethod
    def link(engine: Engine, instances: InstancePre, shape: Shape) -> PlainLink:
        """Make a link."""
        return PlainLink(engine, instances, shape)


def _require_caller(caller: object) -> Caller:
    if not isinstance(caller, Caller):
        message = f"got {caller!r}, expected the caller that the host function was given"
        raise TypeError(message)
    return caller
