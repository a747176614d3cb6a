"""``PluginHost`` in a program: calls go on while another process changes what is installed."""

import logging
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import PluginHost
from agent.errors import AgentError, NotFoundError, TrustError, UsageError
from agent.ledger.ledger import Ledger
from sandbox import ArgumentError, DeadlineExceeded, FuelExhausted, GuestTrap, MissingExport
from support.system import PLUGIN_ID, STEM, Machine, Publisher

OTHER_ID = "org.example.other"

SPINS = """(module (memory (export "memory") 1)
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64) (loop $l (br $l)) (i64.const 0)))"""


def test_no_call_fails_while_another_process_updates(
    installed: Machine, publisher: Publisher
) -> None:
    """Four threads call in a loop; ``agent update`` in another process; all come to see 0.2.0."""
    publisher.release("0.2.0")
    new = installed.run("call", str(publisher.plugin("0.2.0")), "run", "Jane", "--dev").out
    over = threading.Event()
    with PluginHost(home=installed.home) as host:
        host.load_plugin(f"{STEM}.wasm")

        def call() -> list[str]:
            """Call until the new release answers twice; the answers without repetition."""
            answers: list[str] = []
            while not over.is_set():
                answer = str(host.call_plugin("run", ["Jane"]))
                if not answers or answers[-1] != answer:
                    answers.append(answer)
                if answer == new:
                    return answers
            return answers

        watchdog = threading.Timer(60, over.set)
        watchdog.start()
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call) for _ in range(4)]
            assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
            updated = installed.process("update", "--format", "json")
            answers = [future.result() for future in calls]
        watchdog.cancel()
    assert updated.row["outcome"] == "trial"
    assert new != "Hello, Jane"
    assert answers == [["Hello, Jane", new]] * 4
    assert installed.json("info", PLUGIN_ID).row["failures"] == 0
    assert installed.json("info", PLUGIN_ID).row["calls"] > 0


def test_a_rollback_by_another_process_is_followed(
    installed: Machine, publisher: Publisher
) -> None:
    """A host that serves 0.2.0 serves 0.1.0 again after ``agent rollback``."""
    publisher.release("0.2.0")
    installed.run("update")
    with PluginHost(home=installed.home) as host:
        host.load_plugin(f"{STEM}.wasm")
        assert host.call_plugin("run", ["Jane"]) != "Hello, Jane"
        installed.process("rollback", PLUGIN_ID)
        host._loaded.find(PLUGIN_ID).follow(now=True)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"


