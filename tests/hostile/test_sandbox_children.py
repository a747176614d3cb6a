"""Children that are killed, stopped, starved or left alone: the host stands, nothing is left."""

import ctypes
import functools
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sandbox import (
    CallResult,
    CrashLoopError,
    DeadlineExceeded,
    GuestTrap,
    LogRecord,
    MemoryExceeded,
    Plugin,
    PluginPanic,
    Sandbox,
    SandboxError,
)
from sandbox.isolate import crashes, nursery
from sandbox.isolate.process import ProcessRunner
from support.sandbox import (
    BUMP,
    ECHO,
    admit,
    descendants,
    nothing_left,
    plugin_files,
    sandbox,
    zygote_of,
)

WAIT_S = 30
EVER = 2**62
PR_SET_CHILD_SUBREAPER = 36

# says "begun" and spins; says nothing and answers where it is given 0
SPIN = f"""(module (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32))) {BUMP}
  (global $n (mut i32) (i32.const 0))
  (data (i32.const 0) "begun")
  (func (export "count") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "run") (param i32) (result i32)
    (if (local.get 0) (then
      (call $log (i32.const 2) (i32.const 0) (i32.const 5)) (loop (br 0))))
    (i32.const 7)))"""


@pytest.fixture(autouse=True)
def all_gone() -> Iterator[None]:
    """Whatever becomes of the children, no process, thread or descriptor is left."""
    with nothing_left():
        yield


def pid_of(plugin: Plugin) -> int:
    """The process of a plugin that was called."""
    assert isinstance(plugin._runner, ProcessRunner)
    pid = plugin._runner.keeper.pid
    assert pid is not None
    return pid


def standing_by(plugin: Plugin, *beside: int) -> int:
    """The child that waits for its first call, once it is there; other children are ``beside``."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        if others := descendants(zygote_of(plugin)) - {*beside}:
            (pid,) = others
            return pid
        time.sleep(0.01)
    raise AssertionError("none stands by")


def end(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Signal a process and wait for its end."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, how)
        assert select.select([handle], [], [], WAIT_S)[0]
    finally:
        os.close(handle)


def stop(pid: int) -> None:
    """Stop a process; it may take a step more before it does."""
    os.kill(pid, signal.SIGSTOP)
    until_s = time.monotonic() + WAIT_S
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    for thread in threads:
        while (thread / "stat").read_text("ascii").rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until_s


@contextmanager
def spinning(
    calls: int = 1, wall_timeout_ms: int = 60_000, instance: str = '"fresh"'
) -> Iterator[tuple[Plugin, list["Future[CallResult]"]]]:
    """A plugin in whose child some calls run that end at their deadline only."""
    begun = threading.Semaphore(0)

    def note(_: LogRecord) -> None:
        begun.release()

    admission = admit(isolation="process", fuel_units=EVER, wall_timeout_ms=wall_timeout_ms)
    with sandbox(admission, on_log=note) as box, ThreadPoolExecutor(calls) as pool:
        plugin = box.load(plugin_files(SPIN, instance=instance))
        running = [pool.submit(plugin.call, "run", [1]) for _ in range(calls)]
        for _ in range(calls):
            assert begun.acquire(timeout=WAIT_S)
        yield plugin, running


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT, signal.SIGSYS])
def test_a_child_that_dies_is_the_calls_end_and_not_the_hosts(how: signal.Signals) -> None:
    """Every call in flight ends in a panic that names the signal; the next one is served."""
    with spinning(calls=3) as (plugin, running):
        end(pid_of(plugin), how)
        errors = [call.exception(WAIT_S) for call in running]
        assert plugin.call("run", [0]).value == 7
    for error in errors:
        assert isinstance(error, PluginPanic)
        assert (error.signal, error.code) == (how, how.name)
        assert error.plugin_id == "org.example.hello"
        assert f"signal {how.value}" in str(error)
        assert error.stats.took_ms > 0


def test_a_child_that_died_between_calls_costs_no_call() -> None:
    """The next call runs in a new child, and nobody is told of a panic."""
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(ECHO))
        assert plugin.call("run", ["one"]).value == "one"
        first = pid_of(plugin)
        end(first)
        assert plugin.call("run", ["two"]).value == "two"
        assert pid_of(plugin) != first


def test_a_call_that_a_dying_child_never_read_is_made_again() -> None:
    """A call that lies unread in a killed child's socket ran nowhere: the next child serves it."""
    with sandbox(admit(isolation="process", wall_timeout_ms=60_000)) as box:
        plugin = box.load(plugin_files(ECHO))
        plugin.call("run", ["x"])
        pid, runner = pid_of(plugin), plugin._runner
        assert isinstance(runner, ProcessRunner)
        stop(pid)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(plugin.call, "run", ["again"])
            kept = runner.keeper._kept
            assert kept is not None
            until_s = time.monotonic() + WAIT_S
            while not kept.in_flight:  # then it is sent, or about to be
                assert time.monotonic() < until_s
            end(pid)
            assert call.result(WAIT_S).value == "again"
        assert pid_of(plugin) != pid


