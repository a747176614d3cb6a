"""Guests that mean harm: each ends in a typed error, within its limits, and takes nothing along."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import (
    BadModule,
    CapabilityDenied,
    DeadlineExceeded,
    FuelExhausted,
    GuestTrap,
    IncompatibleError,
    LogRecord,
    MemoryExceeded,
    MissingExport,
    SandboxError,
)
from support.sandbox import BUMP, ECHO, admit, loaded, plugin_files, sandbox

pytestmark = pytest.mark.usefixtures("isolation", "unharmed")

ENDLESS = "(loop (br 0))"
EVER = 2**62
"""Fuel that no test uses up: only the deadline ends the guest."""

WASI = "wasi_snapshot_preview1"
FD_WRITE = f'(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
POLL = f'(import "{WASI}" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))'
LOG = '(import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))'
SEARCH = (
    '(import "stack_composer_v1" "host_retrieval_search"'
    " (func $search (param i32 i32 i32) (result i64)))"
)


@pytest.mark.parametrize(
    "wat",
    [
        f'(module (func (export "run") {ENDLESS}))',
        f'(module (func $s {ENDLESS}) (start $s) (func (export "run")))',
        f'(module (func (export "_initialize") {ENDLESS}) (func (export "run")))',
        """(module (memory 64) (func (export "run") (loop
          (memory.fill (i32.const 0) (i32.const 1) (i32.const 4194304)) (br 0))))""",
    ],
    ids=["function", "start function", "_initialize", "bulk memory"],
)
def test_an_endless_loop_ends_by_fuel_and_by_deadline(wat: str) -> None:
    """Wherever it hides, it ends with its fuel, or at its deadline if the fuel is large."""
    with loaded(wat, admit(fuel_units=100_000)) as plugin, pytest.raises(FuelExhausted) as fuel:
        plugin.call()
    assert fuel.value.stats.fuel_used == 100_000
    assert fuel.value.plugin_id == "org.example.hello"
    admission = admit(fuel_units=EVER, wall_timeout_ms=50)
    with loaded(wat, admission) as plugin, pytest.raises(DeadlineExceeded) as late:
        plugin.call()
    assert late.value.stats.took_ms >= 50


def test_a_loop_in_alloc_ends() -> None:
    """An ``alloc`` that never returns is under the call's limits, also from a host function."""
    wat = f"""(module {SEARCH} (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) {ENDLESS} unreachable)
      (func (export "run") (param i32 i32) (result i64) (i64.const 0))
      (func (export "ask") (result i64)
        (call $search (i32.const 0) (i32.const 0) (i32.const 0))))"""
    with loaded(wat, admit("retrieval"), capabilities='["retrieval"]') as plugin:
        with pytest.raises(FuelExhausted):
            plugin.call("run", ["text"])
        with pytest.raises(FuelExhausted):
            plugin.call("ask")


@pytest.mark.parametrize(("timeout_ns", "flags"), [(60 * 10**9, 0), (2**64 - 1, 0), (2**63, 1)])
def test_a_sleep_ends_at_the_deadline(timeout_ns: int, flags: int) -> None:
    """``poll_oneoff`` sleeps no longer than the call may take, for absolute times too."""
    wat = f"""(module {POLL} (memory (export "memory") 1)
      (func (export "run")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const {timeout_ns}))
        (i32.store16 (i32.const 40) (i32.const {flags}))
        (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))"""
    started_s = time.monotonic()
    with loaded(wat, admit(wall_timeout_ms=50)) as plugin, pytest.raises(DeadlineExceeded):
        plugin.call()
    assert time.monotonic() - started_s < 50


