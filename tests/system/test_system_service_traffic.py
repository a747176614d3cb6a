"""An application answers calls in a loop while the service changes what serves: none fails."""

import os
import select
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent import PluginHost
from sandbox.isolate.process import ProcessRunner
from support.service import EAGER, Frail, service, serving
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine

OTHER_ID, OTHER_STEM = "org.example.other", "other-plugin"
_CALLERS = 2
_BREATH_S = 0.002


class Callers:
    """Threads that call a plugin again and again, and what they were answered."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._is_over = threading.Event()
        self._answered = threading.Condition()
        self.answers = Counter[object]()
        self.faults: list[Exception] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(_CALLERS)]

    def _call(self) -> None:
        while not self._is_over.is_set():
            try:
                answer = self._host.call_plugin("run", ["Jane"], plugin=PLUGIN_ID)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
                self.faults.append(error)
                break
            with self._answered:
                self.answers[answer] += 1
                self._answered.notify_all()
            self._is_over.wait(_BREATH_S)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call for the length of the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join()

    def wait_for(self, answer: str) -> None:
        """Wait until it is answered once more."""
        with self._answered:
            before = self.answers[answer]
            self._answered.wait_for(lambda: self.answers[answer] > before, PROCESS_WAIT_S)
            assert self.answers[answer] > before, (answer, self.answers, self.faults)


def kill_child(host: PluginHost, plugin_id: str) -> None:
    """Kill the process of a plugin."""
    runner = host._loaded.find(plugin_id).slot.current._runner
    assert isinstance(runner, ProcessRunner)
    assert runner.keeper.pid is not None
    handle = os.pidfd_open(runner.keeper.pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], PROCESS_WAIT_S)[0]
    os.close(handle)


def test_no_call_fails_whatever_the_service_does(machine: Machine, frail: Frail) -> None:
    """Update, illness, rollback by hand, drop-in, pruning; others are disabled, or crash."""
    machine.configure(Frail.section(), probation="3s", update=f"{EAGER}\nkeep = 1")
    frail.publisher.release("0.1.0", plugin_id=OTHER_ID, stem=OTHER_STEM)
    machine.run("pull", OTHER_ID)
    with PluginHost(home=machine.home, isolation="process") as host, service(machine) as running:
        host.discover()
        host.call_plugin("run", ["Joe"], plugin=OTHER_ID)
        callers = Callers(host)
        with callers.calling():
            callers.wait_for("0.1.0")
            frail.release("0.2.0")  # an update that is committed, and then one that falls ill
            callers.wait_for("0.2.0")
            kill_child(host, OTHER_ID)
            assert host.call_plugin("run", ["Joe"], plugin=OTHER_ID) == "Hello, Joe"
            running.await_event("committed", "0.2.0")
            frail.release("0.3.0")
            callers.wait_for("0.3.0")
            frail.fall_ill()
            callers.wait_for("0.2.0")
            running.await_event("rolled back", "0.3.0")
            frail.recover()
            put = frail.plugin("0.4.0")
            for part in ("wasm", "sig", "toml"):
                shutil.copy(put / f"{STEM}.{part}", machine.plugins)
            callers.wait_for("0.4.0")
            machine.process("disable", OTHER_ID)
            machine.process("rollback", PLUGIN_ID)
            callers.wait_for("0.2.0")
            frail.release("0.5.0")
            running.await_event("committed", "0.5.0")
            machine.process("prune")
            callers.wait_for("0.5.0")
        assert not callers.faults
    assert serving(machine)[0].version == "0.5.0"
    left = [path.name for path in Path(machine.plugins, ".store", PLUGIN_ID).glob("0.*")]
    assert not any(name.startswith(("0.1.0", "0.3.0")) for name in left)
    assert machine.json("info", PLUGIN_ID).row["failures"] == 0
