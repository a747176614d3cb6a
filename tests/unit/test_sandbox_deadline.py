"""The watchdog, and Ctrl-C: an engine is interrupted when it is time, and at no other time."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sandbox.deadline import Watchdog
from sandbox.offmain import OffMain

ROOT = Path(__file__).parents[2]


class Bell:
    """Something interruptible that says when it was."""

    def __init__(self) -> None:
        self.rung = threading.Event()

    def increment_epoch(self) -> None:
        """Be interrupted."""
        self.rung.set()


def test_an_overdue_engine_is_interrupted() -> None:
    """Engines ring at their own deadlines, however they were armed, and others do not."""
    watchdog = Watchdog()
    now_s = time.monotonic()
    late, soon, past, disarmed = Bell(), Bell(), Bell(), Bell()
    watchdog.arm(late, now_s + 3600)
    watchdog.arm(disarmed, now_s + 0.02)
    assert not watchdog.disarm(disarmed, was_interrupted=False)
    watchdog.arm(soon, now_s + 0.05)
    watchdog.arm(past, now_s - 1)
    assert past.rung.wait(30)
    assert soon.rung.wait(30)
    assert time.monotonic() >= now_s + 0.05
    assert not late.rung.is_set()
    assert not disarmed.rung.is_set()
    watchdog.interrupt(late)
    assert late.rung.is_set()
    watchdog.interrupt(disarmed)
    assert not disarmed.rung.is_set()
    watchdog.close()


def test_closing_waits_for_what_is_armed() -> None:
    """A watchdog that is closed still keeps the deadlines of calls that run."""
    watchdog = Watchdog()
    bell = Bell()
    watchdog.arm(bell, time.monotonic() + 0.02)
    watchdog.close()
    assert bell.rung.wait(30)


def test_the_result_and_the_error_of_a_call_come_back() -> None:
    """From the main thread the call runs elsewhere, from others where it is."""
    off_main = OffMain()
    assert off_main.run(threading.current_thread, stop=lambda: None) is not threading.main_thread()
    seen: list[threading.Thread] = []

    def other() -> None:
        seen.append(off_main.run(threading.current_thread, stop=lambda: None))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [thread]
    off_main.close()
    off_main.close()


SPIN = """
import sys
sys.path[:0] = {paths!r}
from support.sandbox import admit, loaded
wat = '''(module (import "env" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "run") (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (loop (br 0))))'''
say = lambda _: print("running", flush=True)
with loaded(wat, admit(fuel_units=2**62, wall_timeout_ms=3_600_000), on_log=say) as plugin:
    try:
        plugin.call()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_ends_the_guest_and_not_the_process() -> None:
    """SIGINT during an endless call is a KeyboardInterrupt, and the process ends cleanly."""
    code = SPIN.format(paths=[str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert output == b"interrupted\n"
    assert process.returncode == 0