def test_a_short_sleep_is_slept_and_reported() -> None:
    """A wait that fits is waited for; descriptors are ready at once, rubbish is refused."""
    wat = f"""(module {POLL} (memory (export "memory") 1)
      (func $ask (param $count i32) (result i32)
        (call $poll (i32.const 0) (i32.const 100) (local.get $count) (i32.const 200)))
      (func (export "clock") (result i32)
        (i64.store (i32.const 0) (i64.const 77))
        (i64.store (i32.const 24) (i64.const 1000000))
        (if (call $ask (i32.const 1)) (then unreachable))
        (i32.add (i32.load (i32.const 100)) (i32.load (i32.const 200))))
      (func (export "file") (result i32)
        (i32.store8 (i32.const 8) (i32.const 1))
        (i64.store (i32.const 72) (i64.const -1))
        (if (call $ask (i32.const 2)) (then unreachable))
        (i32.load (i32.const 200)))
      (func (export "rubbish") (result i32)
        (i32.store8 (i32.const 8) (i32.const 9)) (call $ask (i32.const 1)))
      (func (export "run") (result i32) (call $ask (i32.const 0)))
      (func (export "many") (result i32) (call $ask (i32.const -1))))"""
    with loaded(wat) as plugin:
        assert plugin.call("clock").value == 78
        assert plugin.call("file").value == 1
        assert plugin.call("rubbish").value == 28
        assert plugin.call("run").value == 28
        assert plugin.call("many").value == 28


def test_a_guest_that_returns_late_is_late() -> None:
    """A slow host callback counts, even where the guest returns right after it."""
    wat = f"""(module {LOG} (memory (export "memory") 1)
      (func (export "run") (call $log (i32.const 0) (i32.const 0) (i32.const 0))))"""
    late = pytest.raises(DeadlineExceeded)
    with loaded(wat, admit(wall_timeout_ms=20), on_log=_dawdle) as plugin, late:
        plugin.call()


def _dawdle(_: LogRecord) -> None:
    """Take longer than the 20 ms of the call that logs."""
    until_s = time.monotonic() + 0.03
    while time.monotonic() < until_s:
        pass


def test_a_memory_bomb_stops_at_the_limit() -> None:
    """A guest that grows until it can't and falls over has exceeded its memory."""
    wat = """(module (memory (export "memory") 1)
      (func (export "run") (loop
        (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))) unreachable)))"""
    with loaded(wat, admit(mem_bytes=1 << 20)) as plugin, pytest.raises(MemoryExceeded) as caught:
        plugin.call()
    assert caught.value.stats.memory_peak_bytes == 1 << 20


def test_a_memory_or_table_that_begins_too_large_is_refused() -> None:
    """A declared minimum over the limit is MemoryExceeded, in the probe already."""
    wat = '(module (memory (export "memory") 17) (func (export "run")))'
    with loaded(wat, admit(mem_bytes=1 << 20)) as plugin, pytest.raises(MemoryExceeded):
        plugin.probe()
    table = '(module (table 1001 funcref) (func (export "run")))'
    with loaded(table, admit(table_elements=1000)) as plugin, pytest.raises(MemoryExceeded):
        plugin.probe()


@pytest.mark.parametrize(
    "wat",
    [
        '(module (memory 1) (memory 1) (func (export "run")))',
        '(module (memory i64 1) (func (export "run")))',
        '(module (memory 1 2 shared) (func (export "run")))',
        '(module (tag $e) (func (export "run") (throw $e)))',
    ],
    ids=["many memories", "64 bits", "shared", "exceptions"],
)
def test_memory_that_the_limit_does_not_cover_is_refused(wat: str) -> None:
    """Features that would hold memory beside the limit are not in the language."""
    with sandbox() as box, pytest.raises(BadModule, match="not a valid module"):
        box.load(plugin_files(wat))


def test_deep_recursion_is_a_trap() -> None:
    """A stack without end is STACK_OVERFLOW and not the end of the process."""
    with loaded('(module (func $f (export "run") (call $f)))') as plugin:
        with pytest.raises(GuestTrap) as caught:
            plugin.call()
        assert caught.value.code == "STACK_OVERFLOW"
        with ThreadPoolExecutor(1) as pool, pytest.raises(GuestTrap):
            pool.submit(plugin.call).result()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("unreachable", "UNREACHABLE"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "INTEGER_DIVISION_BY_ZERO"),
        ("(drop (i32.load (i32.const -1)))", "MEMORY_OUT_OF_BOUNDS"),
        ("(call_indirect (i32.const 0))", "INDIRECT_CALL_TO_NULL"),
    ],
)
def test_a_trap_has_its_name(body: str, code: str) -> None:
    """Each trap comes out with the code that wasm gives it."""
    wat = f'(module (memory 1) (table 1 funcref) (func (export "run") {body}))'
    with loaded(wat) as plugin, pytest.raises(GuestTrap, match=code) as caught:
        plugin.call()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("pointer", "length"), [(65_536, 1), (-1, 1), (0, 65_537), (0, -1), (-1, -1), (65_535, 2)]
)
@pytest.mark.parametrize("function", ["log", "write", "result"])
def test_a_pointer_out_of_bounds_is_a_trap(function: str, pointer: int, length: int) -> None:
    """Unsigned pointers and lengths are checked together, wherever the host follows one."""
    wat = f"""(module {LOG} {FD_WRITE} (memory (export "memory") 1)
      (func (export "log") (call $log (i32.const 0) (i32.const {pointer}) (i32.const {length})))
      (func (export "write")
        (i32.store (i32.const 0) (i32.const {pointer}))
        (i32.store (i32.const 4) (i32.const {length}))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "result") (result i64)
        (i64.or (i64.shl (i64.const {pointer}) (i64.const 32))
                (i64.extend_i32_u (i32.const {length})))))"""
    admission = admit(output_bytes=EVER)
    with loaded(wat, admission, entry='"log"') as plugin, pytest.raises(GuestTrap) as caught:
        plugin.call(function)
    assert caught.value.code == "MEMORY_OUT_OF_BOUNDS"


