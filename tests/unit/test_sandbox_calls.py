"""Calls by the core ABI (contract section 8): text, numbers, commands, health, log, files."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import (
    ArgumentError,
    BadModule,
    CapabilityDenied,
    DeadlineExceeded,
    FuelExhausted,
    GuestExit,
    GuestTrap,
    LogRecord,
    MemoryExceeded,
    MissingExport,
    SandboxError,
    UnhealthyError,
)
from support.sandbox import (
    BUMP,
    ECHO,
    READ_EXPORTS,
    READ_FILE,
    admit,
    host_call,
    loaded,
    plugin_files,
    sandbox,
)

pytestmark = pytest.mark.usefixtures("isolation")

NUMBERS = """(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (local.get 0))
  (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
  (func (export "run")))"""

COUNTER = f"""(module {BUMP}
  (global $n (mut i32) (i32.const 0))
  (func (export "run") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (global.get $n))
  (func (export "fall") unreachable))"""

# _start: writes argv[1..] and the environment's first variable to stdout, "note" to stderr
COMMAND = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $asz (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 600) "note\\n")
  (func $put (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $w (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (drop (call $asz (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 100) (i32.const 200)))
    (call $put (i32.const 1) (i32.const 200) (i32.load (i32.const 20)))
    (drop (call $env (i32.const 300) (i32.const 400)))
    (call $put (i32.const 1) (i32.const 400) (i32.const 18))
    (call $put (i32.const 2) (i32.const 600) (i32.const 5))
    (call $exit (i32.const 0))
    unreachable))"""


ANSWERING = [
    ("retrieval", "host_retrieval_search", "(param i32 i32 i32)", "(i32.const 0)" * 3),
    ("plan", "host_plan", "(param i32 i32 i32 i32)", "(i32.const 0)" * 4),
    ("plan", "host_plan", "(param i32 i32)", "(i32.const 0) (i32.const 0)"),
    ("network", "host_fetch", "(param i32 i32 i32 i32)", "(i32.const 0)" * 4),
]


def test_a_string_goes_in_and_comes_out() -> None:
    """UTF-8 of any length crosses, the empty string without a call of ``alloc``."""
    with loaded(ECHO) as plugin:
        for text in ("hello", "", "Grüße 🙂", "x" * 10_000):
            assert plugin.call("run", [text]).value == text
        assert str(plugin.exports()["run"]) == "(string) -> string"


def test_the_entry_runs_where_no_function_is_named() -> None:
    """``entry`` is the default, and a call says what it used."""
    with loaded(ECHO) as plugin:
        result = plugin.call(args=["x"])
        assert result.value == "x"
        assert result.memory_peak_bytes == 2 * 65_536
        assert 0 < result.fuel_used < 1000
        assert result.took_ms > 0


def test_declared_exports_choose_the_types() -> None:
    """``[exports]`` can say bytes where the default would be a string."""
    extra = '[exports.run]\nparams = ["bytes"]\nresult = "bytes"\n'
    with loaded(ECHO, extra=extra) as plugin:
        assert plugin.call("run", [b"\xff\x00"]).value == b"\xff\x00"


def test_numbers_cross_as_they_are() -> None:
    """Integers are signed on return; no result is None; text of a number is read."""
    with loaded(NUMBERS) as plugin:
        assert plugin.call("add", [2, "3"]).value == 5
        assert plugin.call("add", [2**32 - 1, 0]).value == -1
        assert plugin.call("wide", [-(2**63)]).value == -(2**63)
        assert plugin.call("half", ["3"]).value == 1.5
        assert plugin.call("run").value is None


def test_wrong_calls_are_told_before_a_guest_runs() -> None:
    """A missing function, missing arguments and a missing ``alloc`` each say so."""
    wat = """(module (memory (export "memory") 1)
      (func (export "run") (param i32 i32) (result i64) unreachable))"""
    with loaded(wat) as plugin:
        with pytest.raises(MissingExport, match=r"cannot call nope.*it exports run"):
            plugin.call("nope")
        with pytest.raises(ArgumentError, match="got 0 arguments, expected 1"):
            plugin.call("run")
        with pytest.raises(MissingExport, match="alloc") as caught:
            plugin.call("run", ["text"])
        assert caught.value.plugin_id == "org.example.hello"


