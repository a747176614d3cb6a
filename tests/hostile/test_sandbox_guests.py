"""More guests that mean harm: by growth, recursion, their allocator, exit codes, in a crowd."""

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import (
    BadModule,
    DeadlineExceeded,
    FuelExhausted,
    GuestExit,
    GuestTrap,
    IncompatibleError,
    MemoryExceeded,
    SandboxError,
    compiling,
)
from support.sandbox import BUMP, ECHO, admit, loaded, plugin_files, sandbox
from support.wasm import BOMB

pytestmark = pytest.mark.usefixtures("isolation", "unharmed")

EVER = 2**62
WASI = "wasi_snapshot_preview1"
LOG = '(import "env" "host_log" (func $log (param i32 i32 i32)))'
SEARCH = '(import "env" "host_retrieval_search" (func $search (param i32 i32 i32) (result i64)))'
EXIT = f'(import "{WASI}" "proc_exit" (func $exit (param i32)))'
POLL = f'(import "{WASI}" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))'
CLOCK = f'(import "{WASI}" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))'
RANDOM = f'(import "{WASI}" "random_get" (func $random (param i32 i32) (result i32)))'
WRITE = f'(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
ZERO = "(i32.const 0)"


@pytest.mark.parametrize(
    ("imported", "call"),
    [
        (LOG, f"(call $log {ZERO} {ZERO} {ZERO})"),
        (CLOCK, f"(drop (call $clock {ZERO} (i64.const 0) {ZERO}))"),
        (RANDOM, f"(drop (call $random {ZERO} {ZERO}))"),
        (WRITE, f"(drop (call $write (i32.const 1) {ZERO} {ZERO} {ZERO}))"),
        (POLL, f"(drop (call $poll {ZERO} (i32.const 64) (i32.const 1) (i32.const 128)))"),
    ],
    ids=["host_log", "clock", "random", "write", "poll on stdin"],
)
def test_an_endless_loop_through_host_calls_ends(imported: str, call: str) -> None:
    """Each call costs fuel though nothing is copied, and the deadline holds between them."""
    wat = f"""(module {imported} (memory (export "memory") 1)
      (func (export "run") (i32.store8 (i32.const 8) (i32.const 1)) (loop {call} (br 0))))"""
    with loaded(wat, admit(fuel_units=100_000)) as plugin, pytest.raises(FuelExhausted) as fuel:
        plugin.call()
    assert fuel.value.stats.fuel_used == 100_000
    told = re.search(r"(\d+) of them in host functions", str(fuel.value))
    assert told
    assert int(told[1]) > 90_000
    late = admit(fuel_units=EVER, wall_timeout_ms=50)
    with loaded(wat, late) as plugin, pytest.raises(DeadlineExceeded):
        plugin.call()


def test_a_loop_in_the_start_function_through_host_calls_ends() -> None:
    """Before there is an instance the same bounds hold, and its memory is found."""
    wat = f"""(module {LOG} (memory (export "memory") 1) (func (export "run"))
      (func $s (loop (call $log {ZERO} {ZERO} (i32.const 4)) (br 0))) (start $s))"""
    with loaded(wat, admit(fuel_units=100_000)) as plugin, pytest.raises(FuelExhausted):
        plugin.call()


def test_a_table_bomb_stops_at_the_limit() -> None:
    """Growth is refused at the operator's bound, for each table."""
    wat = """(module (table $a 1 funcref) (table $b 1 funcref)
      (func (export "run") (result i32) (local $n i32)
        (loop (drop (table.grow $a (ref.null func) (i32.const 100)))
              (drop (table.grow $b (ref.null func) (i32.const 100)))
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000))))
        (i32.add (table.size $a) (table.size $b))))"""
    with loaded(wat, admit(table_elements=1001)) as plugin:
        assert plugin.call().value == 2002


def test_a_crowd_of_tables_is_refused() -> None:
    """More tables than a store may have end the call, and not the host."""
    tables = "(table 1 funcref)" * 9
    wat = f'(module {tables} (func (export "run")))'
    with loaded(wat) as plugin, pytest.raises(SandboxError):
        plugin.call()


