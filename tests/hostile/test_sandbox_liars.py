"""Children that were taken over: whatever they say, the host keeps to its rules and stands."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pytest

from sandbox import (
    CapabilityDenied,
    DeadlineExceeded,
    GuestTrap,
    LogRecord,
    Plugin,
    PluginPanic,
)
from sandbox.isolate.messages import Asked, Ended, Said
from sandbox.isolate.process import ProcessRunner
from sandbox.isolate.wire import Channel
from sandbox.result import CallResult
from support.sandbox import BUMP, admit, nothing_left, plugin_files, sandbox

WAIT_S = 30
ANSWER = f"""(module (import "env" "lookup" (func (param i32 i32) (result i64))) {BUMP}
  (func (export "run") (result i64) (i64.const 0)))"""


def raw(header: object, tail: bytes = b"") -> bytes:
    """A frame of any header."""
    text = json.dumps(header).encode("ascii")
    return struct.pack(">II", len(text), len(tail)) + text + tail


def word(told: Said | Asked | Ended) -> bytes:
    """A frame that a child could send."""
    return raw(*told.frame())


@contextmanager
def lying(
    said: Sequence[bytes],
    *,
    granted: Sequence[str] = ("lookup",),
    logs: list[LogRecord],
    limits: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[tuple[Plugin, list[str]]]:
    """A plugin whose next call is answered by us in its child's place."""
    asked: list[str] = []

    def lookup(key: str) -> str:
        asked.append(key)
        return key

    with (
        nothing_left(),
        sandbox(admit(*granted, isolation="process", **limits), on_log=logs.append) as box,
    ):
        box.register(lookup, name="lookup", capability="lookup")
        plugin = box.load(plugin_files(ANSWER, capabilities='["lookup"]'))
        assert plugin.call().value == ""
        runner = plugin._runner
        assert isinstance(runner, ProcessRunner)
        kept = runner.keeper._kept
        assert kept is not None
        ours, theirs = socket.socketpair()
        kept.idle.pop().close()
        kept.idle.append(Channel(ours))

        def lie() -> None:
            with theirs, contextlib.suppress(OSError):  # the host had enough
                theirs.recv(1 << 16)
                for frame in said:
                    theirs.sendall(frame)
                while theirs.recv(1 << 16):
                    pass

        liar = threading.Thread(target=lie)
        liar.start()
        yield plugin, asked
        for channel in kept.idle:  # of a call that ended as calls do
            channel.close()
        kept.opened -= len(kept.idle)
        kept.idle.clear()
        assert plugin.call().value == ""
        plugin.close()
        liar.join(WAIT_S)
        assert not liar.is_alive()


SMALL = {"output_bytes": 1000, "log_bytes": 1000, "mem_bytes": 1 << 18}
RESULT = CallResult("x", 1, 1, 1.0)


@pytest.mark.parametrize(
    "said",
    [
        [b"\xff" * 64],
        [raw([])],
        [raw({"result": 1})],
        [raw(["result", "str", None, 9, [0, 0, 0.0]], b"x")],
        [raw(["result", "str", None, 1, [-1, 0, 0.0]], b"x")],
        [raw(["result", "str", None, 1, [0, 0, 0.0]], b"\xff")],
        [raw(["result", "int", "7", 0, [0, 0, 0.0]])],
        [raw(["result", "str", None, 0, [0, 0, 0.0]], b"x" * (1 << 20))],
        [raw(["result", "int", 7, 0, [0, 0, 0.0]])],
        [raw(["result", "bytes", None, 1, [0, 0, 0.0]], b"x")],
        [raw(["result", "none", None, 0, [0, 0, 0.0]])],
        [raw(["error", "KeyboardInterrupt", None, [0, 0, 0.0]])],
        [raw(["error", "GuestExit", "0", [0, 0, 0.0]])],
        [raw(["said", 9, "stdout"], b"x")],
        [raw(["said", 2, "kernel"], b"x")],
        [raw(["asked", "print", [[1]]], b"x")],
        [raw(["asked", "lookup", []])],
        [raw(["asked", "lookup", [7]])],
        [raw(["asked", "lookup", [[2]]], b"x")],
        [raw(["asked", "lookup", [[1]]], b"\xff")],
        [struct.pack(">II", 2**32 - 1, 2**32 - 1)],
    ],
)
def test_what_no_child_says_is_the_childs_end(said: list[bytes]) -> None:
    """It is killed, its call is a panic, nothing of the application ran; the next is served."""
    with lying(said, logs=[], limits=SMALL) as lied:
        plugin, asked = lied
        with pytest.raises(PluginPanic):
            plugin.call()
    assert asked == []


def test_a_capability_is_asked_for_again_in_the_host() -> None:
    """A child that calls a function which was not granted ends its call, and it is not run."""
    said = [word(Asked("lookup", ("x",))), word(Ended(RESULT))]
    with lying(said, granted=(), logs=[]) as (plugin, asked):
        with pytest.raises(CapabilityDenied) as caught:
            plugin.call()
        assert caught.value.capability == "lookup"
    assert asked == []


def test_a_log_without_end_is_cut() -> None:
    """More than the call's budget, however it is spelled, is the child's end."""
    logs: list[LogRecord] = []
    flood = [word(Said(2, "stdout", "x" * 8000))] * 1000
    with lying(flood, logs=logs, limits=SMALL) as (plugin, _), pytest.raises(PluginPanic):
        plugin.call()
    assert 0 < sum(len(record.message) for record in logs) < 2_000_000


def test_text_of_a_child_is_made_harmless() -> None:
    """Log and errors come out escaped, though the child did not do it."""
    logs: list[LogRecord] = []
    evil = "\x1b[2J\u202e"
    used = [0, 0, 0.0]
    said = [
        raw(["said", 2, "stdout"], evil.encode()),
        raw(["error", "GuestTrap", evil, used], evil.encode()),
    ]
    with lying(said, logs=logs) as (plugin, _):
        with pytest.raises(GuestTrap) as caught:
            plugin.call()
        assert not isinstance(caught.value, PluginPanic)
    for text in (logs[0].message, str(caught.value), caught.value.code):
        assert text == "\\x1b[2J\\u202e"


class SlowLog(list[LogRecord]):
    """Takes longer for a record than a call may take."""

    def append(self, record: LogRecord) -> None:
        """Take it."""
        super().append(record)
        until_s = time.monotonic() + 1.6
        while time.monotonic() < until_s:
            pass


def test_a_host_that_is_slow_makes_the_call_late() -> None:
    """The child was in time; what the host did with its words counts, and is not its fault."""
    said = [word(Said(2, "stdout", "x")), word(Ended(RESULT))]
    logs, late = SlowLog(), pytest.raises(DeadlineExceeded)
    with lying(said, logs=logs, limits={"wall_timeout_ms": 1_500}) as (plugin, _):
        runner = plugin._runner
        assert isinstance(runner, ProcessRunner)
        pid = runner.keeper.pid
        with late:
            plugin.call()
        assert runner.keeper.pid == pid
    assert len(logs) == 1


def test_a_result_that_comes_late_is_late() -> None:
    """The host's clock counts: a child that dribbles on past the deadline wins nothing."""
    dribble: list[Any] = [word(Said(2, "stdout", "x"))]
    late = pytest.raises(DeadlineExceeded)
    with lying(dribble, logs=[], limits={"wall_timeout_ms": 1_500}) as (plugin, _), late:
        plugin.call()
