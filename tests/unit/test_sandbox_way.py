"""The two ways to the engine: the fast one is taken where it proved itself, and only there."""

import gc
import logging
import math
import subprocess
import sys

import pytest
from wasmtime import Linker, Module, Trap, WasmtimeError, wat2wasm

from sandbox import CallError, Limits, library, pool, raw, way
from sandbox.cell import Cell, Way
from sandbox.engine import new_engine
from sandbox.module import shape_of
from sandbox.plain import PlainWay
from sandbox.raw import RawCell, RawWay
from sandbox.signature import WasmType
from support.sandbox import admit, host_call, loaded

HOST_CALL = host_call("host_retrieval_search", "(param i32 i32 i32)", "(i32.const 0)" * 3)
WAYS = pytest.mark.parametrize("route", [RawWay(), PlainWay()], ids=["raw", "plain"])

ECHOES = """(module (memory (export "memory") 1)
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "last") (param f32 i64 f64 i32) (result i32) (local.get 3))
  (func (export "many") (result i32 i32) (i32.const 1) (i32.const 2))
  (func (export "fill") (drop (memory.grow (i32.const 40)))
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 2686976))))"""


def opened(route: Way, wat: str = ECHOES, **limits: int) -> Cell:
    """A cell with fuel, its instance made."""
    engine = new_engine(route.new_engine)
    module = Module(engine, bytes(wat2wasm(wat)))
    instances = Linker(engine).instantiate_pre(module)
    cell = route.link(engine, instances, shape_of(module, name="x")).open(Limits(**limits))
    cell.set_fuel(10_000_000)
    cell.start()
    return cell


@pytest.fixture(autouse=True)
def chosen_anew() -> None:
    """Each test chooses for itself."""
    way.best.cache_clear()


def test_the_fast_way_is_taken() -> None:
    """With the wasmtime that we pin, calls go by its library."""
    assert isinstance(way.best(), RawWay)