@pytest.mark.parametrize("pages", ["65536", "-1", "4096"])
def test_a_huge_growth_is_refused(pages: str) -> None:
    """It is -1 in the guest, whatever the number."""
    wat = f"""(module (memory (export "memory") 1)
      (func (export "run") (result i32) (memory.grow (i32.const {pages}))))"""
    with loaded(wat, admit(mem_bytes=1 << 20)) as plugin:
        result = plugin.call()
    assert result.value == -1
    assert result.memory_peak_bytes == 65536


def test_a_memory_that_moves_is_followed() -> None:
    """A guest that grows its memory in ``alloc`` and in its function is read where it is now."""
    grow = "(drop (memory.grow (i32.const 20)))"
    wat = f"""(module {SEARCH} (memory (export "memory") 1) (global $at (mut i32) (i32.const 8))
      (func $alloc (export "alloc") (param $len i32) (result i32) {grow}
        (global.set $at (i32.sub (i32.mul (memory.size) (i32.const 65536)) (local.get $len)))
        (global.get $at))
      (func (export "run") (param i32 i32) (result i64) (local $to i32)
        (local.set $to (call $alloc (local.get 1)))
        (memory.copy (local.get $to) (local.get 0) (local.get 1))
        (i64.or (i64.shl (i64.extend_i32_u (local.get $to)) (i64.const 32))
                (i64.extend_i32_u (local.get 1))))
      (func (export "ask") (result i64) (call $search {ZERO} {ZERO} {ZERO})))"""
    text = "where it is now " * 2000
    with loaded(wat, admit("retrieval"), capabilities='["retrieval"]') as plugin:
        for _ in range(20):
            assert plugin.call("run", [text]).value == text
            assert "unavailable" in str(plugin.call("ask").value)


@pytest.mark.parametrize("deep", ["$f", "$g"])
def test_recursion_ends_wherever_it_is(deep: str) -> None:
    """Through a table, in ``alloc`` and below a host function: STACK_OVERFLOW."""
    wat = f"""(module {SEARCH} (type $t (func)) (memory (export "memory") 1)
      (table 1 funcref) (elem (i32.const 0) $g)
      (func $f (call $f)) (func $g (call_indirect (type $t) (i32.const 0)))
      (func (export "alloc") (param i32) (result i32) (call {deep}) (i32.const 8))
      (func (export "run") (param i32 i32) (result i64) (i64.const 0))
      (func (export "ask") (result i64) (call $search {ZERO} {ZERO} {ZERO})))"""
    with loaded(wat, admit("retrieval"), capabilities='["retrieval"]') as plugin:
        for func, args in (("run", ["text"]), ("ask", [])):
            with pytest.raises(GuestTrap) as caught:
                plugin.call(func, args)
            assert caught.value.code == "STACK_OVERFLOW"


@pytest.mark.parametrize("func", ["run", "ask"])
def test_an_alloc_that_traps_ends_the_call(func: str) -> None:
    """By itself, and below a host function, with the code of the trap."""
    wat = f"""(module {SEARCH} (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) unreachable)
      (func (export "run") (param i32 i32) (result i64) (i64.const 0))
      (func (export "ask") (result i64) (call $search {ZERO} {ZERO} {ZERO})))"""
    args = ["text"] if func == "run" else []
    with loaded(wat, admit("retrieval"), capabilities='["retrieval"]') as plugin:
        with pytest.raises(GuestTrap) as caught:
            plugin.call(func, args)
        assert caught.value.code == "UNREACHABLE"


def test_an_alloc_that_overlaps_harms_the_guest_alone() -> None:
    """Two texts in one place: the guest finds the later one, the host nothing wrong."""
    wat = """(module (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) (i32.const 64))
      (func (export "run") (param $a i32) (param $n i32) (param $b i32) (param $m i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (local.get $a)) (i64.const 32))
                (i64.extend_i32_u (local.get $n)))))"""
    extra = '[exports.run]\nparams = ["string", "string"]\nresult = "string"\n'
    with loaded(wat, extra=extra) as plugin:
        assert plugin.call("run", ["first", "second"]).value == "secon"