@pytest.mark.parametrize(
    ("extra", "entry", "error", "match"),
    [
        ("", '"main"', MissingExport, r"plugin\.entry names 'main'"),
        ('[health]\nfunc = "well"\n', '"run"', MissingExport, r"health\.func names 'well'"),
        ("[exports.walk]\n", '"run"', MissingExport, r"\[exports\.walk\] names 'walk'"),
        ('[exports.run]\nresult = "i32"\n', '"run"', BadModule, r"\[exports\.run\] says"),
    ],
)
def test_what_the_manifest_promises_is_checked_at_load(
    extra: str, entry: str, error: type[SandboxError], match: str
) -> None:
    """An entry, health function or signature that the module lacks is refused at load."""
    with sandbox() as box, pytest.raises(error, match=match):
        box.load(plugin_files(NUMBERS, extra, entry=entry))


def test_a_command_returns_its_stdout() -> None:
    """``_start`` sees the stem, its arguments and the settings; stderr is apart."""
    records: list[LogRecord] = []
    admission = admit(settings={"greeting": "yo"})
    extra = '[settings]\ngreeting = "hi"\n'
    with loaded(COMMAND, admission, entry='"_start"', extra=extra, on_log=records.append) as plugin:
        result = plugin.call(args=["one", "two"])
    assert result.value == "hello\0one\0two\0SC_SETTING_GREETIN"
    assert result.stderr == "note\n"
    assert [(record.source, record.message) for record in records] == [("stderr", "note")]


def test_a_command_can_return_bytes() -> None:
    """``[exports._start] result = "bytes"`` keeps stdout as it is."""
    with loaded(COMMAND, entry='"_start"', extra='[exports._start]\nresult = "bytes"\n') as plugin:
        value = plugin.call(args=["x"]).value
    assert isinstance(value, bytes)
    assert value.startswith(b"hello\0x\0")


def test_settings_have_defaults_and_no_others() -> None:
    """The manifest's values count until the operator's do; those of other versions do not."""
    extra = "[settings]\nloud = true\n"
    with loaded(COMMAND, entry='"_start"', extra=extra) as plugin:
        assert plugin.call().value == "hello\0SC_SETTING_LOUD=tr"
    admission = admit(settings={"quiet": "1", "loud": "no"})
    with loaded(COMMAND, admission, entry='"_start"', extra=extra) as plugin:
        assert plugin.call().value == "hello\0SC_SETTING_LOUD=no"


