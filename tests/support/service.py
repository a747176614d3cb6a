"""The background service as a real process: started, listened to, stopped or killed."""

import contextlib
import functools
import os
import select
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.context import Context, Options
from agent.ledger.ledger import Ledger
from agent.model import Event, Generation, Trial
from support.sandbox import descendants
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher

T = TypeVar("T")

EAGER = 'interval = "1s"\njitter = "0s"'
"""For ``[update]``: each plugin has its turn at nearly every tick."""

_POLL_S = 0.02
_MOST_BYTES = 4096

FRAIL = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{version}")
  (data (i32.const 128) "well")
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "health") (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 4)
      (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
  (func (export "run") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const {length}))))"""
"""Answers with its version; healthy for as long as the file ``well`` lies in its data folder."""


class Heard:
    """Lines in the order in which they came; whoever waits for one is woken by it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._is_over = False

    def add(self, line: str) -> None:
        """One more."""
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def end(self) -> None:
        """No more will come."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait_for(self, text: str, *, since: int = 0) -> int:
        """Wait for a line with this text; how many lines there are up to it.

        Args:
            text: A part of the line.
            since: So many lines are passed over.
        """
        with self._changed:
            is_there = self._changed.wait_for(
                lambda: self._is_over or self._place(text, since), PROCESS_WAIT_S
            )
            place = self._place(text, since)
            assert place, f"no {text!r} in {self.lines[since:]}, {is_there=}"
            return place

    def _place(self, text: str, since: int) -> int:
        found = (n for n, line in enumerate(self.lines[since:], since + 1) if text in line)
        return next(found, 0)


@dataclass
class Running:
    """A service that runs, or did.

    Attributes:
        machine: Whose.
        process: Its process.
        notes: What it told its supervisor.
        log: What it wrote to stderr.
    """

    machine: Machine
    process: subprocess.Popen[str]
    notes: Heard
    log: Heard = field(default_factory=Heard)

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it; its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout=PROCESS_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # its log tells then where it hangs
            self.log.wait_for("most recent call first")
            self.process.wait()
            raise AssertionError("".join(self.log.lines)) from None

    def kill(self) -> int:
        """Kill it, and wait until it and all that it started is gone; how many those were."""
        with contextlib.ExitStack() as stack:
            handles = []
            for pid in descendants(self.process.pid):
                with contextlib.suppress(ProcessLookupError):  # it has ended just now
                    handles.append(os.pidfd_open(pid))
                    stack.callback(os.close, handles[-1])
            self.process.kill()
            self.process.wait(timeout=PROCESS_WAIT_S)
            for handle in handles:
                assert select.select([handle], [], [], PROCESS_WAIT_S)[0], self.log.lines
        return len(handles)

    def await_event(
        self, kind: str, version: str | None = None, *, plugin_id: str = PLUGIN_ID
    ) -> Event:
        """Wait until the plugin's history has this; see ``happened``."""

        def found() -> Event | None:
            return happened(self.machine, kind, version, plugin_id=plugin_id)

        return self.until(found, f"{kind} of {plugin_id} {version}")

    def await_why(self, text: str, *, plugin_id: str = PLUGIN_ID) -> str:
        """Wait until ``agent why`` tells a criterion with this text; the whole of it."""

        def told() -> str | None:
            with ledger_of(self.machine) as ledger:
                decision = ledger.decision(plugin_id)
            return decision.detail if decision and text in decision.detail else None

        return self.until(told, f"{text!r} of {plugin_id}")

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """Look until there is something, for as long as the service lives."""
        deadline_s = time.monotonic() + PROCESS_WAIT_S
        while (found := look()) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(timeout=_POLL_S)
                raise AssertionError(f"no {what}: it ended with {code}: {self.log.lines}")
            assert time.monotonic() < deadline_s, f"no {what}: {self.log.lines}"
        return found


@contextlib.contextmanager
def supervising() -> Iterator[tuple[str, Heard]]:
    """Be a supervisor: what to say as ``NOTIFY_SOCKET``, and what is told there, line by line."""
    name, notes = f"stack-composer-{uuid.uuid4().hex}", Heard()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")

        def read() -> None:
            while text := listening.recv(_MOST_BYTES).decode():
                for line in text.splitlines():
                    notes.add(line)

        with _reading(read):
            try:
                yield f"@{name}", notes
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as over:
                    over.sendto(b"", f"\0{name}")