def test_a_stopped_child_ends_its_calls_at_the_deadline() -> None:
    """A child that takes no step any more is killed past the grace, and replaced."""
    with spinning(calls=1, wall_timeout_ms=1_500) as (plugin, running):
        stopped = pid_of(plugin)
        stop(stopped)
        assert isinstance(running[0].exception(WAIT_S), DeadlineExceeded)
        assert not Path(f"/proc/{stopped}").exists()
        assert plugin.call("run", [0]).value == 7


def test_a_call_to_a_stopped_child_has_its_deadline_too() -> None:
    """A child that was stopped while nobody called: DeadlineExceeded, and then a new one."""
    with sandbox(admit(isolation="process", wall_timeout_ms=1_500)) as box:
        plugin = box.load(plugin_files(ECHO))
        plugin.call("run", ["x"])
        stop(pid_of(plugin))
        with pytest.raises(DeadlineExceeded):
            plugin.call("run", ["x"])
        assert plugin.call("run", ["y"]).value == "y"


def test_a_child_starved_of_the_processor_harms_its_own_calls_only() -> None:
    """Calls end served or by their deadlines, and those of another plugin are served."""
    with sandbox(admit(isolation="process", wall_timeout_ms=1_500)) as box:
        starved, other = box.load(plugin_files(ECHO)), box.load(plugin_files(ECHO))
        starved.call("run", ["x"])
        other.call("run", ["x"])
        for thread in Path(f"/proc/{pid_of(starved)}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
        hog = subprocess.Popen(
            [sys.executable, "-c", "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"]
        )
        try:
            for _ in range(3):
                with suppress(DeadlineExceeded, CrashLoopError):
                    assert starved.call("run", ["x"]).value == "x"
                assert other.call("run", ["y"]).value == "y"
        finally:
            hog.kill()
            hog.wait(WAIT_S)


def test_a_child_starved_of_memory_fails_its_call_and_serves_on() -> None:
    """What the operating system refuses the guest is told of, or has no instance at all."""
    grow = """(module (memory (export "memory") 1) (func (export "trap") unreachable)
      (func (export "run") (param i32) (result i32) (memory.grow (local.get 0))))"""
    exports = '[exports.run]\nparams = ["i32"]\nresult = "i32"\n'
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(grow, exports, instance='"reused"'))
        assert plugin.call("run", [1000]).value == 1
        pid = pid_of(plugin)
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        assert 8 * (256 << 20) < hard < 3 << 30
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[5]
        resource.prlimit(
            pid, resource.RLIMIT_DATA, (int(pages) * resource.getpagesize() + (1 << 20), hard)
        )
        assert plugin.call("run", [1000]).value == -1
        with pytest.raises(GuestTrap):
            plugin.call("trap")  # the next call needs an instance
        resource.prlimit(pid, resource.RLIMIT_DATA, (1 << 20, hard))
        with pytest.raises(MemoryExceeded, match="gives its process no more memory"):
            plugin.call("run", [1])
        resource.prlimit(pid, resource.RLIMIT_DATA, (hard, hard))
        assert plugin.call("run", [1000]).value == 1
        assert pid_of(plugin) == pid