def test_discover_loads_the_users_and_the_systems_plugins(
    installed: Machine, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """All that are sound; one that is forged is logged and keeps nobody away."""
    system = installed.home / "system"
    system.mkdir()
    signed = publisher.plugin("0.1.0", plugin_id=OTHER_ID, stem="other")
    installed.run("sign", signed, "--key", publisher.key)
    stranger = Publisher(installed, publisher.folder.parent / "stranger", "stranger")
    forged = stranger.plugin("0.1.0", plugin_id="org.example.forged", stem="forged")
    installed.run("sign", forged, "--key", stranger.key)
    for folder in (signed, forged):
        for file in folder.iterdir():
            shutil.copy(file, system)
    with PluginHost(home=installed.home) as host, caplog.at_level(logging.WARNING):
        assert host.discover() == (PLUGIN_ID, OTHER_ID)
        assert host.call_plugin("run", ["Jane"], plugin=OTHER_ID) == "Hello, Jane"
        with pytest.raises(UsageError, match="cannot choose a plugin"):
            host.call_plugin("run", ["Jane"])
    assert "cannot load" in caplog.text
    assert "forged.toml" in caplog.text


def test_a_path_runs_those_very_files(installed: Machine, publisher: Publisher) -> None:
    """With a "/", the files are verified and run as they are, neither installed nor recorded."""
    folder = publisher.plugin("0.2.0", plugin_id=OTHER_ID, stem="other")
    before = installed.snapshot()
    with PluginHost(home=installed.home) as host:
        with pytest.raises(TrustError):
            host.load_plugin(folder / "other.wasm")
        installed.run("sign", folder, "--key", publisher.key)
        assert host.load_plugin(folder / "other.wasm") == OTHER_ID
        assert host.call_plugin("run", ["Jane"]) != "Hello, Jane"
    assert installed.snapshot() == before
    installed.run("info", OTHER_ID, expect=3)


def test_errors_are_typed(machine: Machine, publisher: Publisher) -> None:
    """What a caller branches on: not found, usage, trap, fuel, deadline, export, arguments."""
    publisher.release("0.4.0")
    publisher.release("0.1.0", plugin_id="org.example.spins", stem="spins", code=SPINS)
    machine.run("pull", PLUGIN_ID)
    machine.run("pull", "org.example.spins")
    with PluginHost(home=machine.home) as host:
        with pytest.raises(UsageError):
            host.call_plugin("run", ["Jane"])
        with pytest.raises(NotFoundError):
            host.load_plugin("nothing.wasm")
        with pytest.raises(NotFoundError):
            host.call_plugin("run", ["Jane"], plugin=PLUGIN_ID)
        host.load_plugin(f"{STEM}.wasm")
        with pytest.raises(GuestTrap):
            host.call_plugin("run", ["Jane"])
        with pytest.raises(MissingExport):
            host.call_plugin("walk", ["Jane"])
        with pytest.raises(ArgumentError):
            host.call_plugin("run", ["Jane", "Doe"])
        assert host.call_plugin("health") == 0
        host.load_plugin("spins.wasm")
        with pytest.raises(FuelExhausted):
            host.call_plugin("run", ["Jane"], plugin="org.example.spins")
    machine.configure(f"[limits]\nfuel_units = {2**62}\nwall_timeout_ms = 50\n", probation="0s")
    with PluginHost(home=machine.home) as host:
        host.load_plugin("spins.wasm")
        with pytest.raises(DeadlineExceeded):
            host.call_plugin("run", ["Jane"])
    machine.run("call", "org.example.spins", "run", "Jane", expect=124)
    machine.run("call", PLUGIN_ID, "walk", "Jane", expect=3)
    machine.run("call", PLUGIN_ID, "run", expect=2)


class Unwritable(Ledger):
    """A ledger on a disk that takes nothing more."""

    def add_samples(self, *_: object) -> None:
        """Fail as SQLite does."""
        message = "attempt to write a readonly database"
        raise sqlite3.OperationalError(message)


def test_a_host_that_cannot_record_serves_on(
    installed: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and answers all the same."""
    with (
        PluginHost(home=installed.home) as host,
        caplog.at_level(logging.WARNING),
    ):
        host._context._ledger = Unwritable(installed.home / "state" / "state.db")
        host.load_plugin(f"{STEM}.wasm")
        for _ in range(3):
            assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
            host._watch.flush()
    assert caplog.text.count("cannot record calls") == 1


def test_a_trial_that_cannot_be_loaded_is_given_up(
    installed: Machine, publisher: Publisher
) -> None:
    """A host whose trial release has rotted on disk goes back and serves the one before."""
    publisher.release("0.2.0")
    installed.run("update")
    (sealed,) = installed.plugins.glob(f".store/{PLUGIN_ID}/0.2.0-*/{STEM}.wasm")
    sealed.chmod(0o644)
    sealed.write_bytes(b"\0asm rotten")
    shutil.rmtree(installed.home / "cache")
    assert installed.json("list").row["state"] == "broken"
    with PluginHost(home=installed.home) as host:
        host.load_plugin(f"{STEM}.wasm")
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
    assert installed.version() == "0.1.0"


def test_a_revoked_key_stops_what_is_installed(installed: Machine, publisher: Publisher) -> None:
    """A revocation stops what the key signed at the next load; ``keep_releases`` would not."""
    installed.run("trust", "revoke", publisher.key_id, "--reason", "stolen")
    with PluginHost(home=installed.home) as host, pytest.raises(AgentError, match="revoked"):
        host.load_plugin(f"{STEM}.wasm")
    assert "revoked" in installed.run("call", PLUGIN_ID, "run", "Jane", expect=7).err


def test_a_capability_denied_holds_for_the_next_load(
    installed: Machine, publisher: Publisher
) -> None:
    """``agent deny ID log``: the call traps with ``CapabilityDenied``, exit 8."""
    assert publisher.key_id
    installed.run("deny", PLUGIN_ID, "log")
    ran = installed.json("call", PLUGIN_ID, "run", "Jane", expect=8)
    assert "log" in ran.document["error"]["message"]
    installed.run("grant", PLUGIN_ID, "log")
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


EMBEDS = """
import sys
from pathlib import Path
from agent import PluginHost

try:
    with PluginHost(home=Path(sys.argv[1])) as host:
        host.load_plugin("spins.wasm")
        print("ready", flush=True)
        host.call_plugin("run", ["Jane"])
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""


def test_an_interrupt_reaches_the_program(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Ctrl-C during a call is a ``KeyboardInterrupt`` of the embedding program, at once."""
    publisher.release("0.1.0", plugin_id="org.example.spins", stem="spins", code=SPINS)
    machine.run("pull", "org.example.spins")
    machine.configure(f"[limits]\nfuel_units = {2**62}\nwall_timeout_ms = 60000\n")
    script = tmp_path / "embeds.py"
    script.write_text(EMBEDS)
    command = [sys.executable, str(script), str(machine.home)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (7, "interrupted\n"), err
    assert "panicked" not in err


def test_an_interrupt_ends_a_call_with_130(machine: Machine, publisher: Publisher) -> None:
    """Ctrl-C during ``agent call``: 130, and nothing but a clean end."""
    publisher.release("0.1.0", plugin_id="org.example.spins", stem="spins", code=CHATTY)
    machine.run("pull", "org.example.spins")
    machine.configure(f"[limits]\nfuel_units = {2**62}\nwall_timeout_ms = 60000\n")
    with machine.popen("call", "org.example.spins", "run", "Jane") as process:
        assert process.stderr is not None
        assert "info: on" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


CHATTY = (
    SPINS.replace(
        "(module (memory",
        """(module
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory""",
    )
    .replace(
        "(loop $l",
        "(call $log (i32.const 2) (i32.const 64) (i32.const 2)) (loop $l",
    )
    .replace(
        '(func (export "health")',
        '(data (i32.const 64) "on") (func (export "health")',
    )
)


def test_samples_are_written_by_the_end(installed: Machine) -> None:
    """A host's counted calls are in the ledger when it is closed."""
    with PluginHost(home=installed.home) as host:
        host.load_plugin(f"{STEM}.wasm")
        for _ in range(5):
            host.call_plugin("run", ["Jane"])
    row = installed.json("info", PLUGIN_ID).row
    assert (row["calls"], row["failures"]) == (5, 0)
