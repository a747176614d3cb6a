"""A guest that never ends, with a deadline of 100 ms: how late it stops, and how late we return.

*Beside busy threads* four Python threads want the GIL all the time. The guest's processor time
counts there, because its caller then waits for the GIL, which no sandbox can shorten.
"""

import statistics
import sys
import threading
import time

from benchmarks.figures import report
from sandbox import DeadlineExceeded, Plugin
from support.sandbox import admit, loaded

DEADLINE_MS, ROUNDS, BUSY = 100, 21, 4
MAX_IDLE_MS, MAX_BUSY_MS = 1, 10
ENDLESS = '(module (func (export "run") (loop (br 0))))'


def main() -> bool:
    """Run; returns whether the figures are met."""
    results = list[bool]()
    thread = threading.Thread(target=lambda: results.append(_measure()))
    thread.start()
    thread.join()
    return results == [True]


def _measure() -> bool:
    with loaded(ENDLESS, admit(fuel_units=2**62, wall_timeout_ms=DEADLINE_MS)) as plugin:
        idle = [_overdue(plugin)[0] for _ in range(ROUNDS)]
        met = _report("return past a 100 ms deadline, idle", idle, MAX_IDLE_MS)
        done = threading.Event()
        threads = [threading.Thread(target=_spin, args=(done,)) for _ in range(BUSY)]
        for thread in threads:
            thread.start()
        busy = [_overdue(plugin) for _ in range(ROUNDS)]
        done.set()
        for thread in threads:
            thread.join()
    name = f"guest CPU past it, beside {BUSY} busy threads"
    met = _report(name, [cpu for _, cpu in busy], MAX_BUSY_MS) and met
    waited = statistics.median([late for late, _ in busy])
    interval_ms = sys.getswitchinterval() * 1e3
    value = f"p50 {waited:.1f} ms, GIL interval {interval_ms:.0f} ms"
    report("return past it, beside them", value, "no figure", met=True)
    return met


def _overdue(plugin: Plugin) -> tuple[float, float]:
    """How late a call returns, and how long its guest ran past the deadline, in ms."""
    wall, cpu = time.perf_counter(), time.thread_time()
    try:
        plugin.call()
    except DeadlineExceeded:
        wall_ms = (time.perf_counter() - wall) * 1e3
        cpu_ms = (time.thread_time() - cpu) * 1e3
        return wall_ms - DEADLINE_MS, max(0.0, cpu_ms - DEADLINE_MS)
    message = "the guest ended"
    raise RuntimeError(message)


def _report(name: str, late_ms: list[float], most_ms: float) -> bool:
    value = f"p50 {statistics.median(late_ms):.2f} ms, max {max(late_ms):.1f} ms"
    return report(name, value, f"p50 ≤ {most_ms} ms", met=statistics.median(late_ms) <= most_ms)


def _spin(done: threading.Event) -> None:
    while not done.is_set():
        sum(range(1000))


if __name__ == "__main__":
    raise SystemExit(not main())