def test_an_exit_code_is_an_error_unless_it_is_zero() -> None:
    """``proc_exit`` ends a command; another function may not end so at all."""
    wat = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (i32.const 7)) unreachable)
      (func (export "run") (result i32) (call $exit (i32.const 0)) (i32.const 5)))"""
    with loaded(wat) as plugin:
        with pytest.raises(GuestExit, match="exit code 7") as caught:
            plugin.call("_start")
        assert caught.value.code == 7
        assert caught.value.stats.fuel_used > 0
        with pytest.raises(GuestExit, match="exit code 0"):
            plugin.call("run")


def test_a_reactor_is_initialized_first() -> None:
    """``_initialize`` runs before each call's function, and can't be called itself."""
    wat = """(module (global $ready (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $ready (i32.const 1)))
      (func (export "run") (result i32) (global.get $ready)))"""
    with loaded(wat) as plugin:
        assert plugin.call().value == 1
        assert list(plugin.exports()) == ["run"]


def test_each_call_has_a_fresh_instance_unless_it_is_reused() -> None:
    """State is gone after a call; with ``instance = "reused"`` it lives on until a trap."""
    with loaded(COUNTER) as plugin:
        assert [plugin.call().value for _ in range(3)] == [1, 1, 1]
    with loaded(COUNTER, instance='"reused"') as plugin:
        assert [plugin.call().value for _ in range(3)] == [1, 2, 3]
        with pytest.raises(GuestTrap):
            plugin.call("fall")
        assert plugin.call().value == 1


def test_a_reused_instance_gets_its_text_back() -> None:
    """``dealloc`` is called once for each text, also where argument and result are the same."""
    wat = f"""(module {BUMP} (global $freed (mut i32) (i32.const 0))
      (func (export "dealloc") (param i32 i32)
        (global.set $freed (i32.add (global.get $freed) (local.get 1))))
      (func (export "freed") (result i32) (global.get $freed))
      (func (export "run") (param i32 i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32))
                (i64.extend_i32_u (local.get 1)))))"""
    with loaded(wat, instance='"reused"') as plugin:
        assert plugin.call("run", ["abc"]).value == "abc"
        assert plugin.call("freed").value == 3


def test_calls_of_many_threads_do_not_meet() -> None:
    """Each of many calls at once gets its own text back, from fresh and reused instances."""
    texts = [f"text {n}" for n in range(200)]
    for instance in ('"fresh"', '"reused"'):
        with loaded(ECHO, instance=instance) as plugin, ThreadPoolExecutor(4) as pool:
            assert [r.value for r in pool.map(lambda t: plugin.call("run", [t]), texts)] == texts


def test_a_probe_instantiates_and_asks_for_health() -> None:
    """A number other than 0 is unhealthy, a trap is itself, and no health is no question."""
    wat = """(module (func (export "run")) (func (export "ill") (result i32) (i32.const 3))
      (func (export "well") (param i32) (result i32) (local.get 0))
      (func (export "trap") unreachable))"""
    with loaded(wat) as plugin:
        plugin.probe()
    with loaded(wat, extra='[health]\nfunc = "well"\nargs = [0]\n') as plugin:
        plugin.probe()
    ill = pytest.raises(UnhealthyError, match="ill returned 3, expected 0")
    with loaded(wat, extra='[health]\nfunc = "ill"\n') as plugin, ill:
        plugin.probe()
    with loaded(wat, extra='[health]\nfunc = "trap"\n') as plugin, pytest.raises(GuestTrap):
        plugin.probe()
    falling = '(module (func $s unreachable) (start $s) (func (export "run")))'
    with loaded(falling) as plugin, pytest.raises(GuestTrap):
        plugin.probe()


def test_a_probe_leaves_the_kept_instance_alone() -> None:
    """The health call of a reused plugin runs in a throw-away instance."""
    with loaded(COUNTER, instance='"reused"', extra='[health]\nfunc = "run"\n') as plugin:
        assert plugin.call().value == 1
        with pytest.raises(UnhealthyError):
            plugin.probe()
        assert plugin.call().value == 2


@pytest.mark.parametrize("module", ["stack_composer_v1", "env"])
def test_host_log_writes_a_record(module: str) -> None:
    """A message reaches the log with its level, its escapes made harmless."""
    wat = f"""(module (import "{module}" "host_log" (func $log (param i32 i32 i32)))
      (memory (export "memory") 1) (data (i32.const 8) "red \\1b[31m")
      (func (export "run") (call $log (i32.const 3) (i32.const 8) (i32.const 9))))"""
    records: list[LogRecord] = []
    with loaded(wat, on_log=records.append) as plugin:
        plugin.call()
    assert records == [LogRecord("org.example.hello", 3, "red \\x1b[31m", "host_log")]


def test_a_failing_log_is_the_hosts_failure() -> None:
    """What ``on_log`` raises comes out as it is, and is not blamed on the guest."""
    wat = """(module (import "env" "host_log" (func $log (param i32 i32 i32)))
      (memory (export "memory") 1)
      (func (export "run") (call $log (i32.const 3) (i32.const 8) (i32.const 0))))"""

    def fail(_: LogRecord) -> None:
        message = "disk full"
        raise OSError(message)

    with loaded(wat, on_log=fail) as plugin, pytest.raises(OSError, match="disk full"):
        plugin.call()


@pytest.mark.parametrize(("capability", "name", "params", "body"), ANSWERING)
def test_a_function_without_a_provider_answers_unavailable(
    capability: str, name: str, params: str, body: str
) -> None:
    """Granted and requested, but no provider: ``err`` with code ``unavailable``."""
    wat = host_call(name, params, body)
    with loaded(wat, admit(capability), capabilities=f'["{capability}"]') as plugin:
        value = plugin.call().value
    assert isinstance(value, str)
    answer = json.loads(value)
    assert answer["err"]["code"] == "unavailable"
    assert capability in answer["err"]["message"]


@pytest.mark.parametrize(("capability", "name", "params", "body"), ANSWERING)
@pytest.mark.parametrize("granted", [True, False])
def test_a_denied_function_traps_on_call_and_not_before(
    capability: str, name: str, params: str, body: str, *, granted: bool
) -> None:
    """Without request or grant the import loads, and using it is CapabilityDenied."""
    admission = admit(capability) if granted else admit()
    requested = "[]" if granted else f'["{capability}"]'
    wat = host_call(name, params, body)
    with loaded(wat, admission, capabilities=requested) as plugin:
        plugin.probe()
        with pytest.raises(CapabilityDenied, match="it is not granted") as caught:
            plugin.call()
    assert caught.value.capability == capability
    assert caught.value.stats.fuel_used > 0


def test_a_chat_without_a_provider_fails_in_its_first_next() -> None:
    """``host_llm_chat`` gives a handle; ``next`` says the failure, then the end."""
    wat = f"""(module
      (import "stack_composer_v1" "host_llm_chat" (func $chat (param i32 i32) (result i64)))
      (import "stack_composer_v1" "host_llm_next" (func $next (param i64) (result i64))) {BUMP}
      (func (export "first") (result i64) (call $next (call $chat (i32.const 0) (i32.const 0))))
      (func (export "second") (result i64) (local $h i64)
        (local.set $h (call $chat (i32.const 0) (i32.const 0)))
        (drop (call $next (local.get $h)))
        (call $next (local.get $h)))
      (func (export "run") (result i64) (call $next (i64.const 9))))"""
    with loaded(wat, admit("llm"), capabilities='["llm"]') as plugin:
        assert '"unavailable"' in str(plugin.call("first").value)
        assert json.loads(str(plugin.call("second").value)) == {"ok": None}
        with pytest.raises(GuestTrap) as caught:
            plugin.call("run")
    assert caught.value.code == "UNKNOWN_HANDLE"


def test_fs_read_shows_the_data_folder_read_only(tmp_path: Path) -> None:
    """A plugin with ``fs_read`` reads under ``/plugin/data`` and can't make a file there."""
    (tmp_path / "note.txt").write_text("remember")
    admission = admit("fs_read", data_dir=tmp_path)
    with loaded(READ_FILE, admission, extra=READ_EXPORTS, capabilities='["fs_read"]') as plugin:
        assert plugin.call("run", ["note.txt"]).value == "remember"
        assert plugin.call("create", ["new.txt"]).value != 0
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(("granted", "requested"), [((), '["fs_read"]'), (("fs_read",), "[]")])
def test_without_fs_read_there_are_no_files(
    tmp_path: Path, granted: tuple[str, ...], requested: str
) -> None:
    """Without request or grant there is no preopened folder: EBADF."""
    admission = admit(*granted, data_dir=tmp_path)
    with loaded(READ_FILE, admission, extra=READ_EXPORTS, capabilities=requested) as plugin:
        assert plugin.call("open", ["note.txt"]).value == 8


