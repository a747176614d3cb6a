"""WASI preview 1 is the sandbox's own: no call of it is free, and all answer as elsewhere."""

import re
from collections.abc import Iterator, Sequence

import pytest
from wasmtime import Engine, Func, Linker, Memory, Module, Store, WasiConfig, wat2wasm

from sandbox import FuelExhausted, Plugin
from sandbox.capabilities import WASI_IMPORTS, WASI_MODULE
from sandbox.isolate.process import ProcessRunner
from sandbox.worker import _WASI
from support.sandbox import admit, plugin_files, sandbox

ENDING = {"proc_exit", "proc_raise"}
CALLS = {name: kind.params for name, (kind, _) in _WASI.items() if name not in ENDING}
OTHERWISE = {"clock_time_get", "fd_pwrite", "fd_renumber", "fd_write", "poll_oneoff", "random_get"}
"""Those whose answers are another host's by their nature, or that are refused here."""

# Each call as an export, and as a loop without end; of its numbers the last ones point at room.
MODULE = '(module {} (memory (export "memory") 1) {})'.format(
    " ".join(
        f'(import "{WASI_MODULE}" "{name}" (func ${name} (param {" ".join(params)}) (result i32)))'
        for name, params in CALLS.items()
    ),
    " ".join(
        f"""(func (export "{name}") (param {" ".join(params)}) (result i32)
          (call ${name} {" ".join(f"(local.get {place})" for place in range(len(params)))}))
        (func (export "{name} for ever") (loop
          (drop (call ${name} {" ".join(f"({word}.const 0)" for word in params)})) (br 0)))"""
        for name, params in CALLS.items()
    )
    + """(func (export "run")) (func (export "all") (result i64) (i64.const 65536))""",
)
EXPORTS = (
    "".join(
        f'[exports.{name}]\nparams = {list(params)}\nresult = "i32"\n'
        for name, params in CALLS.items()
    )
    + '[exports.all]\nparams = []\nresult = "bytes"\n[settings]\nword = "x=é"\nnumber = 7\n'
)
ROOM = 1024


@pytest.fixture
def plugin(isolation: str) -> Iterator[Plugin]:  # noqa: ARG001
    """All of the calls, without files."""
    with sandbox(admit(fuel_units=1_000_000)) as box:
        yield box.load(plugin_files(MODULE, EXPORTS, instance='"reused"'))


def test_all_of_preview_1_is_ours_and_has_the_type_that_it_has_elsewhere() -> None:
    """Every call that can be imported, and none that can't."""
    engine = Engine()
    linker, store = Linker(engine), Store(engine)
    linker.define_wasi()
    assert set(_WASI) == WASI_IMPORTS
    for name, (ours, _) in _WASI.items():
        theirs = linker.get(store, WASI_MODULE, name)
        assert isinstance(theirs, Func)
        kind = theirs.type(store)
        assert ours.params == tuple(map(str, kind.params)), name
        assert ours.results == tuple(map(str, kind.results)), name


def test_no_call_is_free(plugin: Plugin) -> None:
    """Whoever calls one for ever runs out of fuel, and nearly all of it by what the host did."""
    for name in CALLS:
        with pytest.raises(FuelExhausted) as caught:
            plugin.call(f"{name} for ever")
        found = re.search(r"(\d+) of them in host functions", str(caught.value))
        assert found is not None, name
        assert int(found[1]) > 900_000, name


def numbers_for(name: str, params: Sequence[str]) -> Iterator[list[int]]:
    """Numbers that a program might pass: each descriptor, and room for each answer."""
    places = [ROOM + 64 * place for place in range(len(params))]
    numbers = [0 if word == "i64" else place for word, place in zip(params, places, strict=True)]
    if name.startswith(("args_", "environ_")):
        yield numbers
    elif name.startswith("clock_"):
        yield from ([clock, *numbers[1:]] for clock in range(4))
    elif params:
        for descriptor in (0, 1, 2, 3, 4, -1):
            yield [descriptor, *(0 for _ in params[1:-1]), *numbers[1:][-1:]]
            yield [descriptor] + [0] * (len(params) - 1)
    else:
        yield []


def test_without_files_each_call_answers_as_the_engines_own(plugin: Plugin) -> None:
    """The same number, and the same in memory, for each descriptor there might be."""
    engine = Engine()
    linker, module = Linker(engine), Module(engine, bytes(wat2wasm(MODULE)))
    linker.define_wasi()
    compared = 0
    for name, params in CALLS.items():
        for numbers in [] if name in OTHERWISE else numbers_for(name, params):
            store = Store(engine)
            config = WasiConfig()
            config.argv = ["hello"]
            config.env = [("SC_SETTING_WORD", "x=é"), ("SC_SETTING_NUMBER", "7")]
            store.set_wasi(config)
            exports = linker.instantiate(store, module).exports(store)
            theirs, memory = exports[name], exports["memory"]
            assert isinstance(theirs, Func)
            assert isinstance(memory, Memory)
            try:
                expected = theirs(store, *numbers)
            except Exception:  # noqa: BLE001, S112 - a flag that there is none of: it traps there
                continue
            assert plugin.call(name, numbers).value == expected, (name, numbers)
            whole = plugin.call("all").value
            assert isinstance(whole, bytes)
            assert whole == bytes(memory.read(store, 0, 65_536)), (name, numbers)
            begin_anew(plugin)
            compared += 1
    assert compared > 300


def begin_anew(plugin: Plugin) -> None:
    """Have the next call find a memory that nothing was written to."""
    runner = plugin._runner
    if isinstance(runner, ProcessRunner):
        runner.keeper.rest(float("inf"), 0.0)
    else:
        runner._instances._discard()  # type: ignore[attr-defined]
