"""call, status, logs, events: the verbs that go through the service where it answers."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control import WAIT_S, Control, controlled
from support.system import PLUGIN_ID, Machine, Publisher, Ran, taken

FAILS = """(module
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\1b[31mred\\0a")
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64)
    (call $log (i32.const 3) (i32.const 0) (i32.const 9)) unreachable)
  (func (export "quiet") (call $log (i32.const 0) (i32.const 0) (i32.const 9)))
  (func (export "number") (param i32) (result i32) (local.get 0)))"""
FAILS_ID = "org.example.fails"


@pytest.fixture
def own(tmp_path: Path) -> Publisher:
    """A publisher, and a host with 0.1.0 and a plugin that fails."""
    own = taken(tmp_path, "0.1.0")
    own.release("0.1.0", plugin_id=FAILS_ID, stem="fails", code=FAILS)
    own.machine.run("pull", FAILS_ID)
    return own


@pytest.fixture
def control(own: Publisher) -> Iterator[Control]:
    """A service over that host."""
    with controlled(own.machine.home) as running:
        yield running


def without_times(ran: Ran) -> tuple[int, str, str]:
    """What a verb printed, but for how long it took."""
    lines = [line.partition(", ")[0] if " ms" in line else line for line in ran.err.splitlines()]
    out = ran.out
    if out.startswith("{"):
        out = json.dumps({**json.loads(out), "took_ms": 0})
    return ran.code, out, "\n".join(lines)


@pytest.mark.parametrize(
    "arguments",
    [
        (PLUGIN_ID, "run", "Jane"),
        (PLUGIN_ID, "run", "Jane", "--stats"),
        (PLUGIN_ID, "run", "Jane", "--format", "json"),
        (PLUGIN_ID, "run", "\udcff"),
        (PLUGIN_ID, "run", "é\u202e"),
        (PLUGIN_ID, "walk"),
        (PLUGIN_ID, "run"),
        (PLUGIN_ID,),
        (FAILS_ID, "run", "x", "--stats"),
        (FAILS_ID, "run", "x", "--stats", "--format", "json"),
        (FAILS_ID, "quiet", "-v"),
        (FAILS_ID, "quiet"),
        (FAILS_ID, "number", "-7"),
        (FAILS_ID, "number", "x"),
        ("org.example.none", "run"),
    ],
)
def test_a_call_is_the_same_with_a_service_and_without(
    own: Publisher, arguments: tuple[str, ...]
) -> None:
    """The result, the cost, the exit code, the plugin's log on stderr with its escapes."""
    without = own.machine.run("call", *arguments, expect=None)
    with controlled(own.machine.home) as control:
        through = own.machine.run("call", *arguments, expect=None)
        assert control.agency.leases == 1
    assert without_times(through) == without_times(without)
    assert "\x1b" not in through.err


def test_dev_isolation_and_another_config_stay_in_the_own_process(
    own: Publisher, control: Control
) -> None:
    """Who says how a call is to be run gets it so."""
    machine = own.machine
    folder = own.plugin("0.1.0")
    machine.run("call", folder, "run", "Jane", "--dev")
    machine.run("call", PLUGIN_ID, "run", "Jane", "--isolation", "inline")
    machine.run("call", PLUGIN_ID, "run", "Jane", "--config", machine.config_file, expect=None)
    assert control.agency.leases == 0


def test_a_socket_that_nobody_answers_is_no_service(own: Publisher) -> None:
    """A dead service's file: the call runs here, and the others end with 3."""
    with controlled(own.machine.home) as control:
        listener = control.path.with_name("dead")
        os.link(control.path, listener)
    listener.rename(control.path)
    assert own.machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    own.machine.run("status", expect=3)


@pytest.mark.parametrize("verb", [("status",), ("logs", PLUGIN_ID), ("events",)])
def test_without_a_service_it_is_not_found(own: Publisher, verb: tuple[str, ...]) -> None:
    """Exit 3, and what to do."""
    ran = own.machine.run(*verb, expect=3)
    assert ran.err == "agent: cannot find the service: nothing listens\n  try: agent run\n"
    document = own.machine.json(*verb, expect=3).document
    assert document["error"]["code"] == "not-found"