def test_an_alloc_at_the_very_end_has_no_room() -> None:
    """The last byte may be used and not one more."""
    wat = """(module (memory (export "memory") 1)
      (func (export "alloc") (param $n i32) (result i32) (i32.sub (i32.const 65536) (i32.const 4)))
      (func (export "run") (param i32 i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32))
                (i64.extend_i32_u (local.get 1)))))"""
    with loaded(wat) as plugin:
        assert plugin.call("run", ["four"]).value == "four"
        with pytest.raises(GuestTrap) as caught:
            plugin.call("run", ["fives"])
        assert caught.value.code == "MEMORY_OUT_OF_BOUNDS"


@pytest.mark.parametrize(("func", "args"), [("run", ["x" * 200_000]), ("run", ["ü" * 70_000])])
def test_a_text_that_does_not_fit_is_a_trap(func: str, args: list[str]) -> None:
    """An allocator that hands out more than there is does not have the host write there."""
    with loaded(ECHO) as plugin, pytest.raises(GuestTrap) as caught:
        plugin.call(func, args)
    assert caught.value.code == "MEMORY_OUT_OF_BOUNDS"


def test_a_dealloc_that_traps_ends_the_instance() -> None:
    """The call fails, and the next one finds a new instance."""
    wat = f"""(module {BUMP} (global $n (mut i32) (i32.const 0))
      (func (export "dealloc") (param i32 i32) unreachable)
      (func (export "text") (param i32 i32) (result i64) (global.set $n (i32.const 7))
        (i64.const 0))
      (func (export "run") (result i32) (global.get $n)))"""
    with loaded(wat, instance='"reused"') as plugin:
        assert plugin.call().value == 0
        with pytest.raises(GuestTrap):
            plugin.call("text", ["hi"])
        assert plugin.call().value == 0


@pytest.mark.parametrize("code", [0, 1, 255, 256, 2**32 - 1])
@pytest.mark.parametrize("where", ["run", "start", "alloc"])
def test_an_exit_ends_the_call_and_nothing_else(code: int, where: str) -> None:
    """With its code, from wherever it comes, also in a guest that goes on after it."""
    leave = f"(call $exit (i32.const {code})) (loop (br 0))"
    bodies = {name: leave if name == where else "" for name in ("run", "start", "alloc")}
    wat = f"""(module {EXIT} (memory (export "memory") 1)
      (func $s {bodies["start"]}) (start $s)
      (func (export "alloc") (param i32) (result i32) {bodies["alloc"]} (i32.const 8))
      (func (export "run") (param i32 i32) (result i64) {bodies["run"]} (i64.const 0)))"""
    with loaded(wat, admit(fuel_units=100_000)) as plugin, pytest.raises(GuestExit) as caught:
        plugin.call("run", ["text"])
    assert caught.value.code == code


@pytest.mark.parametrize(
    "imported",
    [
        '(import "wasi" "thread-spawn" (func (param i32) (result i32)))',
        '(import "env" "pthread_create" (func (param i32) (result i32)))',
        f'(import "{WASI}" "path_exec" (func (param i32) (result i32)))',
        '(import "wasi:sockets/tcp" "connect" (func))',
        '(import "stack_composer_v2" "host_log" (func (param i32 i32 i32)))',
    ],
)
def test_what_would_lead_out_is_not_linked(imported: str) -> None:
    """Threads, processes, sockets and newer hosts are refused when the plugin is loaded."""
    wat = f'(module {imported} (func (export "run")))'
    with sandbox() as box, pytest.raises(IncompatibleError):
        box.load(plugin_files(wat))


def test_sockets_and_foreign_descriptors_answer_errors() -> None:
    """No descriptor beyond the three streams is there, and none of those is a socket."""
    wat = f"""(module
      (import "{WASI}" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
      (import "{WASI}" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "{WASI}" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 64) "etc/passwd")
      (func (export "accept") (param i32) (result i32)
        (call $accept (local.get 0) {ZERO} (i32.const 32)))
      (func (export "read") (param i32) (result i32)
        (call $read (local.get 0) (i32.const 128) {ZERO} (i32.const 32)))
      (func (export "run") (param i32) (result i32)
        (call $open (local.get 0) {ZERO} (i32.const 64) (i32.const 10) {ZERO}
              (i64.const 2) (i64.const 2) {ZERO} (i32.const 32))))"""
    with loaded(wat, admit("fs_read"), capabilities='["fs_read"]') as plugin:
        for descriptor in (3, 4, 5, 100, -1):
            for func in ("accept", "read", "run"):
                assert plugin.call(func, [descriptor]).value != 0