def test_a_child_that_crashes_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A few times it is started again; then the plugin is refused, told once, others serve on."""
    told: list[tuple[str, str, str]] = []
    monkeypatch.setattr(crashes, "DELAYS_S", (0.0,) * 4)
    with sandbox(admit(isolation="process"), on_crash_loop=lambda *what: told.append(what)) as box:
        plugin, other = box.load(plugin_files(ECHO)), box.load(plugin_files(ECHO))
        for _ in range(5):
            assert plugin.call("run", ["x"]).value == "x"
            end(pid_of(plugin), signal.SIGABRT)
        for _ in range(2):
            with pytest.raises(CrashLoopError, match="crashed again and again") as caught:
                plugin.call("run", ["x"])
        assert other.call("run", ["y"]).value == "y"
        assert box.load(plugin_files(ECHO)).call("run", ["anew"]).value == "anew"
    assert caught.value.retry_after_s is None
    assert [(plugin_id, release) for plugin_id, release, _ in told] == [("org.example.hello", "")]
    assert "signal 6" in told[0][2]
    assert "org.example.hello is not called any more by this host" in caplog.text


def test_after_a_second_crash_the_next_start_waits() -> None:
    """A call that comes too early is refused and told when to come again."""
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(ECHO))
        for _ in range(2):
            plugin.call("run", ["x"])
            end(pid_of(plugin))
        with pytest.raises(CrashLoopError, match=r"the next one starts in 0\.[01] s") as caught:
            plugin.call("run", ["x"])
        assert caught.value.retry_after_s is not None
        assert 0 < caught.value.retry_after_s <= 0.1


def test_a_child_stands_by_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first call for any plugin, then for the one that started last, and its folder."""
    monkeypatch.setattr(crashes, "DELAYS_S", (0.0,) * 4)
    words = {"capabilities": '["fs_read"]'}
    admission = admit("fs_read", isolation="process", data_dir=tmp_path / "data")
    with sandbox(admission) as box:
        one, other = (box.load(plugin_files(ECHO, **words)) for _ in range(2))
        waiting = standing_by(one)
        assert one.call("run", ["x"]).value == "x"
        assert pid_of(one) == waiting
        waiting = ready_for(one, pid_of(one))
        end(pid_of(one))
        assert one.call("run", ["y"]).value == "y"
        assert pid_of(one) == waiting
        # one that was killed meanwhile is made good for
        end(ready_for(one, pid_of(one)))
        end(pid_of(one))
        assert one.call("run", ["z"]).value == "z"
        before = ready_for(one, pid_of(one))
        assert other.call("run", ["x"]).value == "x"
        waiting = ready_for(other, pid_of(one), pid_of(other), before)
        end(pid_of(other))
        (tmp_path / "data").mkdir()
        assert other.call("run", ["y"]).value == "y"
        assert pid_of(other) != waiting
        until_s = time.monotonic() + WAIT_S
        while {before, waiting} & descendants():
            assert time.monotonic() < until_s


def ready_for(plugin: Plugin, *beside: int) -> int:
    """The child that stands by, once it is kept for that plugin."""
    pid = standing_by(plugin, *beside)
    runner = plugin._runner
    assert isinstance(runner, ProcessRunner)
    until_s = time.monotonic() + WAIT_S
    while runner.keeper._standby._whose is not runner.keeper:
        assert time.monotonic() < until_s
    return pid


@pytest.mark.parametrize("begin", ["(start $hello)", '(export "_initialize" (func $hello))'])
def test_no_guest_runs_in_a_child_that_stands_by(begin: str) -> None:
    """What runs before the first function runs with the call, and not ahead of it."""
    hello = f"""(module (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
      {BUMP} (func $hello (call $log (i32.const 2) (i32.const 0) (i32.const 0))) {begin}
      (func (export "run") (result i32) (i32.const 7)))"""
    said: list[LogRecord] = []
    with sandbox(admit(isolation="process"), on_log=said.append) as box:
        plugin = box.load(plugin_files(hello))
        assert plugin.call().value == 7
        waiting = ready_for(plugin, pid_of(plugin))
        end(pid_of(plugin))
        assert plugin.call().value == 7
        assert pid_of(plugin) == waiting
        plugin.close()
    assert len(said) == 2


def test_a_closed_sandbox_leaves_no_dead_process_to_bury() -> None:
    """Not the child that stood by either, where this is the one that orphans are given to."""
    adopt = functools.partial(ctypes.CDLL(None).prctl, PR_SET_CHILD_SUBREAPER)
    assert adopt(1, 0, 0, 0) == 0
    try:
        with sandbox(admit(isolation="process")) as box:
            plugin = box.load(plugin_files(ECHO))
            assert plugin.call("run", ["x"]).value == "x"
            waiting = ready_for(plugin, pid_of(plugin))
        assert not Path(f"/proc/{waiting}").exists()
    finally:
        adopt(0, 0, 0, 0)


def test_a_child_there_is_no_room_for_costs_the_others_nothing() -> None:
    """The call that needs it is told so; the calls that run go on, and later there is room."""
    with spinning() as (plugin, running):
        other = _sandbox_of(plugin).load(plugin_files(ECHO))
        zygote, here = zygote_of(plugin), pid_of(plugin)
        limits = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
        end(ready_for(plugin, here))
        taken = {int(entry.name) for entry in Path(f"/proc/{zygote}/fd").iterdir()}
        free = [number for number in range(limits[0]) if number not in taken]
        # for nothing that the host gives; for that alone
        for most in (free[0], free[3]):
            resource.prlimit(zygote, resource.RLIMIT_NOFILE, (most, limits[1]))
            with pytest.raises(SandboxError, match=r"start a process .* Too many open files"):
                other.call("run", ["x"])
        resource.prlimit(zygote, resource.RLIMIT_NOFILE, limits)
        assert other.call("run", ["x"]).value == "x"
        assert (zygote_of(plugin), pid_of(plugin), running[0].done()) == (zygote, here, False)
        end(here)
        assert isinstance(running[0].exception(WAIT_S), PluginPanic)


