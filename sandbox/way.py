"""Which way the sandbox speaks with the engine: ``raw`` where it proved itself, else ``plain``."""

import ctypes
import functools
import logging
from importlib.metadata import version

from wasmtime import Config, Linker, Module, Trap, _ffi

from sandbox.cell import Cell, Number, Way
from sandbox.limits import Limits
from sandbox.plain import PlainWay
from sandbox.shape import Shape
from sandbox.signature import WasmType

_LOG = logging.getLogger("stack_composer.sandbox")

_MAJOR = "50"

_ALL = WasmType(("i32", "i64", "f32", "f64"), ("i64",))
# (module
#   (import "a" "b" (func $b (param i32 i64 f32 f64) (result i64)))
#   (memory (export "memory") 1)
#   (func (export "run") (param i32 i64 f32 f64) (result i64)
#     (call $b (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
#   (func (export "trap") unreachable))
_TRIAL = bytes.fromhex(
    "0061736d01000000010c0260047f7e7d7c017e6000000207010161016200000303020001050301000107"
    "1703066d656d6f727902000372756e0001047472617000020a12020c00200020012002200310000b0300"
    "000b000b046e616d65010401000162"
)
_SHAPE = Shape((), {"run": _ALL, "trap": WasmType((), ())}, memory="memory")
_NUMBERS = (-7, 2**40, 0.5, -1e300)
_FUEL = 1000


@functools.cache
def best() -> Way:
    """The faster way, if it is one with the installed wasmtime."""
    try:
        if version("wasmtime").partition(".")[0] == _MAJOR:
            from sandbox import library
            from sandbox.raw import RawWay

            sizes = {
                name: ctypes.sizeof(getattr(_ffi, f"wasmtime_{name}_t")) for name in library.SIZES
            }
            way = RawWay()
            if sizes == library.SIZES and trial(way) == trial(PlainWay()):
                return way
        reason = "it is another wasmtime, or answers otherwise than its public API"
    except Exception as error:  # noqa: BLE001  # whatever it is, there is another way
        reason = repr(error)
    _LOG.warning("calls of plugins are slower than they could be: %s", reason)
    return PlainWay()


def trial(way: Way) -> list[object]:
    """What comes of real calls: values in both directions, memory, fuel, a trap."""
    config = Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.parallel_compilation = False  # threads that a process might fork beside
    engine = way.new_engine(config)
    linker = Linker(engine)
    seen: list[object] = []
    cells: list[Cell] = []  # not the cell: the library keeps the function, and so what it knows

    def host(caller: object, *numbers: Number) -> int:
        seen.extend(numbers)
        seen.append(cells[0].find_memory(caller))
        seen.append(cells[0].get_fuel())
        return -2

    way.define(linker, ("a", "b"), _ALL, host)
    link = way.link(engine, linker.instantiate_pre(Module(engine, _TRIAL)), _SHAPE)
    cell = link.open(Limits(mem_bytes=65536))
    cells.append(cell)
    cell.set_fuel(_FUEL)
    cell.start()
    seen.append(cell.call("run", *_NUMBERS))
    cell.write(65531, b"a\0b")
    seen.extend((cell.size_bytes(), cell.read(65530, 6)))
    try:
        cell.call("trap")
    except Trap as trap:
        seen.append(trap.trap_code)
    seen.append(cell.get_fuel())
    cells.pop().close()
    return seen
