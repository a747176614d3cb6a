"""A call over the service's socket, beside the same call in the process that serves it.

The client is another process with a connection that it keeps, as programs have it; the server
runs over a real installation, inline. Rounds take turns, so that a busy machine hits both.
"""

import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.figures import report
from support.control import Control, controlled
from support.system import PLUGIN_ID, taken

MAX_MORE_MS = 0.5
ROUNDS = 7
CALLS = 400
WARM_UP = 50


def main() -> bool:
    """Print the figures; whether all are met."""
    logging.disable()  # the plugin greets in its log, too often for it
    with tempfile.TemporaryDirectory() as name:
        publisher = taken(Path(name), "0.1.0")
        with controlled(publisher.machine.home) as control:
            return _side_by_side(control)


def _side_by_side(control: Control) -> bool:
    direct: list[float] = []
    over: list[float] = []
    command = [sys.executable, "-m", "benchmarks.control", str(control.path)]
    with (
        control.agency.serving() as host,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        host.load_installed(PLUGIN_ID)
        for _ in range(ROUNDS):
            direct.append(_median_ms(lambda: host.call("run", ["Jane"], plugin=PLUGIN_ID)))
            print("go", file=client.stdin, flush=True)
            over.append(float(client.stdout.readline()))
        client.stdin.close()
    alone_ms, socket_ms = statistics.median(direct), statistics.median(over)
    more_ms = socket_ms - alone_ms
    shown = f"{more_ms:.3f} ms ({socket_ms:.3f} ms / {alone_ms:.3f} ms)"
    name = "control-API call, p50 over a direct call's"
    return report(name, shown, f"≤ {MAX_MORE_MS} ms", met=more_ms <= MAX_MORE_MS)


def _median_ms(call: Callable[[], object]) -> float:
    for _ in range(WARM_UP):
        call()
    taken_ns = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        call()
        taken_ns.append(time.perf_counter_ns() - began)
    return statistics.median(taken_ns) / 1e6


def _client(path: str) -> None:
    """One round for each line."""
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.fspath(path))
    body = json.dumps({"function": "run", "args": ["Jane"]}).encode()
    headers = {"Content-Type": "application/json"}

    def call() -> None:
        connection.request("POST", f"/v1/plugins/{PLUGIN_ID}/calls", body, headers)
        answer = json.loads(connection.getresponse().read())
        assert answer["result"] == "Hello, Jane", answer

    for _ in sys.stdin:
        print(_median_ms(call), flush=True)
    connection.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _client(sys.argv[1])
    else:
        raise SystemExit(not main())