def test_a_stopped_child_that_its_orders_do_not_fit_ends_the_call_at_its_deadline() -> None:
    """Orders that are longer than a socket holds, and nobody reads them: a new child then."""
    settings = {"word": "x" * (1 << 20)}
    admission = admit(isolation="process", wall_timeout_ms=1_500, settings=settings)
    with sandbox(admission) as box:
        plugin = box.load(plugin_files(ECHO, '[settings]\nword = ""\n'))
        stopped = standing_by(plugin)
        stop(stopped)
        with pytest.raises(DeadlineExceeded):
            plugin.call("run", ["x"])
        assert not Path(f"/proc/{stopped}").exists()
        assert plugin.call("run", ["x"]).value == "x"


def test_a_start_that_took_a_calls_time_serves_the_next() -> None:
    """A plugin whose calls may take less than the start of its child is not started for ever."""
    with sandbox(admit(isolation="process", wall_timeout_ms=1)) as box:
        plugin = box.load(plugin_files(ECHO))
        end(standing_by(plugin))
        with pytest.raises(DeadlineExceeded) as caught:
            plugin.call("run", ["x"])
        assert caught.value.stats.took_ms >= 1
        assert pid_of(plugin)


def test_a_stopped_zygote_ends_the_call_that_needs_it_and_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call ends by its deadline, its zygote soon after; the next one has another."""
    monkeypatch.setattr(nursery, "_ANSWER_S", 3_600.0)
    with (
        ThreadPoolExecutor(1) as pool,
        sandbox(admit(isolation="process", wall_timeout_ms=1_500)) as box,
    ):
        one, other = box.load(plugin_files(ECHO)), box.load(plugin_files(ECHO))
        assert one.call("run", ["x"]).value == "x"
        stopped = zygote_of(one)
        ready_for(one, pid_of(one))  # else that is what the zygote is asked for first
        stop(stopped)
        with pytest.raises(DeadlineExceeded):
            pool.submit(other.call, "run", ["y"]).result(WAIT_S)
        assert not Path(f"/proc/{stopped}").exists()
        assert other.call("run", ["y"]).value == "y"
        assert one.call("run", ["x"]).value == "x"


def test_a_stopped_zygote_keeps_nobody_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for its answers then, not the call either that does; it is killed."""
    monkeypatch.setattr(nursery, "_ANSWER_S", 3_600.0)
    of_others = descendants()  # a registry that other tests share
    with (
        ThreadPoolExecutor(2) as pool,
        sandbox(admit(isolation="process", wall_timeout_ms=3_600_000)) as box,
    ):
        one, other = box.load(plugin_files(ECHO)), box.load(plugin_files(ECHO))
        assert one.call("run", ["x"]).value == "x"
        runner = one._runner
        assert isinstance(runner, ProcessRunner)
        ready_for(one, pid_of(one))
        stop(zygote_of(one))
        call = pool.submit(other.call, "run", ["y"])
        until_s = time.monotonic() + WAIT_S
        while not runner._nursery._lock.locked():
            assert time.monotonic() < until_s
        pool.submit(box.close).result(WAIT_S)
        assert isinstance(call.exception(WAIT_S), SandboxError)
        until_s = time.monotonic() + WAIT_S
        while descendants() - of_others:
            assert time.monotonic() < until_s


def test_a_zygote_that_dies_is_replaced() -> None:
    """Its children go with it: calls in flight panic, the next ones are served."""
    with spinning() as (plugin, running):
        end(zygote_of(plugin))
        assert isinstance(running[0].exception(WAIT_S), PluginPanic)
        assert plugin.call("run", [0]).value == 7


HOST = """
import sys
sys.path.insert(0, {tests!r})
from support.sandbox import ECHO, admit, descendants, plugin_files, sandbox
with sandbox(admit(isolation="process")) as box:
    plugin = box.load(plugin_files(ECHO))
    plugin.call("run", ["x"])
    print(*descendants(), flush=True)
    sys.stdin.read()
"""


