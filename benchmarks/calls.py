"""A call of 1 KB, string → string, beside the engine itself and beside extism; in turn, one run.

*Fresh* is a new instance for each call with every limit on, in a hot loop on one thread that
is not the main one; spans are off, as nobody receives them. All guests copy the text in their
own memory. The C program does the same on the same engine library, without Python.
"""

import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import extism_sys
from extism.extism import CompiledPlugin
from extism.extism import Plugin as Extism
from wasmtime import Config, Engine, Func, Linker, Memory, Module, Store, _ffi, wat2wasm

from benchmarks.figures import report
from sandbox import Plugin
from support.sandbox import admit, loaded

TEXT = "x" * 1024
ROUNDS, CALLS, WARM_UP = 15, 1000, 200
FUEL = 10_000_000
MAX_C, MAX_EXTISM, MAX_EXTISM_FRESH, MAX_EXTISM_FUEL, MIN_PUBLIC = 2.0, 2.2, 0.2, 1.2, 6

GUEST = """(module (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 1024))
  (func $alloc (export "alloc") (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (global.get $heap) (local.get $len)))
    (local.get $at))
  (func (export "run") (param $from i32) (param $len i32) (result i64)
    (local $to i32)
    (local.set $to (call $alloc (local.get $len)))
    (memory.copy (local.get $to) (local.get $from) (local.get $len))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $to)) (i64.const 32))
            (i64.extend_i32_u (local.get $len))))
  {more})"""
DEALLOC = """(func (export "dealloc") (param i32 i32) (global.set $heap (i32.const 1024)))"""

# As its plug-in kit does: words of the input into the guest's memory, words of it out again.
EXTISM_GUEST = """(module
  (import "extism:host/env" "input_length" (func $length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $load (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 2)
  (func (export "run") (result i32)
    (local $len i64) (local $at i64) (local $to i64)
    (local.set $len (call $length))
    (loop $in
      (i64.store (i32.wrap_i64 (local.get $at)) (call $load (local.get $at)))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $in (i64.lt_u (local.get $at) (local.get $len))))
    (local.set $to (call $alloc (local.get $len)))
    (local.set $at (i64.const 0))
    (loop $out
      (call $store (i64.add (local.get $to) (local.get $at))
                   (i64.load (i32.wrap_i64 (local.get $at))))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $out (i64.lt_u (local.get $at) (local.get $len))))
    (call $output (local.get $to) (local.get $len))
    (i32.const 0)))"""

BUSY = """(module (func (export "run") (param $n i32)
  (loop (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if 0 (local.get $n)))))"""
BUSY_LOOPS, BUSY_CALLS, MIN_GAIN = 5_000_000, 5, 1.8

Call = Callable[[], object]


def main() -> bool:
    """Run; returns whether the figures are met."""
    results = list[bool]()
    thread = threading.Thread(target=lambda: results.append(_measure()))
    thread.start()
    thread.join()
    return results == [True]


def _measure() -> bool:
    with ExitStack() as stack:
        fresh = stack.enter_context(loaded(GUEST.format(more="")))
        reused = stack.enter_context(loaded(GUEST.format(more=DEALLOC), instance='"reused"'))
        engine = stack.enter_context(_c_program())
        compiled = CompiledPlugin(bytes(wat2wasm(EXTISM_GUEST)))
        contestants: dict[str, Call] = {
            "fresh": _ours(fresh),
            "reused": _ours(reused),
            "public": _public_api(),
            "extism": _extism(Extism(compiled)),
            "extism fuel": _extism(_with_fuel()),
            "extism fresh": lambda: Extism(compiled).call("run", TEXT.encode()),
        }
        for name, call in contestants.items():
            assert call() in {TEXT, TEXT.encode()}, name
        times: dict[str, list[float]] = {name: [] for name in [*contestants, "C", "C pooled"]}
        for _ in range(ROUNDS):
            for name, call in contestants.items():
                times[name].append(_median_us(call))
            if engine:
                times["C"].append(engine(pooled=False))
                times["C pooled"].append(engine(pooled=True))
    met = _report({name: statistics.median(us) for name, us in times.items() if us})
    return _side_by_side() and met