def test_another_wasmtime_is_spoken_with_by_its_public_api(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A version that we don't know, other structures or a library without the function."""
    monkeypatch.setattr(way, "version", lambda _: "51.0.0")
    with caplog.at_level(logging.WARNING):
        assert isinstance(way.best(), PlainWay)
    assert "slower" in caplog.text
    monkeypatch.undo()
    way.best.cache_clear()
    monkeypatch.setattr(library, "SIZES", {"extern": 31})
    assert isinstance(way.best(), PlainWay)


def test_a_fast_way_that_answers_otherwise_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The trial compares real calls; one that fails is told as well."""
    monkeypatch.setattr(RawCell, "get_fuel", lambda _: 7)
    assert isinstance(way.best(), PlainWay)
    way.best.cache_clear()
    monkeypatch.setattr(RawCell, "start", lambda _: 1 / 0)
    assert isinstance(way.best(), PlainWay)
    assert "ZeroDivisionError" in caplog.text


@WAYS
def test_numbers_cross_as_they_are(route: Way) -> None:
    """Integers come back signed, floats in their precision, whatever stands beside them."""
    cell = opened(route)
    assert [cell.call("i32", n) for n in (-1, 2**32 - 1, 2**31 - 1)] == [-1, -1, 2**31 - 1]
    assert [cell.call("i64", n) for n in (-1, 2**64 - 1, 2**63 - 1)] == [-1, -1, 2**63 - 1]
    assert cell.call("f32", 0.5) == 0.5
    assert cell.call("f32", 1e300) == math.inf
    assert cell.call("f64", -1e300) == -1e300
    assert cell.call("last", 0.5, -1, 1e300, -7) == -7
    cell.close()


@WAYS
def test_a_closed_cell_has_nothing_left_to_misuse(route: Way) -> None:
    """Closing twice is fine; all else is refused, where a stale pointer would end the process."""
    cell = opened(route)
    cell.call("fill")
    assert cell.size_bytes() == 41 << 16
    cell.close()
    cell.close()
    for use in (cell.get_fuel, cell.start, lambda: cell.call("i32", 1), lambda: cell.read(0, 1)):
        with pytest.raises((ValueError, AttributeError)):
            use()


@WAYS
def test_the_next_instance_finds_clean_memory(route: Way) -> None:
    """What a guest left in a memory that is used again is not there any more."""
    engine = new_engine(route.new_engine)
    module = Module(engine, bytes(wat2wasm(ECHOES)))
    link = route.link(engine, Linker(engine).instantiate_pre(module), shape_of(module, name="x"))
    for _ in range(3):
        cell = link.open(Limits())
        cell.set_fuel(10_000_000)
        cell.start()
        assert cell.size_bytes() == 65536
        assert cell.read(0, 65536) == bytes(65536)
        cell.call("fill")
        assert cell.read(0, 2686976) == b"\1" * 2686976
        cell.close()


@WAYS
def test_what_can_not_be_called_is_refused(route: Way) -> None:
    """Several results, the wrong number of arguments, no fuel at all."""
    cell = opened(route)
    for name, numbers in (("i32", ()), ("i32", (1, 2)), ("nothing", ())):
        with pytest.raises((KeyError, ValueError, TypeError, WasmtimeError)):
            cell.call(name, *numbers)
    cell.close()


def test_without_room_for_a_pool_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many engines, or little address space, instances get memory of their own."""
    monkeypatch.setattr(pool, "_MOST_POOLS", 0)
    cell = opened(RawWay())
    assert cell.call("i32", 7) == 7
    cell.close()
    monkeypatch.undo()
    monkeypatch.setattr(pool, "_RESERVED_BYTES", 1 << 62)
    cell = opened(RawWay())
    assert cell.call("i32", 8) == 8
    cell.close()


def test_a_module_that_fits_into_no_pool_is_linked_all_the_same() -> None:
    """What a guest meets is the limits of its call, by either way: more tables, longer ones."""
    for tables, refused in (
        ("(table 1 funcref)" * 9, "too high"),
        ("(table 1000001 funcref)", "needs more memory"),
    ):
        wat = f'(module {tables} (func (export "run") (result i32) (i32.const 7)))'
        with loaded(wat) as plugin, pytest.raises(CallError, match=refused):
            plugin.call()
        with loaded(wat, admit(tables=9, table_elements=1_000_001)) as plugin:
            assert plugin.call().value == 7


def test_where_no_memory_may_be_written_to_there_is_no_pool() -> None:
    """An engine is made without one where the operating system caps what a process may have."""
    code = """
import resource
from wasmtime import Config
from sandbox import pool
from pathlib import Path
def mapped():
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (mapped() + pool.WRITABLE_BYTES // 2,) * 2)
engines = [pool.new_engine(Config()) for _ in range(3)]
print(pool._pools.add(0))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "0\n"


def test_a_pool_goes_with_its_engine() -> None:
    """Engines that are gone do not count."""
    gc.collect()
    before = pool._pools.add(0)
    engines = [new_engine(pool.new_engine) for _ in range(3)]
    assert pool._pools.add(0) == before + 3
    del engines
    gc.collect()
    assert pool._pools.add(0) == before


def test_host_functions_go_with_their_engine() -> None:
    """What the library calls back is kept as long as it can be called, and no longer."""
    gc.collect()
    before = len(raw._crossings)
    with loaded(HOST_CALL, admit("retrieval"), capabilities='["retrieval"]') as plugin:
        plugin.call()
        assert len(raw._crossings) == before + 1
    del plugin
    gc.collect()
    assert len(raw._crossings) == before


def test_nothing_leaves_a_host_function(capfd: pytest.CaptureFixture[str]) -> None:
    """An error below our own border is a trap, and not a line on somebody's stderr."""
    engine = new_engine(RawWay().new_engine)
    module = Module(engine, bytes(wat2wasm('(module (import "a" "b" (func)) (start 0))')))
    linker = Linker(engine)
    RawWay.define(linker, ("a", "b"), WasmType((), ()), lambda _: 1 // 0)
    shape = shape_of(module, name="x")
    cell = RawWay().link(engine, linker.instantiate_pre(module), shape).open(Limits())
    cell.set_fuel(1000)
    with pytest.raises((Trap, WasmtimeError), match="host function"):
        cell.start()
    cell.close()
    assert capfd.readouterr().err == ""