def test_a_host_that_is_killed_takes_its_children_along() -> None:
    """Zygote and child end by themselves, whatever the host could still do."""
    code = HOST.format(tests=str(Path(__file__).parent.parent))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        pids = [int(word) for word in host.stdout.readline().split()]
        handles = [os.pidfd_open(pid) for pid in pids]
        host.kill()
        for handle in handles:
            assert select.select([handle], [], [], WAIT_S)[0]
            os.close(handle)
    assert len(pids) == 2


def test_an_idle_child_rests_and_comes_back() -> None:
    """After a while without a call it goes, and a reused instance's state with it."""
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(SPIN, instance='"reused"'))
        runner = plugin._runner
        assert isinstance(runner, ProcessRunner)
        assert runner.keeper.pid is None
        assert [plugin.call("count").value for _ in range(2)] == [1, 2]
        now_s = time.monotonic()
        assert runner.keeper.rest(now_s, 60.0) > now_s
        assert [plugin.call("count").value] == [3]
        assert runner.keeper.rest(now_s + 61, 60.0) == float("inf")
        assert runner.keeper.pid is None
        assert plugin.call("count").value == 1


def test_a_child_at_work_does_not_rest() -> None:
    """However long a call takes, its child is not idle."""
    with spinning() as (plugin, running):
        runner = plugin._runner
        assert isinstance(runner, ProcessRunner)
        runner.keeper.rest(time.monotonic() + 1_000, 60.0)
        assert not running[0].done()
        end(pid_of(plugin))


def test_a_closed_plugins_child_goes_with_its_last_call() -> None:
    """Closing refuses new calls and lets the running one end; then there is no child."""
    with spinning(wall_timeout_ms=1_000) as (plugin, running):
        pid = pid_of(plugin)
        plugin.close()
        with pytest.raises(SandboxError, match="it is closed"):
            plugin.call("run", [0])
        assert Path(f"/proc/{pid}").exists()
        assert isinstance(running[0].exception(WAIT_S), DeadlineExceeded)
        assert not Path(f"/proc/{pid}").exists()


def test_a_sandbox_closed_under_a_call_lets_it_end() -> None:
    """The zygote stays until the last child has gone, and no longer."""
    with spinning(wall_timeout_ms=1_000) as (plugin, running):
        pid = pid_of(plugin)
        zygote = zygote_of(plugin)
        owner: Sandbox = _sandbox_of(plugin)
        owner.close()
        assert {pid, zygote} <= descendants()
        assert isinstance(running[0].exception(WAIT_S), DeadlineExceeded)
        assert not {pid, zygote} & descendants()


def _sandbox_of(plugin: Plugin) -> Sandbox:
    import gc

    return next(
        box for box in gc.get_objects() if isinstance(box, Sandbox) and plugin in box._plugins
    )


def test_ctrl_c_ends_a_guest_in_its_child() -> None:
    """A guest that spins in another process is stopped, long before its deadline."""

    def interrupt(_: LogRecord) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    admission = admit(isolation="process", fuel_units=EVER, wall_timeout_ms=60_000)
    with sandbox(admission, on_log=interrupt) as box:
        plugin = box.load(plugin_files(SPIN))
        started_s = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            plugin.call("run", [1])
        assert time.monotonic() - started_s < 50
        pid = pid_of(plugin)
        assert plugin.call("run", [0]).value == 7
        assert pid_of(plugin) == pid


def test_a_plugin_that_is_dropped_leaves_no_child() -> None:
    """A plugin that nobody closed and nobody has any more: its child is buried."""
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(ECHO))
        plugin.call("run", ["x"])
        handle = os.pidfd_open(pid_of(plugin))
        del plugin
        assert select.select([handle], [], [], WAIT_S)[0]
        os.close(handle)


def test_text_that_no_memory_could_hold_does_not_cross() -> None:
    """Arguments longer than the guest's memory are refused before a child starts."""
    with sandbox(admit(isolation="process", mem_bytes=1 << 20)) as box:
        plugin = box.load(plugin_files(ECHO))
        with pytest.raises(MemoryExceeded, match="its arguments are longer"):
            plugin.call("run", ["x" * (1 << 20 | 1)])
        assert plugin._runner.keeper.pid is None  # type: ignore[attr-defined]


def test_a_host_that_can_start_no_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is none of ours, or is not there: refused, with the way out."""
    for executable in ("/bin/true", "/nowhere/python", ""):
        with sandbox(admit(isolation="process")) as box, monkeypatch.context() as patched:
            patched.setattr(sys, "executable", executable)
            with pytest.raises(SandboxError, match=r'sandbox\.isolation = "inline"'):
                box.load(plugin_files(ECHO)).call("run", ["x"])
