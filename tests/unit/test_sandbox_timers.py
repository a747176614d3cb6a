"""Deadlines that the kernel keeps: a guest ends at its own, and no other call does."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from wasmtime import Linker, Module, Trap, TrapCode, wat2wasm

from sandbox import DeadlineExceeded, deadline, timers
from sandbox.cell import Cell
from sandbox.deadline import Watchdog
from sandbox.engine import new_engine
from sandbox.inline import InlineRunner
from sandbox.module import shape_of
from sandbox.raw import RawWay
from sandbox.timers import Engines, TimedEngine
from support.sandbox import admit, loaded

ROOT = Path(__file__).parents[2]
GUEST = '(module (func (export "run") (loop (br 0))) (func (export "end")))'
EVER = 2**62


def opened(engine: TimedEngine) -> Cell:
    """A guest whose ``run`` never ends."""
    module = Module(engine, bytes(wat2wasm(GUEST)))
    instances = Linker(engine).instantiate_pre(module)
    with_limits = admit().limits
    cell = RawWay().link(engine, instances, shape_of(module, name="x")).open(with_limits)
    cell.set_fuel(EVER)
    cell.start()
    return cell


def timed() -> TimedEngine:
    """An engine with a timer."""
    engine = new_engine(TimedEngine)
    assert isinstance(engine, TimedEngine)
    return engine


def test_the_kernel_ends_a_guest_at_its_deadline() -> None:
    """Not before it, and also where it has passed; the next guest of the engine is left alone."""
    engine = timed()
    for ahead_s in (0.05, -1.0):
        cell = opened(engine)
        deadline_s = time.monotonic() + ahead_s
        assert engine.arm(deadline_s)
        with pytest.raises(Trap) as caught:
            cell.call("run")
        assert caught.value.trap_code == TrapCode.INTERRUPT
        assert time.monotonic() >= deadline_s
        assert engine.disarm()
        cell.close()
    cell = opened(engine)
    cell.call("end")
    cell.close()


def test_a_timer_that_was_disarmed_in_time_interrupts_nobody() -> None:
    """What is not armed, or not armed any more, has not gone off."""
    engine = timed()
    assert not engine.disarm()
    assert engine.arm(time.monotonic() + 3600)
    assert not engine.disarm()
    assert not engine.disarm()
    cell = opened(engine)
    cell.call("end")
    cell.close()


def see_the_tick(cell: Cell) -> None:
    """Wait for the tick of a timer that is armed: an engine may only go when it has come."""
    with pytest.raises(Trap) as caught:
        cell.call("run")
    assert caught.value.trap_code == TrapCode.INTERRUPT
    cell.close()


def test_an_engine_that_may_yet_be_interrupted_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that passed while no guest looked: the engine is used again after a while."""
    monkeypatch.setattr(deadline, "_GRACE_S", 3600)  # the only tick is the kernel's
    watchdog = Watchdog()
    engines = Engines(TimedEngine)
    engine = new_engine(engines.new)
    assert isinstance(engine, TimedEngine)
    cell = opened(engine)
    watchdog.arm(engine, time.monotonic() - 1)
    see_the_tick(cell)  # before the timer is disarmed: from then on it may never come
    assert watchdog.disarm(engine, was_interrupted=False)
    engines.rest(engine)
    assert new_engine(engines.new) is not engine
    monkeypatch.setattr(timers, "_REST_S", -1)
    assert new_engine(engines.new) is engine
    cell = opened(engine)
    cell.call("end")
    cell.close()
    watchdog.close()


def test_an_engine_whose_guest_saw_the_tick_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tick was sent and one was seen: nothing is under way. Of two nobody can tell."""
    monkeypatch.setattr(deadline, "_GRACE_S", 3600)  # no tick but the kernel's and ours
    watchdog = Watchdog()
    engine = timed()
    cell = opened(engine)
    watchdog.arm(engine, time.monotonic() - 1)
    see_the_tick(cell)
    assert not watchdog.disarm(engine, was_interrupted=True)
    cell = opened(engine)
    watchdog.arm(engine, time.monotonic() - 1)
    see_the_tick(cell)
    watchdog.interrupt(engine)
    assert watchdog.disarm(engine, was_interrupted=True)
    watchdog.close()


@pytest.mark.parametrize(
    "arm", [lambda *_: False, lambda *_: True], ids=["no timer", "a timer that never rings"]
)
def test_the_watchdog_is_there_where_the_kernel_is_not(
    arm: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without timers, and with timers that don't go off, an endless guest ends."""
    monkeypatch.setattr(TimedEngine, "arm", arm)
    admission = admit(fuel_units=EVER, wall_timeout_ms=30)
    with loaded(GUEST, admission) as plugin, pytest.raises(DeadlineExceeded):
        plugin.call("run")


def test_a_system_that_has_no_timer_left_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """``timer_create`` fails: the engine has none, and is freed all the same."""
    monkeypatch.setattr(timers, "_create", lambda *_: -1)
    engine = timed()
    assert not engine.arm(time.monotonic() + 1)
    assert not engine.disarm()
    engine.close()


def test_a_deadline_far_off_is_told_to_the_kernel_when_it_is_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until then a call costs no system call; then the kernel ends the guest."""
    told: list[float] = []
    monkeypatch.setattr(deadline, "_LEAD_S", 0.02)
    monkeypatch.setattr(deadline, "_GRACE_S", 3600)
    original = TimedEngine.arm

    def arm(engine: TimedEngine, deadline_s: float) -> bool:
        told.append(deadline_s - time.monotonic())
        return original(engine, deadline_s)

    monkeypatch.setattr(TimedEngine, "arm", arm)
    with loaded(GUEST, admit(fuel_units=EVER, wall_timeout_ms=200)) as plugin:
        plugin.call("end")
        assert told == []
        with pytest.raises(DeadlineExceeded):
            plugin.call("run")
    assert len(told) == 1
    assert told[0] <= 0.02


def test_a_worker_whose_deadline_passed_unseen_is_not_used_again() -> None:
    """A guest that slept past its deadline: the tick may come later, and meets nobody's call."""
    wat = """(module
      (import "wasi_snapshot_preview1" "poll_oneoff"
        (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "end"))
      (func (export "run")
        (i64.store (i32.const 24) (i64.const 60000000000))
        (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))"""
    with loaded(wat, admit(wall_timeout_ms=300)) as plugin:
        assert isinstance(plugin._runner, InlineRunner)
        pool = plugin._runner._fresh._pool
        (first,) = pool._idle
        with pytest.raises(DeadlineExceeded):
            plugin.call("run")
        assert first.is_spent
        assert pool._idle == []
        plugin.call("end")
        (second,) = pool._idle
        assert second.engine is not first.engine


FORKED = """
import os, sys, time
sys.path[:0] = {paths!r}
from wasmtime import Trap
from unit.test_sandbox_timers import opened, timed
engine = timed()
cell = opened(engine)
assert engine.arm(time.monotonic() + 3600)
assert not engine.disarm()
child = os.fork()
if not child:
    assert engine.arm(time.monotonic() + 0.02)
    try:
        cell.call("run")
    except Trap:
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_timers_of_its_own() -> None:
    """The parent's do not exist there: the first use makes another."""
    code = FORKED.format(paths=[str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