def _report(us: dict[str, float]) -> bool:
    def ratio(name: str, ours: str, theirs: str, most: float) -> bool:
        if theirs not in us:
            return report(name, "no C compiler", f"≤ {most}", met=True)
        value = us[ours] / us[theirs]
        shown = f"{value:.2f} ({us[ours]:.1f} µs / {us[theirs]:.1f} µs)"
        return report(name, shown, f"≤ {most}", met=value <= most)

    met = ratio("fresh call / plain C on the same engine", "fresh", "C", MAX_C)
    if "C pooled" in us:
        shown = f"{us['fresh'] / us['C pooled']:.2f} ({us['C pooled']:.1f} µs)"
        report("fresh call / plain C with a pool like ours", shown, "no figure", met=True)
    met = ratio("fresh call / extism, reused, no fuel", "fresh", "extism", MAX_EXTISM) and met
    met = ratio("fresh call / extism, fresh", "fresh", "extism fresh", MAX_EXTISM_FRESH) and met
    faster = us["public"] / us["fresh"]
    shown = f"{faster:.1f} × ({us['public']:.1f} µs)"
    wanted = f"≥ {MIN_PUBLIC} ×"
    met = (
        report("fresh call, faster than the public API", shown, wanted, met=faster >= MIN_PUBLIC)
        and met
    )
    return (
        ratio("reused call / extism, reused, fuel", "reused", "extism fuel", MAX_EXTISM_FUEL)
        and met
    )


def _side_by_side() -> bool:
    """Two threads on a guest that computes, beside one that makes the same calls."""
    with loaded(BUSY, admit(fuel_units=2**62)) as plugin:

        def work(calls: int) -> None:
            for _ in range(calls):
                plugin.call("run", [BUSY_LOOPS])

        gains = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            work(2 * BUSY_CALLS)
            alone_s = time.perf_counter() - began
            threads = [threading.Thread(target=work, args=(BUSY_CALLS,)) for _ in range(2)]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            gains.append(alone_s / (time.perf_counter() - began))
    gain = statistics.median(gains)
    name = "two threads on a guest that computes / one"
    return report(name, f"{gain:.2f} ×", f"≥ {MIN_GAIN} ×", met=gain >= MIN_GAIN)


def _median_us(call: Call) -> float:
    for _ in range(WARM_UP):
        call()
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - began)
    return statistics.median(taken) / 1e3


def _ours(plugin: Plugin) -> Call:
    return lambda: plugin.call("run", [TEXT]).value


def _public_api() -> Call:
    """The same by wasmtime's public API, written down plainly."""
    config = Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    engine = Engine(config)
    linker = Linker(engine)
    module = Module(engine, bytes(wat2wasm(GUEST.format(more=""))))

    def call() -> str:
        store = Store(engine)
        store.set_limits(268_435_456, 1_000_000, 1, 8, 1)
        store.set_fuel(FUEL)
        store.set_epoch_deadline(1)
        exports = linker.instantiate(store, module).exports(store)
        memory, alloc, run = exports["memory"], exports["alloc"], exports["run"]
        assert isinstance(memory, Memory)
        assert isinstance(alloc, Func)
        assert isinstance(run, Func)
        data = TEXT.encode()
        at = alloc(store, len(data))
        memory.write(store, data, at)
        packed = run(store, at, len(data))
        start, length = packed >> 32, packed & 0xFFFF_FFFF
        text = memory.read(store, start, start + length).decode()
        store.get_fuel()
        store.close()
        return text

    return call


def _extism(plugin: Any) -> Call:
    data = TEXT.encode()
    return lambda: plugin.call("run", data)


def _with_fuel() -> Any:
    """A plugin with a fuel limit, which extism's Python class has no parameter for."""
    wasm = bytes(wat2wasm(EXTISM_GUEST))
    error = extism_sys.ffi.new("char**")
    plugin = Extism.__new__(Extism)
    plugin.plugin = extism_sys.lib.extism_plugin_new_with_fuel_limit(
        wasm, len(wasm), extism_sys.ffi.NULL, 0, 0, FUEL, error
    )
    assert plugin.plugin != extism_sys.ffi.NULL, extism_sys.ffi.string(error[0])
    return plugin


@contextmanager
def _c_program() -> Iterator[Callable[..., float] | None]:
    """Runs the C program; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as name:
        folder, library = Path(name), Path(_ffi.filename)
        (folder / "guest.wasm").write_bytes(wat2wasm(GUEST.format(more="")))
        source = Path(__file__).with_name("plain_call.c")
        command = [compiler, "-O2", str(source), str(library), f"-Wl,-rpath,{library.parent}"]
        subprocess.run([*command, "-o", str(folder / "plain_call")], check=True)

        def run(*, pooled: bool) -> float:
            done = subprocess.run(
                [str(folder / "plain_call"), "guest.wasm", str(CALLS), str(int(pooled))],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            return float(done.stdout)

        yield run


if __name__ == "__main__":
    raise SystemExit(not main())