def test_host_calls_without_a_memory_are_a_trap() -> None:
    """A module that exports no memory can't pass pointers."""
    wat = f"""(module {LOG} (memory 1) (func (export "run")
      (call $log (i32.const 0) (i32.const 0) (i32.const 1))))"""
    with loaded(wat) as plugin, pytest.raises(GuestTrap) as caught:
        plugin.call()
    assert caught.value.code == "NO_MEMORY"


def test_text_that_is_not_utf8_is_a_trap() -> None:
    """Bad UTF-8 in a message or a result is INVALID_UTF8."""
    wat = f"""(module {LOG} {BUMP} (data (i32.const 0) "\\ff\\fe")
      (func (export "run") (result i64) (i64.const 2))
      (func (export "log") (call $log (i32.const 0) (i32.const 0) (i32.const 2))))"""
    with loaded(wat) as plugin:
        for func in ("run", "log"):
            with pytest.raises(GuestTrap) as caught:
                plugin.call(func)
            assert caught.value.code == "INVALID_UTF8"


@pytest.mark.parametrize(
    ("pointer", "error"), [("0", MemoryExceeded), ("65536", GuestTrap), ("-4", GuestTrap)]
)
@pytest.mark.parametrize("func", ["run", "ask"])
def test_an_alloc_that_lies_is_caught(func: str, pointer: str, error: type[SandboxError]) -> None:
    """A null or an address outside of the memory is refused before a byte is written."""
    wat = f"""(module {SEARCH} (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) (i32.const {pointer}))
      (func (export "run") (param i32 i32) (result i64) (i64.const 0))
      (func (export "ask") (result i64)
        (call $search (i32.const 0) (i32.const 0) (i32.const 0))))"""
    args = ["long text"] if func == "run" else []
    admission = admit("retrieval")
    with loaded(wat, admission, capabilities='["retrieval"]') as plugin, pytest.raises(error):
        plugin.call(func, args)


def test_an_alloc_that_calls_back_is_stopped() -> None:
    """``alloc`` within a host function may not call one that needs ``alloc``."""
    wat = f"""(module {SEARCH} (memory (export "memory") 1)
      (func $ask (export "run") (result i64)
        (call $search (i32.const 0) (i32.const 0) (i32.const 0)))
      (func (export "alloc") (param i32) (result i32) (drop (call $ask)) (i32.const 8)))"""
    trap = pytest.raises(GuestTrap, match="cannot answer within alloc")
    with loaded(wat, admit("retrieval"), capabilities='["retrieval"]') as plugin, trap as caught:
        plugin.call()
    assert caught.value.code == "REENTRANT_CALL"


