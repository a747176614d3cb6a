"""What only a process of its own shows: signals, pipes, what is printed where."""

import base64
import json
import os
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from support.registry import PASSWORD, USER, docker_registry, misbehaving
from support.system import PLUGIN_ID, Machine, Publisher


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_fault(
    machine: Machine, publisher: Publisher, unbuffered: str
) -> None:
    """``agent list | head -0``: no traceback, exit 0, whenever Python writes it out."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    for arguments in (("list",), ("history", PLUGIN_ID, "--format", "json"), ("--help",)):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                machine.command(*arguments),
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_during_a_fetch_ends_with_130(machine: Machine, publisher: Publisher) -> None:
    """Ctrl-C while a registry keeps us waiting: 130, and nothing was installed."""
    assert publisher.key_id
    with misbehaving() as server:
        arrived = threading.Event()

        def hold(_: BaseHTTPRequestHandler) -> None:
            arrived.set()
            server.over.wait(60)

        server.route = hold
        with machine.popen("pull", f"{server.host}/{PLUGIN_ID}") as process:
            assert arrived.wait(60)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert machine.json("list").document["plugins"] == []


def test_data_goes_to_stdout_and_messages_to_stderr(machine: Machine, publisher: Publisher) -> None:
    """Also of errors: JSON on stdout for programs, a sentence and the next step on stderr."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    ran = machine.process("info", "org.example.nothing", "--format", "json", expect=3)
    error = json.loads(ran.out)["error"]
    assert error.keys() == {"code", "message", "hint"}
    assert error["code"] == "not-found"
    assert ran.err == f"agent: {error['message']}\n  try: {error['hint']}\n"
    assert machine.process("list", "-q").err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("pull",),
        ("pull", "a", "b"),
        ("fly",),
        ("pull", "no-dots/and-no-port/org.example.hello"),
        ("pull", "oci:org.example.hello"),
        ("pull", "Org.Example"),
        ("list", "--format", "yaml"),
        ("grant", PLUGIN_ID, "everything"),
        ("push", "/nowhere"),
        ("call", "./nowhere.toml/", "run"),
    ],
)
def test_wrong_usage_is_2(machine: Machine, arguments: tuple[str, ...]) -> None:
    """Wrong arguments and malformed references: 2, and a message."""
    ran = machine.run(*arguments, expect=2)
    assert ran.err.startswith("agent: ")


def test_a_broken_trust_store_is_2(machine: Machine, publisher: Publisher) -> None:
    """A store that cannot be read, is world-writable or older than one seen: 2, names the file."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    store = machine.home / "config" / "trusted_keys.toml"
    good = store.read_text(encoding="utf-8")
    serial = next(line for line in good.splitlines() if line.startswith("serial"))
    for text in (f"{good}\nfriends = 1\n", "schema = [", good.replace(serial, "serial = 0")):
        store.write_text(text, encoding="utf-8")
        ran = machine.run("call", PLUGIN_ID, "run", "Jane", expect=2)
        assert str(store) in ran.err
    store.write_text(good, encoding="utf-8")
    store.chmod(0o666)
    assert str(store) in machine.run("call", PLUGIN_ID, "run", "Jane", expect=2).err


def test_a_broken_config_is_2_and_names_file_and_key(machine: Machine) -> None:
    """An unknown key is refused by every verb that reads the config."""
    machine.configure('[limits]\nfuel = "lots"\n')
    ran = machine.json("list", expect=2)
    assert str(machine.config_file) in ran.document["error"]["message"]
    assert "limits.fuel" in ran.document["error"]["message"]


def test_without_a_trust_store_everything_is_denied(machine: Machine, publisher: Publisher) -> None:
    """No store: 7, with the hint to add a key."""
    publisher.release("0.1.0")
    (machine.home / "config" / "trusted_keys.toml").unlink()
    assert "agent trust add" in machine.run("pull", PLUGIN_ID, expect=7).err


def test_a_registry_that_wants_a_login_is_4(
    machine: Machine, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials: 4, and the host's name; with those of the docker config all is well."""
    storage, docker = tmp_path / "storage", tmp_path / "docker-config"
    storage.mkdir()
    docker.mkdir()
    with docker_registry(storage, login=True) as host:
        base = f"{host}/plugins"
        folder = publisher.plugin("0.1.0")
        push = ("push", folder, "--key", publisher.key, "--registry", base)
        ran = machine.json(*push, expect=4)
        assert ran.document["error"]["code"] == "authentication"
        assert host in ran.err
        machine.json("pull", PLUGIN_ID, "--registry", base, expect=4)
        for password, code in (("wrong", 4), (PASSWORD, 0)):
            pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
            config = json.dumps({"auths": {host: {"auth": pair}}})
            (docker / "config.json").write_text(config, encoding="utf-8")
            monkeypatch.setenv("DOCKER_CONFIG", str(docker))
            ran = machine.json(*push, expect=code)
            assert password not in ran.err + ran.out
            assert pair not in ran.err + ran.out
        machine.run("pull", PLUGIN_ID, "--registry", base)
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


LOGS_ESCAPES = """(module
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "\\1b[31mred\\07")
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64)
    (call $log (i32.const 2) (i32.const 64) (i32.const 9))
    (i64.const 0)))"""


def test_control_characters_are_escaped_wherever_they_are_shown(
    machine: Machine, publisher: Publisher
) -> None:
    """What a plugin logs, what its manifest says and what an operator denies: no raw escape."""
    hostile = 'description = "\\u001b]0;owned\\u0007"'
    publisher.release(
        "0.1.0",
        code=LOGS_ESCAPES,
        edit={'description = "Answers with a greeting."': hostile},
    )
    machine.run("pull", PLUGIN_ID)
    shown = [
        machine.run("call", PLUGIN_ID, "run", "Jane").err,
        machine.run("inspect", PLUGIN_ID).out,
        machine.json("inspect", PLUGIN_ID).out,
        machine.run("pull", "a\x1b[31m/b", expect=2).err,
        machine.run("deny", PLUGIN_ID, "red\x1b[31m", expect=2).err,
        machine.run("deny", PLUGIN_ID, "red\u202eder", expect=2).err,
        *(
            machine.run(verb, "red\x1b[31m.x", expect=2).err
            for verb in ("hold", "unhold", "disable", "enable", "remove", "doctor")
        ),
    ]
    for text in shown:
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
    assert "red" in shown[0]
    assert all("red" in text for text in shown[4:])
    assert "owned" in shown[1]


def test_a_component_of_the_path_is_never_taken_from_outside(machine: Machine) -> None:
    """Ids that are no ids build no path: 2 or 3, and nothing outside of the home is made."""
    for verb in ("call", "info", "history", "why", "grants", "update", "rollback", "prune"):
        for plugin_id in ("..", "../../escape", "/etc", ".store", "a/../../b"):
            assert machine.run(verb, plugin_id, expect=None).code in (2, 3)
    assert {path.name for path in machine.home.iterdir()} <= {"config", "state", "plugins", "cache"}