def test_our_environment_is_not_the_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees its settings and nothing of ours."""
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    wat = f"""(module
      (import "{WASI}" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (result i32)
        (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0))))"""
    with loaded(wat) as plugin:
        assert plugin.call().value == 0
    with loaded(wat, extra="[settings]\nunits = 1\n") as plugin:
        assert plugin.call().value == 1


@pytest.mark.parametrize("instance", ["fresh", "reused"])
def test_a_thousand_concurrent_calls_do_not_meet(instance: str) -> None:
    """Each caller gets its own text, beside others that trap, burn fuel and leave."""
    wat = f"""(module {EXIT} {BUMP}
      (func (export "dealloc") (param i32 i32) (global.set $heap (i32.const 1024)))
      (func (export "trap") unreachable)
      (func (export "burn") (loop (br 0)))
      (func (export "leave") (call $exit (i32.const 3)))
      (func (export "run") (param $ptr i32) (param $len i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
                (i64.extend_i32_u (local.get $len)))))"""
    bad = {1: ("trap", GuestTrap), 2: ("burn", FuelExhausted), 3: ("leave", GuestExit)}
    admission = admit(fuel_units=100_000, wall_timeout_ms=60_000)
    with loaded(wat, admission, instance=f'"{instance}"') as plugin:
        barrier = threading.Barrier(32)

        def call(number: int) -> bool:
            if number < 32:
                barrier.wait(60)
            if number % 8 in bad:
                func, error = bad[number % 8]
                with pytest.raises(error):
                    plugin.call(func)
                return True
            text = f"{number} " * 100
            return plugin.call("run", [text]).value == text

        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(call, range(1000)))


def test_a_compile_bomb_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that takes long to compile is told, and its compiler is gone."""
    monkeypatch.setattr(compiling, "TIMEOUT_S", 0.3)
    with sandbox() as box, pytest.raises(BadModule, match="to compile"):
        box.load(plugin_files(BOMB))


def test_memory_is_given_back() -> None:
    """A guest that fills its memory leaves nothing of it when its call is over."""
    wat = """(module (memory (export "memory") 1)
      (func (export "run") (drop (memory.grow (i32.const 1023)))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 67108864))))"""
    with loaded(wat, admit(fuel_units=EVER)) as plugin:
        plugin.call()
        before = _resident_bytes()
        for _ in range(20):
            assert plugin.call().memory_peak_bytes == 1024 << 16
        assert _resident_bytes() - before < 64 << 20


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_one_guest_wrote_no_other_reads() -> None:
    """Memory that is used again is clean, whoever had it and however its call ended."""
    wat = """(module (memory (export "memory") 4)
      (func (export "fill") (memory.fill (i32.const 0) (i32.const 255) (i32.const 262144)))
      (func (export "fall") (memory.fill (i32.const 0) (i32.const 255) (i32.const 262144))
        unreachable)
      (func (export "run") (result i32) (local $at i32) (local $sum i32)
        (loop
          (local.set $sum (i32.or (local.get $sum) (i32.load (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (br_if 0 (i32.lt_u (local.get $at) (i32.const 262144))))
        (local.get $sum)))"""
    with loaded(wat) as plugin:
        for func in ("fill", "fall", "fill"):
            if func == "fall":
                with pytest.raises(GuestTrap):
                    plugin.call(func)
            else:
                plugin.call(func)
            assert plugin.call().value == 0


def test_an_allocator_without_room_is_told_as_memory() -> None:
    """A null from ``alloc`` is MemoryExceeded, and nothing was written."""
    wat = """(module (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) (i32.const 0))
      (func (export "run") (param i32 i32) (result i64) (i64.const 0)))"""
    with loaded(wat) as plugin, pytest.raises(MemoryExceeded):
        plugin.call("run", ["text"])


def test_a_thousand_empty_writes_in_one_cost_fuel() -> None:
    """Each vector is work for the host, though there is nothing in it."""
    wat = f"""(module {WRITE} (memory (export "memory") 1)
      (func (export "run") (result i32)
        (call $write (i32.const 1) {ZERO} (i32.const 1024) (i32.const 60000))))"""
    with loaded(wat) as plugin:
        result = plugin.call()
    assert result.value == 0
    assert result.fuel_used > 100_000