def test_a_result_over_the_limit_is_not_taken() -> None:
    """Neither a packed result nor a command's stdout is copied past ``output_bytes``."""
    wat = f"""(module {FD_WRITE} (memory (export "memory") 1)
      (func (export "run") (result i64) (i64.const 1001))
      (func (export "_start")
        (i32.store (i32.const 4) (i32.const 600))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    with loaded(wat, admit(output_bytes=1000)) as plugin:
        for func in ("run", "_start"):
            with pytest.raises(GuestTrap) as caught:
                plugin.call(func)
            assert caught.value.code == "OUTPUT_TOO_LONG"


@pytest.mark.parametrize("moved", [(1, 0), (1, 3), (2, 1), (0, 1)])
def test_moved_descriptors_do_not_reach_our_streams(
    moved: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    """``fd_renumber`` is refused, and writes elsewhere than 1 and 2 are EBADF."""
    wat = f"""(module {FD_WRITE}
      (import "{WASI}" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 64) "leak")
      (func (export "run") (result i32)
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 4))
        (if (i32.ne (call $renumber (i32.const {moved[0]}) (i32.const {moved[1]}))
            (i32.const 58)) (then unreachable))
        (call $write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))))"""
    with loaded(wat, admit(log=False)) as plugin:
        assert plugin.call().value == 8
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_streams_never_reach_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """All that a guest writes goes to the log; stdin is empty."""
    wat = f"""(module {FD_WRITE}
      (import "{WASI}" "fd_pwrite" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
      (import "{WASI}" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 64) "leak")
      (func (export "run") (result i32)
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 4))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $pwrite (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 8)))
        (i32.store (i32.const 8) (i32.const 99))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.load (i32.const 8))))"""
    with loaded(wat) as plugin:
        assert plugin.call().value == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_with_log_denied_every_way_to_speak_traps() -> None:
    """``host_log`` and both streams are denied; a command's stdout is its result."""
    wat = f"""(module {LOG} {FD_WRITE} (memory (export "memory") 1) (data (i32.const 64) "hi")
      (func $say (param i32)
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 2))
        (drop (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "log") (call $log (i32.const 0) (i32.const 64) (i32.const 2)))
      (func (export "out") (call $say (i32.const 1)))
      (func (export "err") (call $say (i32.const 2)))
      (func (export "_start") (call $say (i32.const 1))))"""
    records: list[LogRecord] = []
    with loaded(wat, admit(log=False), entry='"_start"', on_log=records.append) as plugin:
        for func in ("log", "out", "err"):
            with pytest.raises(CapabilityDenied) as caught:
                plugin.call(func)
            assert caught.value.capability == "log"
        assert plugin.call().value == "hi"
    assert records == []


def test_a_denial_can_not_be_survived() -> None:
    """After a denied call nothing that the guest does has an effect, and the first error counts."""
    wat = f"""(module {LOG} {SEARCH} (memory (export "memory") 1)
      (func (export "run") (result i32)
        (drop (call $search (i32.const 0) (i32.const 0) (i32.const 0)))
        (call $log (i32.const 0) (i32.const 0) (i32.const 0))
        (call $log (i32.const 0) (i32.const -1) (i32.const -1))
        (i32.const 0)))"""
    records: list[LogRecord] = []
    with loaded(wat, on_log=records.append) as plugin, pytest.raises(CapabilityDenied):
        plugin.call()
    assert records == []


def test_a_denial_ends_an_endless_guest() -> None:
    """A guest that goes on after a denied call is stopped then, not at its deadline."""
    wat = f"""(module {SEARCH} (memory (export "memory") 1)
      (func (export "run")
        (drop (call $search (i32.const 0) (i32.const 0) (i32.const 0))) {ENDLESS}))"""
    limits = admit(fuel_units=EVER, wall_timeout_ms=20_000)
    with loaded(wat, limits) as plugin, pytest.raises(CapabilityDenied) as caught:
        plugin.call()
    assert caught.value.stats.took_ms < 20_000


@pytest.mark.parametrize("length", [0, 60_000])
def test_a_log_flood_costs_fuel_and_is_cut(length: int) -> None:
    """Endless messages, empty or long, use up the fuel, and the log stays bounded."""
    wat = f"""(module {LOG} (memory (export "memory") 1)
      (func (export "run")
        (memory.fill (i32.const 0) (i32.const 97) (i32.const 60000))
        (loop (call $log (i32.const 2) (i32.const 0) (i32.const {length})) (br 0))))"""
    records: list[LogRecord] = []
    with (
        loaded(wat, admit(fuel_units=5_000_000, log_bytes=2000), on_log=records.append) as plugin,
        pytest.raises(FuelExhausted),
    ):
        plugin.call()
    assert len(records) <= 2001
    assert sum(len(record.message) for record in records) <= 2100