def test_status_for_people_and_for_programs(own: Publisher, control: Control) -> None:
    """The service in a line, each plugin in a row; the document as the API has it."""
    lines = own.machine.run("status").out.splitlines()
    assert lines[0].startswith(f"agent 0.1.0, ready, pid {os.getpid()}, since 20")
    assert lines[1].split() == ["ID", "VERSION", "STATE", "NEXT", "LAST"]
    assert [line.split()[:3] for line in lines[2:]] == [
        [FAILS_ID, "0.1.0", "active"],
        [PLUGIN_ID, "0.1.0", "active"],
    ]
    assert own.machine.json("status").document == control.get("/v1/status")


def test_logs_and_events_are_pages(own: Publisher, control: Control) -> None:
    """The last ones, escaped; the document as the API has it."""
    for name in ("Jane", "Joe"):
        own.machine.run("call", PLUGIN_ID, "run", name)
    own.machine.run("call", FAILS_ID, "run", "x", expect=1)
    lines = own.machine.run("logs", PLUGIN_ID).out.splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["info host_log: greeted"] * 2
    assert own.machine.run("logs", PLUGIN_ID, "-n", "1").out.splitlines() == lines[1:]
    assert own.machine.run("logs", FAILS_ID).out.endswith("warn host_log: \\x1b[31mred\\n\n")
    target = f"/v1/plugins/{PLUGIN_ID}/logs"
    assert own.machine.json("logs", PLUGIN_ID).document == control.get(target)
    assert own.machine.json("events").document == control.get("/v1/events")
    last = own.machine.run("events").out.splitlines()[-1].split("  ")
    assert last[1:4] == [FAILS_ID, "committed", "0.1.0"]


def followed(machine: Machine, *arguments: str) -> tuple["subprocess.Popen[str]", Iterator[str]]:
    """A verb with ``-f`` as a process, and its lines as they come."""
    process = subprocess.Popen(
        machine.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    return process, iter(lambda: lines.get(timeout=WAIT_S), "")


def test_logs_are_followed_until_the_service_ends(own: Publisher) -> None:
    """What is there, then what comes; 3 when the service has gone."""
    with controlled(own.machine.home) as control:
        own.machine.run("call", PLUGIN_ID, "run", "Jane")
        process, lines = followed(own.machine, "logs", PLUGIN_ID, "-f", "--format", "json")
        first = json.loads(next(lines))
        own.machine.run("call", PLUGIN_ID, "run", "Joe")
        second = json.loads(next(lines))
        assert (first["number"], second["number"]) == (1, 2)
        assert first["schemaVersion"] == second["schemaVersion"] == 1
        assert control.server.is_alive
    with process:
        assert process.wait(WAIT_S) == 3
        assert process.stderr is not None
        assert "has ended\n  try: agent run" in process.stderr.read()


def test_following_ends_with_ctrl_c(own: Publisher, control: Control) -> None:
    """130, as everywhere."""
    assert control.server.is_alive
    process, lines = followed(own.machine, "events", "-f")
    next(lines)
    with process:
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130


LAZY = """
import sys
from agent.cli.main import main
code = main(sys.argv[1:])
heavy = ("starlette", "uvicorn", "httptools", "anyio", "asyncio", "wasmtime", "urllib3")
print("loaded:", code, sorted({name.split(".")[0] for name in sys.modules} & set(heavy)))
"""


@pytest.mark.parametrize(
    "arguments", [("status",), ("events",), ("call", "-q", PLUGIN_ID, "run", "Jane")]
)
def test_a_verb_that_goes_through_the_service_loads_neither_engine_nor_server(
    own: Publisher, control: Control, arguments: tuple[str, ...]
) -> None:
    """It is as light as what it does: the service has all that."""
    assert control.server.is_alive
    command = [sys.executable, "-c", LAZY, *arguments, "--home", str(own.machine.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1].endswith("loaded: 0 []")