@contextlib.contextmanager
def service(
    machine: Machine,
    *,
    environ: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    is_loud: bool = False,
) -> Iterator[Running]:
    """Run ``agent run`` and wait until it is ready; it ends in good order at the end.

    Args:
        machine: Its home.
        environ: Added to the environment.
        before: A command that runs the command line.
        is_loud: A traceback in its log is no fault.
    """
    with contextlib.ExitStack() as stack:
        address, notes = stack.enter_context(supervising())
        process = stack.enter_context(
            subprocess.Popen(
                [*before, *machine.command("run")],
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={
                    **os.environ,
                    "NOTIFY_SOCKET": address,
                    "PYTHONFAULTHANDLER": "1",
                    **(environ or {}),
                },
            )
        )
        running = Running(machine, process, notes)
        stack.enter_context(_reading(functools.partial(_read_log, running)))
        stack.callback(process.kill)
        _await_ready(running)
        yield running
        if process.poll() is None:
            assert running.end() == 0, running.log.lines
    assert is_loud or "Traceback" not in "".join(running.log.lines), running.log.lines


def _await_ready(running: Running) -> None:
    try:
        running.notes.wait_for("READY=1")
    except AssertionError as error:
        running.process.send_signal(signal.SIGABRT)  # it tells where it is
        running.process.wait(timeout=PROCESS_WAIT_S)
        running.log.wait_for("")
        raise AssertionError(running.log.lines) from error


@contextlib.contextmanager
def _reading(read: Callable[[], None]) -> Iterator[None]:
    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        reader.join()


def _read_log(running: Running) -> None:
    assert running.process.stderr is not None
    for line in running.process.stderr:
        running.log.add(line)
    running.log.end()
    running.notes.end()


def ledger_of(machine: Machine) -> contextlib.closing[Ledger]:
    """The ledger, whatever its config says."""
    return contextlib.closing(Ledger(machine.home / "state" / "state.db"))


def looking(machine: Machine) -> contextlib.closing[Context]:
    """The installation, as its config says it is."""
    return contextlib.closing(Context(Options(home=machine.home), environ={}))


def happened(
    machine: Machine, kind: str, version: str | None = None, *, plugin_id: str = PLUGIN_ID
) -> Event | None:
    """The newest event of a kind in a plugin's history, of any version or of this one."""
    with ledger_of(machine) as ledger:
        events = ledger.history(plugin_id, limit=100)
    return next((e for e in events if e.kind == kind and version in (None, e.version)), None)


def serving(machine: Machine, plugin_id: str = PLUGIN_ID) -> tuple[Generation, Trial | None]:
    """What serves, and its trial; checked against the ledger."""
    with looking(machine) as context, context.tree.lock(timeout_s=PROCESS_WAIT_S):
        live, trial = context.activation.live(plugin_id), context.ledger.trial(plugin_id)
        installed = context.ledger.installed(plugin_id)
        assert live is not None
        assert installed is not None
        assert live.release == (trial.release if trial else installed.good)
        assert live.release not in context.ledger.rejections(plugin_id)
    return live, trial


class Frail:
    """Publishes releases whose health the test decides: see ``FRAIL``.

    Args:
        publisher: Who signs and pushes.
        machine: Where they run.
        plugin_id: The plugin.
        stem: Of its files.
    """

    def __init__(
        self,
        publisher: Publisher,
        machine: Machine,
        *,
        plugin_id: str = PLUGIN_ID,
        stem: str = STEM,
    ) -> None:
        self.publisher = publisher
        self._names = {"plugin_id": plugin_id, "stem": stem}
        self.machine = machine
        self._well = machine.home / "data" / plugin_id / "well"
        self._well.parent.mkdir(parents=True)
        self.recover()

    @staticmethod
    def section(plugin_id: str = PLUGIN_ID) -> str:
        """What the operator's config must say of it; further keys may follow."""
        return f'[plugins."{plugin_id}"]\ngrants = ["fs_read"]\n'

    def recover(self) -> None:
        """From now on all of them are healthy."""
        self._well.touch()

    def fall_ill(self) -> None:
        """From now on none of them is."""
        self._well.unlink()

    def plugin(self, version: str) -> Path:
        """Write a plugin's folder, signed."""
        folder = self.publisher.plugin(
            version,
            code=FRAIL.format(version=version, length=len(version)),
            edit={'["log"]': '["log", "fs_read"]'},
            **self._names,
        )
        self.publisher.machine.run("sign", folder, "--key", self.publisher.key)
        return folder

    def release(self, version: str) -> dict[str, Any]:
        """Write, sign and push it."""
        return self.publisher.push(self.plugin(version))
