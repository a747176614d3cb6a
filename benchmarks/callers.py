"""Who calls a plugin while its release changes: processes of their own, at a pace.

An application with a ``PluginHost``, and a client of the service's socket. Each of their threads
tells every change of the answer, and none of the answers may be a fault.
"""

import contextlib
import functools
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from agent import PluginHost
from support.service import Heard
from support.system import PLUGIN_ID, PROCESS_WAIT_S

_SHOWN = 5
_PATH = f"/v1/plugins/{PLUGIN_ID}/calls"
_BODY = json.dumps({"function": "run", "args": ["Jane"]}).encode()
_HEADERS = {"Content-Type": "application/json"}

Call = Callable[[], object]


@dataclass
class Callers:
    """A process that calls.

    Attributes:
        threads: How many of its threads do.
        total: What they came to, once they ended: ``calls``, ``failed``, ``faults``, ``each_s``.
    """

    threads: int
    process: subprocess.Popen[str]
    heard: Heard = field(default_factory=Heard)
    total: dict[str, Any] = field(default_factory=dict)
    _since: list[int] = field(default_factory=list)

    def wait_for(self, answer: str) -> float:
        """Wait until every thread is answered so; when the first one was."""
        self._since = self._since or [0] * self.threads
        for number, since in enumerate(self._since):
            self._since[number] = self.heard.wait_for(f"{number} {answer} ", since=since)
        return min(float(self.heard.lines[place - 1].split()[-1]) for place in self._since)


@contextlib.contextmanager
def callers(what: str, place: Path, *, threads: int, each_s: int) -> Iterator[Callers]:
    """Have a process call for the length of the block.

    Args:
        what: ``application`` or ``client``.
        place: The installation's home, or the service's socket.
        threads: How many call.
        each_s: How many calls a second each of them makes, as far as the machine lets it.
    """
    numbers = [str(threads), str(each_s)]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.callers", what, os.fspath(place), *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        running = Callers(threads, process)
        reader = threading.Thread(target=_read, args=(running,))
        reader.start()
        try:
            yield running
            process.stdin.close()
            process.wait(PROCESS_WAIT_S)
        finally:
            process.kill()
            reader.join()
    running.total = json.loads(running.heard.lines[-1])


def _read(running: Callers) -> None:
    assert running.process.stdout is not None
    for line in running.process.stdout:
        running.heard.add(line)
    running.heard.end()


# -- in the process that calls


class _Told:
    """What its threads came to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.each_s = Counter[int]()
        self.faults: list[str] = []

    def tell(self, *words: object) -> None:
        """Print a line."""
        with self._lock:
            print(*words, flush=True)

    def add(self, each_s: Counter[int], faults: Sequence[str]) -> None:
        """One thread has ended."""
        with self._lock:
            self.each_s += each_s
            self.faults += faults

    def total(self) -> str:
        """All of it."""
        told = {
            "calls": self.each_s.total(),
            "failed": len(self.faults),
            "faults": self.faults[:_SHOWN],
            "each_s": self.each_s,
        }
        return json.dumps(told)


def _serve(make: Callable[[], Call], threads: int, each_s: int) -> None:
    """Call until stdin ends."""
    told, over = _Told(), threading.Event()
    running = [
        threading.Thread(target=_call, args=(number, make(), each_s, told, over))
        for number in range(threads)
    ]
    for thread in running:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in running:
        thread.join()
    told.tell(told.total())


def _call(number: int, call: Call, each_s: int, told: _Told, over: threading.Event) -> None:
    seen: object = None
    counted, faults = Counter[int](), list[str]()
    began_s = time.monotonic()
    for count in itertools.count(1):
        answer: object = "fault"
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001 - every failure counts
            faults.append(f"{time.time():.3f} {error!r}")
        now = time.time()
        counted[int(now)] += 1
        if answer != seen:
            seen = answer
            told.tell(number, answer, f"{now:.6f}")
        if over.wait(max(0.0, began_s + count / each_s - time.monotonic())):
            break
    told.add(counted, faults)


def _over(path: str) -> Call:
    """Calls over a connection that is kept, as programs have it."""
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)

    def call() -> object:
        connection.request("POST", _PATH, _BODY, _HEADERS)
        answered = connection.getresponse()
        answer = json.loads(answered.read())
        if answered.status != 200:
            raise RuntimeError(answer)
        return answer["result"]

    return call


def _main(what: str, place: str, threads: str, each_s: str) -> None:
    logging.disable()
    if what == "client":
        _serve(functools.partial(_over, place), int(threads), int(each_s))
        return
    with PluginHost(home=Path(place), on_log=lambda _record: None) as host:
        host.discover()

        def call() -> object:
            return host.call_plugin("run", ["Jane"], plugin=PLUGIN_ID)

        _serve(lambda: call, int(threads), int(each_s))


if __name__ == "__main__":
    _main(*sys.argv[1:])