def test_escapes_do_not_reach_the_terminal() -> None:
    """Control characters from a stream are escaped, bad UTF-8 is replaced."""
    wat = f"""(module {FD_WRITE} (memory (export "memory") 1)
      (data (i32.const 64) "\\1b]0;owned\\07\\ff\\r\\n")
      (func (export "run")
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 13))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    records: list[LogRecord] = []
    with loaded(wat, on_log=records.append) as plugin:
        plugin.call()
    assert [record.message for record in records] == ["\\x1b]0;owned\\x07\ufffd\\r"]


def test_requests_of_host_functions_are_bounded() -> None:
    """Handles without end, text without NUL, and answers without ``alloc`` are refused."""
    wat = f"""(module {SEARCH}
      (import "stack_composer_v1" "host_llm_chat" (func $chat (param i32 i32) (result i64)))
      (import "env" "host_plan" (func $plan (param i32 i32) (result i64)))
      (memory (export "memory") 1)
      (func (export "run") (loop (drop (call $chat (i32.const 0) (i32.const 0))) (br 0)))
      (func (export "plan")
        (memory.fill (i32.const 0) (i32.const 97) (i32.const 65536))
        (drop (call $plan (i32.const 0) (i32.const 0))))
      (func (export "ask") (drop (call $search (i32.const 0) (i32.const 0) (i32.const 0)))))"""
    admission = admit("llm", "plan", "retrieval")
    with loaded(wat, admission, capabilities='["llm", "plan", "retrieval"]') as plugin:
        for func, code in (("run", "TOO_MANY_HANDLES"), ("plan", "MEMORY_OUT_OF_BOUNDS")):
            with pytest.raises(GuestTrap) as caught:
                plugin.call(func)
            assert caught.value.code == code
        with pytest.raises(MissingExport, match="does not export alloc"):
            plugin.call("ask")


def test_vectors_and_signals_are_bounded() -> None:
    """A crowd of write vectors is EINVAL, ``proc_raise`` is a trap."""
    wat = f"""(module {FD_WRITE}
      (import "{WASI}" "proc_raise" (func $raise (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (result i32)
        (call $write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 8)))
      (func (export "raise") (drop (call $raise (i32.const 9)))))"""
    with loaded(wat) as plugin:
        assert plugin.call().value == 28
        with pytest.raises(GuestTrap) as caught:
            plugin.call("raise")
        assert caught.value.code == "PROC_RAISE"


def test_an_exception_of_another_thread_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding can hand out a foreign exception in place of ours: the call's own end counts."""
    exit_0 = f"""(module (import "{WASI}" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (i32.const 0)) unreachable))"""
    cases: list[tuple[str, str, type[SandboxError] | None]] = [
        ('(module (func (export "run") unreachable))', "run", GuestTrap),
        (f'(module (func (export "run") {ENDLESS}))', "run", FuelExhausted),
        (f'(module (func (export "spin") {ENDLESS}))', "spin", DeadlineExceeded),
        (exit_0, "_start", None),
    ]
    for wat, func, expected in cases:
        endless = admit(fuel_units=EVER, wall_timeout_ms=50)
        admission = endless if expected is DeadlineExceeded else admit(fuel_units=10_000)
        with loaded(wat, admission, entry=f'"{func}"') as plugin:
            monkeypatch.setattr("wasmtime._func.LAST_EXCEPTION", RuntimeError("not ours"))
            if expected is None:
                assert plugin.call().value == ""
                continue
            with pytest.raises(expected):
                plugin.call()


def test_random_bytes_cost_fuel() -> None:
    """A guest can't have the host make bytes for nothing."""
    wat = f"""(module (import "{WASI}" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (result i32) (call $random (i32.const 0) (i32.const 16)))
      (func (export "much") (loop (drop (call $random (i32.const 0) (i32.const 65536))) (br 0)))
      (func (export "past") (drop (call $random (i32.const 1) (i32.const 65536)))))"""
    with loaded(wat) as plugin:
        assert plugin.call().value == 0
        with pytest.raises(FuelExhausted):
            plugin.call("much")
        with pytest.raises(GuestTrap):
            plugin.call("past")


def test_files_outside_of_the_folder_stay_there(tmp_path: Path) -> None:
    """``..``, absolute paths and links out of the folder are refused; a pipe does not block."""
    (tmp_path / "secret").write_text("secret")
    data = tmp_path / "data"
    data.mkdir()
    (data / "link").symlink_to(tmp_path / "secret")
    (data / "up").symlink_to("..")
    os.mkfifo(data / "pipe")
    wat = f"""(module
      (import "{WASI}" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "{WASI}" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32))) {BUMP}
      (func (export "run") (param i32 i32) (result i32)
        (call $open (i32.const 3) (i32.const 1) (local.get 0) (local.get 1)
          (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
      (func (export "unlink") (param i32 i32) (result i32)
        (call $unlink (i32.const 3) (local.get 0) (local.get 1))))"""
    extra = "".join(
        f'[exports.{name}]\nparams = ["string"]\nresult = "i32"\n' for name in ("run", "unlink")
    )
    admission = admit("fs_read", data_dir=data)
    with loaded(wat, admission, extra=extra, capabilities='["fs_read"]') as plugin:
        for path in ("../secret", "/etc/passwd", "link", "up/secret", "data/../../secret"):
            assert plugin.call("run", [path]).value != 0
        assert plugin.call("unlink", ["link"]).value != 0
    assert (data / "link").is_symlink()


@pytest.mark.parametrize(
    ("payload", "error", "match"),
    [
        (b"", BadModule, "not a WebAssembly module"),
        (b"#!/bin/sh\n", BadModule, "not a WebAssembly module"),
        (b"(module)", BadModule, "not a WebAssembly module"),
        (b"\0asm\x02\0\0\0", BadModule, "not a WebAssembly module"),
        (b"\0asm\x01\0\0\0\xff\xff", BadModule, "not a valid module"),
        (b"\0asm\x0d\0\x01\0", IncompatibleError, "it is a component"),
        (b"\0asm\x01\0\0\0" + b"\0" * (1 << 20), BadModule, "expected at most"),
    ],
)
def test_what_is_no_module_is_refused(
    payload: bytes, error: type[SandboxError], match: str
) -> None:
    """Text, rubbish, components and giants are told apart, and none is compiled."""
    with sandbox() as box, pytest.raises(error, match=match) as caught:
        box.load(plugin_files(payload))
    assert caught.value.plugin_id == "org.example.hello"


@pytest.mark.parametrize(
    ("place", "kind", "match"),
    [
        ('"env" "abort"', "(func)", r"imports env\.abort, which no host function provides"),
        ('"env" "memory"', "(memory 1)", r"env\.memory, which no host function"),
        ('"stack_composer_v1" "host_log"', "(func)", r"host_log as \(\) -> \(\), expected"),
        ('"stack_composer_v1" "host_sing"', "(func)", "host_sing, which no host function"),
        ('"stack_composer_v2" "host_log"', "(func)", "of host ABI 2, this host has 1"),
        ('"wasi_unstable" "fd_write"', "(func)", "which no host function provides"),
        (f'"{WASI}" "sock_open"', "(func)", "sock_open, which no host function"),
        (f'"{WASI}" "fd_write"', "(func)", "incompatible import type"),
        ('"wasi:sockets/tcp" "bind"', "(func)", "wasi:sockets/tcp.bind, which no host"),
        ('"\\1b[2J" "x"', "(func)", r"\\x1b\[2J\.x"),
    ],
)
def test_an_import_that_nobody_provides_is_refused_by_name(
    place: str, kind: str, match: str
) -> None:
    """Unknown functions, types and ABIs are refused at load, and the message names them."""
    wat = f'(module (import {place} {kind}) (func (export "run")))'
    with sandbox() as box, pytest.raises(IncompatibleError, match=match):
        box.load(plugin_files(wat))


def test_a_crowd_of_exports_is_refused() -> None:
    """More exports than any program has would make every call slow."""
    crowd = "".join(f'(export "f{n}" (func 0))' for n in range(2001))
    with sandbox() as box, pytest.raises(BadModule, match="expected at most 2000"):
        box.load(plugin_files(f'(module (func (export "run")) {crowd})'))


@pytest.mark.parametrize("instance", ['"fresh"', '"reused"'])
def test_unloading_during_calls_is_safe(instance: str) -> None:
    """A plugin closed while calls run lets them end, and refuses new ones."""
    running = threading.Semaphore(0)
    wat = f"""(module {LOG} (memory (export "memory") 1)
      (func (export "run") (local $n i32)
        (call $log (i32.const 0) (i32.const 0) (i32.const 0))
        (loop (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if 0 (i32.lt_u (local.get $n) (i32.const 300000))))))"""
    with (
        sandbox(on_log=lambda _: running.release()) as box,
        ThreadPoolExecutor(3) as pool,
    ):
        plugin = box.load(plugin_files(wat, instance=instance))
        calls = [pool.submit(plugin.call) for _ in range(3)]
        assert running.acquire(timeout=30)
        plugin.close()
        endings = [call.exception(timeout=30) for call in calls]
    for ending in endings:
        assert ending is None or "it is closed" in str(ending)
    assert None in endings


def test_a_thousand_calls_at_once_are_served_or_told_why_not() -> None:
    """More calls than any host has room for: each gets its own text back, or a deadline."""
    texts = [f"text {n}" for n in range(1_000)]
    with loaded(ECHO, admit(wall_timeout_ms=20_000)) as plugin, ThreadPoolExecutor(1_000) as pool:
        calls = [pool.submit(plugin.call, "run", [text]) for text in texts]
        endings = [(call.exception(), call) for call in calls]
        assert all(isinstance(error, DeadlineExceeded) for error, _ in endings if error)
        values = [None if error else call.result().value for error, call in endings]
        assert plugin.call("run", ["and one more"]).value == "and one more"
    assert any(values)
    assert all(value in {None, text} for value, text in zip(values, texts, strict=True))


def test_one_guest_that_waits_does_not_stop_the_others() -> None:
    """Deadlines are each call's own: a sleeper, a spinner and a worker run side by side."""
    spin = f'(module (func (export "run") {ENDLESS}))'
    with sandbox(admit(fuel_units=EVER, wall_timeout_ms=2000)) as box:
        spinner, echo = box.load(plugin_files(spin)), box.load(plugin_files(ECHO))
        with ThreadPoolExecutor(2) as pool:
            spinning = [pool.submit(spinner.call) for _ in range(2)]
            values = [echo.call("run", [str(n)]).value for n in range(20)]
            endings = [type(call.exception()) for call in spinning]
    assert values == [str(n) for n in range(20)]
    assert endings == [DeadlineExceeded, DeadlineExceeded]


def test_a_call_that_waits_for_a_reused_instance_has_a_deadline() -> None:
    """Behind an endless call the next one ends too, whether or not its turn came."""
    spin = f'(module (func (export "run") {ENDLESS}))'
    admission = admit(fuel_units=EVER, wall_timeout_ms=100)
    with loaded(spin, admission, instance='"reused"') as plugin, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(plugin.call) for _ in range(3)]
        assert [type(call.exception(timeout=30)) for call in calls] == [DeadlineExceeded] * 3


