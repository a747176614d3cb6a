"""Plugins in processes of their own, as an operator configures them and a program sees them."""

import os
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent import PluginHost
from agent.errors import translated
from sandbox import CrashLoopError, GuestTrap, LogRecord, PluginPanic
from sandbox.admission import Isolation
from sandbox.isolate import crashes
from sandbox.isolate.process import ProcessRunner
from support.otlp import attributes, receiving
from support.sandbox import nothing_left
from support.system import PLUGIN_ID, Machine, Publisher

WAIT_S = 30
SPINS = """(module (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1) (data (i32.const 0) "begun")
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "fall") unreachable)
  (func (export "run") (param i32 i32) (result i64)
    (call $log (i32.const 2) (i32.const 0) (i32.const 5)) (loop $l (br $l)) (i64.const 0)))"""


def runner_of(host: PluginHost) -> object:
    """What runs the plugin's calls."""
    return host._loaded.find(PLUGIN_ID).slot.current._runner


def kill_child(host: PluginHost) -> None:
    """Kill the plugin's process and wait for its end."""
    runner = runner_of(host)
    assert isinstance(runner, ProcessRunner)
    assert runner.keeper.pid is not None
    handle = os.pidfd_open(runner.keeper.pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], WAIT_S)[0]
    os.close(handle)


@pytest.mark.parametrize(
    ("config", "asked", "apart"),
    [
        ("", None, False),
        ("", "process", True),
        ('[sandbox]\nisolation = "process"\n', None, True),
        ('[sandbox]\nisolation = "process"\n', "inline", False),
        (f'[plugins."{PLUGIN_ID}"]\nisolation = "process"\n', None, True),
    ],
)
def test_the_operator_says_where_a_plugin_runs(
    installed: Machine, config: str, asked: Isolation | None, *, apart: bool
) -> None:
    """Argument, plugin's section, config; a library's default is its own process."""
    installed.configure(config)
    with nothing_left(), PluginHost(home=installed.home, isolation=asked) as host:
        host.load_installed(PLUGIN_ID)
        assert isinstance(runner_of(host), ProcessRunner) == apart
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"


def test_a_call_by_command_can_run_apart(installed: Machine) -> None:
    """``agent call --isolation process`` prints what the call inline does, and leaves nothing."""
    with nothing_left():
        inline = installed.json("call", PLUGIN_ID, "run", "Jane", "--isolation", "inline").document
        apart = installed.json("call", PLUGIN_ID, "run", "Jane", "--isolation", "process").document
    assert apart["result"] == inline["result"] == "Hello, Jane"
    assert apart["fuel_used"] == inline["fuel_used"]
    assert apart["memory_peak_bytes"] == inline["memory_peak_bytes"]


def test_a_swap_across_processes_loses_no_call(installed: Machine, publisher: Publisher) -> None:
    """Four threads call while the release changes: each call ends on the one it began with."""
    publisher.release("0.2.0")
    over = threading.Event()
    with nothing_left(), PluginHost(home=installed.home, isolation="process") as host:
        host.load_installed(PLUGIN_ID)

        def call() -> set[str]:
            answers = set[str]()
            while len(answers) < 2 and not over.is_set():
                answers.add(str(host.call_plugin("run", ["Jane"])))
            return answers

        watchdog = threading.Timer(60, over.set)
        watchdog.start()
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call) for _ in range(4)]
            installed.process("update")
            answers = [future.result() for future in calls]
        watchdog.cancel()
        watchdog.join()
    assert all(len(seen) == 2 for seen in answers), answers
    assert installed.json("info", PLUGIN_ID).row["failures"] == 0


def test_a_crash_on_trial_goes_back(installed: Machine, publisher: Publisher) -> None:
    """A release whose process dies under three calls is left, and the old one serves the next."""
    publisher.release("0.2.0", code=SPINS)
    begun = threading.Semaphore(0)

    def note(_: LogRecord) -> None:
        begun.release()

    installed.run("update")
    installed.configure("[limits]\nfuel_units = 1000000000000\nwall_timeout_ms = 60000\n")
    with PluginHost(home=installed.home, isolation="process", on_log=note) as host:
        host.load_installed(PLUGIN_ID)
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(host.call_plugin, "run", ["Jane"]) for _ in range(3)]
            for _ in calls:
                assert begun.acquire(timeout=WAIT_S)
            kill_child(host)
            errors = [call.exception(WAIT_S) for call in calls]
        assert [type(error) for error in errors] == [PluginPanic] * 3
        host._loaded.find(PLUGIN_ID).follow(now=True)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
    assert installed.version() == "0.1.0"


def test_a_crash_loop_is_audited(installed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is refused in this program, by policy (8), and a line says why."""
    monkeypatch.setattr(crashes, "DELAYS_S", (0.0,) * 4)
    with PluginHost(home=installed.home, isolation="process") as host:
        host.load_installed(PLUGIN_ID)
        for _ in range(5):
            host.call_plugin("run", ["Jane"])
            kill_child(host)
        with pytest.raises(CrashLoopError) as caught:
            host.call_plugin("run", ["Jane"])
    cause = translated(caught.value)
    assert cause is not None
    assert cause.exit_code == 8
    (line,) = [
        line
        for line in installed.json("audit", "show", PLUGIN_ID).document["lines"]
        if line["outcome"] == "crash_loop"
    ]
    assert (line["by"], line["version"]) == ("host", "0.1.0")
    assert "signal 9" in line["reason"]
    installed.run("audit", "verify")


@pytest.mark.parametrize("where", ["inline", "process"])
def test_spans_of_both_isolations_are_of_one_trace(
    machine: Machine, publisher: Publisher, where: Isolation
) -> None:
    """Load, call and panic below what the program does, received over OTLP/HTTP."""
    publisher.release("0.1.0", code=SPINS)
    machine.run("pull", PLUGIN_ID)
    with receiving() as receiver:
        machine.configure(f'[telemetry]\nendpoint = "{receiver.endpoint}"\n')
        with (
            PluginHost(home=machine.home, isolation=where) as host,
            host._telemetry.span("program"),
        ):
            host.load_installed(PLUGIN_ID)
            with pytest.raises(GuestTrap):
                host.call_plugin("fall")
    spans = receiver.spans()
    program, call = spans["program"], spans["plugin.call"]
    assert spans["plugin.load"].parent_span_id == call.parent_span_id == program.span_id
    assert spans["plugin.panic"].parent_span_id == call.span_id
    assert {span.trace_id for span in spans.values()} == {program.trace_id}
    facts = attributes(call)
    assert (facts["plugin.id"], facts["plugin.function"]) == (PLUGIN_ID, "fall")
    assert attributes(spans["plugin.panic"])["plugin.trap.code"] == "UNREACHABLE"