def test_a_closed_plugin_takes_no_calls() -> None:
    """After ``close`` of plugin or sandbox a call is refused, and closing again is fine."""
    with sandbox() as box:
        plugin = box.load(plugin_files(ECHO))
        other = box.load(plugin_files(COUNTER, instance='"reused"'))
        assert other.call().value == 1
        plugin.close()
        plugin.close()
        with pytest.raises(SandboxError, match="it is closed"):
            plugin.call("run", ["x"])
    with pytest.raises(SandboxError, match="it is closed"):
        other.call()
    with pytest.raises(SandboxError, match="the sandbox is closed"):
        box.load(plugin_files(ECHO))


def test_a_module_of_another_target_is_refused() -> None:
    """A manifest that says component and a core module do not go together."""
    with sandbox() as box, pytest.raises(BadModule, match="wasm32-wasip2"):
        box.load(plugin_files(ECHO, wasm_target='"wasm32-wasip2"'))


@pytest.mark.parametrize("export", ["alloc", "dealloc", "_initialize", "_start"])
def test_a_function_of_the_abi_has_its_type(export: str) -> None:
    """A function with a meaning of its own and another type is refused at load."""
    wat = f'(module (func (export "run")) (func (export "{export}") (param f64)))'
    with sandbox() as box, pytest.raises(BadModule, match=rf"{export} is \(f64\) -> \(\)"):
        box.load(plugin_files(wat))


def test_an_abi_function_is_not_an_export_to_declare() -> None:
    """``[exports.alloc]`` would make the allocator callable: refused."""
    with sandbox() as box, pytest.raises(MissingExport, match=r"\[exports\.alloc\]"):
        box.load(plugin_files(ECHO, '[exports.alloc]\nparams = ["i32"]\nresult = "i32"\n'))


def test_a_setting_can_not_end_early() -> None:
    """An operator's value with a NUL, which WASI would cut, is refused."""
    admission = admit(settings={"greeting": "a\0b"})
    with sandbox(admission) as box, pytest.raises(SandboxError, match="holds a NUL"):
        box.load(plugin_files(ECHO, '[settings]\ngreeting = "hi"\n'))