@pytest.mark.parametrize(
    "wat",
    [
        '(module (func (export "x") (param i32 v128)) (func (export "run")))',
        '(module (func (export "x") (result v128) unreachable) (func (export "run")))',
        '(module (import "env" "host_log" (func (param v128))) (func (export "run")))',
        '(module (import "wasi" "x" (func (result i32 v128))) (func (export "run")))',
        """(module (import "env" "t" (table 1 9 funcref)) (import "env" "m" (memory 1))
        (import "env" "g" (global (mut i64))) (import "env" "f" (func (param i32)))
        (func $no) (func $x (param v128)) (export "m" (memory 0)) (export "x" (func $x)))""",
    ],
)
def test_a_vector_at_the_border_does_not_abort_the_host(wat: str) -> None:
    """The binding ends the process when it is asked for such a type: it never is."""
    with sandbox() as box, pytest.raises(BadModule, match="takes or returns v128"):
        box.load(plugin_files(wat))


def test_vectors_within_a_guest_are_fine(tmp_path: Path) -> None:
    """Only what crosses is refused, from the cache of compiled code as well."""
    wat = """(module (func $inner (param v128) (result v128) (local.get 0))
      (global (export "g") v128 (v128.const i64x2 0 0))
      (func (export "run") (result i32)
        (i32x4.extract_lane 2 (call $inner (v128.const i32x4 1 2 3 4)))))"""
    crossing = wat.replace("$inner (param", '$inner (export "inner") (param')
    for _ in range(2):
        with sandbox(cache_dir=tmp_path) as box:
            assert box.load(plugin_files(wat)).call().value == 3
            with pytest.raises(BadModule, match="v128"):
                box.load(plugin_files(crossing))
