"""``agent run`` as a process: it begins, tells its supervisor, heeds signals and config, ends."""

import logging
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.hooks import script
from support.service import EAGER, Frail, service, serving
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher

SLOW = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "begun")
  (data (i32.const 128) "well")
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "health") (result i32) (i32.const 0))
  (func (export "run") (param i32 i32) (result i64)
    (call $log (i32.const 2) (i32.const 64) (i32.const 5))
    (loop $again (br_if $again
      (call $open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 4)
        (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0))))
    (i64.const 274877906949)))"""
"""Says that it has begun, and answers with that once the file ``well`` is there."""

SLOW_SECTIONS = f"{Frail.section()}[limits]\nfuel_units = {2**60}\nwall_timeout_ms = 60000\n"


def install_slow(machine: Machine, publisher: Publisher) -> Path:
    """Install ``SLOW``; the file that it waits for."""
    machine.configure(SLOW_SECTIONS)
    well = machine.home / "data" / PLUGIN_ID / "well"
    well.parent.mkdir(parents=True)
    publisher.release("0.1.0", code=SLOW, edit={'["log"]': '["log", "fs_read"]'})
    machine.run("pull", PLUGIN_ID)
    return well


def test_it_updates_by_itself_and_tells_its_supervisor(machine: Machine, frail: Frail) -> None:
    """What is published beside it is taken and committed; READY, STATUS, WATCHDOG, STOPPING."""
    with service(machine, environ={"WATCHDOG_USEC": "2000000"}) as running:
        assert running.notes.lines[:2] == ["READY=1", "STATUS=1 plugin, 0 on trial"]
        running.log.wait_for(f"loaded: {PLUGIN_ID}")
        frail.release("0.2.0")
        place = running.notes.wait_for("STATUS=1 plugin, 1 on trial")
        running.notes.wait_for("STATUS=1 plugin, 0 on trial", since=place)
        running.notes.wait_for("WATCHDOG=1")
        live, trial = serving(machine)
        assert (live.version, trial) == ("0.2.0", None)
        assert running.end() == 0
        running.notes.wait_for("STOPPING=1")


def test_there_is_one_service_for_one_state(machine: Machine, frail: Frail) -> None:
    """A second one ends with 11; one that was killed leaves its place, and no process, behind."""
    with service(machine) as first:
        second = machine.process("run", expect=11)
        assert "another service" in second.err
        frail.release("0.2.0")
        first.await_event("committed", "0.2.0")
        assert first.kill() > 0
    with service(machine) as next_one:
        assert next_one.end(signal.SIGINT) == 130


def test_it_ends_before_it_has_begun(machine: Machine, frail: Frail, tmp_path: Path) -> None:
    """A drop-in whose hook takes long keeps nobody from ending the service that starts."""
    begun = tmp_path / "begun"
    hook = script(tmp_path / "hook", f"touch {begun}; exec sleep 600")
    hooks = f'[hooks]\npre_activate = ["{hook}"]\ntimeout = "5m"\n'
    machine.configure(f"{Frail.section()}{hooks}", update='mode = "manual"')
    for part in frail.plugin("0.2.0").glob(f"{STEM}.*"):
        shutil.copy(part, machine.plugins)
    with machine.popen("run") as process:
        deadline_s = time.monotonic() + PROCESS_WAIT_S
        while not begun.exists():
            assert time.monotonic() < deadline_s
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PROCESS_WAIT_S)
        assert process.returncode == 0, said
    assert machine.version() == "0.1.0"


def test_one_that_does_not_begin_leaves_logging_as_it_was(machine: Machine) -> None:
    """Whoever runs the verb in a program of their own hears no more of it than before."""
    log = logging.getLogger("stack_composer")
    before = log.level, [*log.handlers]
    machine.config_file.write_text("mode = ")
    machine.run("run", expect=2)
    assert (log.level, log.handlers) == before


def test_a_config_that_cannot_be_used_changes_nothing(machine: Machine, frail: Frail) -> None:
    """It is refused and said once, however often it is read; the one in force stays."""
    good = machine.config_file.read_text()
    with service(machine) as running:
        machine.config_file.write_text(f"{good}\n[update]\nmode = 3\n")
        place = running.log.wait_for("the config in force stays")
        running.hang_up()
        frail.release("0.2.0")
        running.await_event("committed", "0.2.0")
        machine.config_file.write_text(good)
        place = running.log.wait_for("the config was read again", since=place)
        running.hang_up()
        running.log.wait_for("the config was read again", since=place)
        frail.release("0.3.0")
        running.await_event("committed", "0.3.0")
    assert sum("the config in force stays" in line for line in running.log.lines) == 1


def test_a_changed_config_is_in_force_soon(machine: Machine, frail: Frail) -> None:
    """A plugin that was left alone is looked at, without a restart, and the reverse."""
    machine.configure(f'{Frail.section()}mode = "manual"\n', probation="1s", update=EAGER)
    frail.release("0.2.0")
    with service(machine) as running:
        machine.configure(Frail.section(), probation="1s", update='interval = "7d"\njitter = "0s"')
        running.await_event("committed", "0.2.0")
        running.await_why("nothing newer")
        frail.release("0.3.0")
        machine.configure(Frail.section(), probation="1s", update=EAGER)
        running.await_event("committed", "0.3.0")


def test_calls_in_flight_end_before_the_service_does(
    machine: Machine, publisher: Publisher
) -> None:
    """Whoever called gets the answer, though the service was told to stop meanwhile."""
    well = install_slow(machine, publisher)
    with service(machine) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(machine.run, "call", PLUGIN_ID, "run", "Jane")
        try:
            running.log.wait_for(f"INFO {PLUGIN_ID}: begun")
            running.process.send_signal(signal.SIGTERM)
            running.notes.wait_for("STOPPING=1")
            assert not answer.done()
        finally:
            well.touch()
        assert answer.result(PROCESS_WAIT_S).out == "begun"
        assert running.process.wait(timeout=PROCESS_WAIT_S) == 0


def test_calls_in_flight_end_though_the_sockets_settings_change(
    machine: Machine, publisher: Publisher
) -> None:
    """A new server answers at once; whoever called the one before gets the answer."""
    well = install_slow(machine, publisher)
    with service(machine) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(machine.run, "call", PLUGIN_ID, "run", "Jane")
        try:
            running.log.wait_for(f"INFO {PLUGIN_ID}: begun")
            machine.configure(f"{SLOW_SECTIONS}[control]\nmax_calls = 3\n")
            running.log.wait_for("by the config that was read")
            assert machine.process("status").out.startswith("agent ")
            assert not answer.done()
        finally:
            well.touch()
        assert answer.result(PROCESS_WAIT_S).out == "begun"