def test_the_clocks_tell_the_time() -> None:
    """The wall clock is the host's, the other one runs forward, a third is refused."""
    wat = """(module (import "wasi_snapshot_preview1" "clock_time_get"
        (func $clock (param i32 i64 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (param i32) (result i64)
        (if (call $clock (local.get 0) (i64.const 0) (i32.const 0)) (then (return (i64.const -1))))
        (i64.load (i32.const 0))))"""
    extra = '[exports.run]\nparams = ["i32"]\nresult = "i64"\n'
    with loaded(wat, extra=extra) as plugin:
        before = time.time_ns()
        wall, first, second, third = (plugin.call("run", [n]).value for n in (0, 1, 1, 2))
        assert isinstance(wall, int)
        assert before <= wall <= time.time_ns()
        assert isinstance(first, int)
        assert isinstance(second, int)
        assert 0 < first < second
        assert third == -1


def test_what_verify_raises_passes_through() -> None:
    """The verifier's own error leaves ``load`` as it is, before anything is compiled."""

    class RefusedError(Exception):
        pass

    def refuse(_: object) -> None:
        raise RefusedError

    with sandbox() as box:
        box._verify = refuse  # type: ignore[assignment]
        with pytest.raises(RefusedError):
            box.load(plugin_files(b"not wasm"))


def test_calls_from_the_main_thread_run_on_another() -> None:
    """A guest is never on the stack of the thread where Ctrl-C is raised."""
    wat = """(module (import "env" "host_log" (func $log (param i32 i32 i32)))
      (memory (export "memory") 1)
      (func (export "run") (call $log (i32.const 3) (i32.const 8) (i32.const 0))))"""
    threads: list[threading.Thread] = []
    with loaded(wat, on_log=lambda _: threads.append(threading.current_thread())) as plugin:
        plugin.call()
        worker = threading.Thread(target=plugin.call)
        worker.start()
        worker.join()
    assert threading.main_thread() not in threads
    assert threads[1] is worker


@pytest.mark.parametrize(("asked", "gets"), [(500, 500), (5_000, 1_000)])
def test_a_plugin_that_asks_for_less_gets_less(asked: int, gets: int) -> None:
    """The operator's bounds, lowered by the manifest's ``[limits]`` and never raised."""
    extra = f"[limits]\nfuel_units = {asked}\n"
    with loaded(ECHO, admit(fuel_units=1_000), extra=extra) as plugin:
        assert plugin.limits.fuel_units == gets


def test_an_error_of_a_limit_says_what_was_used_and_what_raises_it() -> None:
    """The operator's key, for all plugins or this one, or that the plugin asks for no more."""
    wat = f"""(module (import "env" "host_log" (func $log (param i32 i32 i32))) {BUMP}
      (func (export "run")
        (call $log (i32.const 0) (i32.const 0) (i32.const 24)) (loop (br 0)))
      (func (export "sleep") (loop (br 0))))"""
    with loaded(wat, admit(fuel_units=5_000)) as plugin, pytest.raises(FuelExhausted) as fuel:
        plugin.call()
    assert str(fuel.value) == (
        "cannot finish run: it used up its fuel of 5000 units, 1024 of them in host functions; "
        'raise limits.fuel_units, or plugins."org.example.hello".limits.fuel_units for it alone'
    )
    extra = "[limits]\nfuel_units = 4000\n"
    with loaded(wat, extra=extra) as plugin, pytest.raises(FuelExhausted) as own:
        plugin.call()
    assert str(own.value).endswith("its own manifest asks for no more: [limits] fuel_units")
    admission = admit(fuel_units=2**62, wall_timeout_ms=10)
    late = pytest.raises(DeadlineExceeded, match=r"raise limits\.wall_timeout_ms, or")
    with loaded(wat, admission, extra="[limits]\nwall_timeout_ms = 20\n") as plugin, late:
        plugin.call("sleep")


@pytest.mark.parametrize(
    ("memory", "pages"),
    [
        ('(memory (export "memory") 2)', 3),
        ('(memory (export "mine") 2)', 3),
        ("(memory 2)", 2),
        ('(memory (export "a") (export "memory") 2)', 3),
    ],
)
def test_the_peak_is_that_of_the_memory_whatever_it_is_called(memory: str, pages: int) -> None:
    """One that is not exported is told as what it began with, which is less; none is nothing."""
    wat = f"""(module {memory}
      (func (export "run") (drop (memory.grow (i32.const 1))))
      (func (export "fill") (loop
        (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable))"""
    with loaded(wat, admit(mem_bytes=1 << 20)) as plugin:
        assert plugin.call().memory_peak_bytes == pages * 65_536
        with pytest.raises(MemoryExceeded if pages > 2 else GuestTrap) as caught:
            plugin.call("fill")
        assert caught.value.stats.memory_peak_bytes == (16 if pages > 2 else 2) * 65_536
    with loaded('(module (func (export "run")))') as plugin:
        assert plugin.call().memory_peak_bytes == 0
