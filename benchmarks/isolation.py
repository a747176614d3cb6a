"""A plugin in a process of its own beside the same plugin inline, in one run.

*Call*: string → string, 1 KB, a fresh instance per call, all limits on, in a hot loop on a thread
of its own. *Killed*: SIGKILL to the child, and once that has ended the time until the next call is
served by another one: at once, when none stands by, and after a while, when one does. *Idle*: a
loaded plugin with a 1 MB module after a call: what its child, the one that stands by and the
zygote hold together (proportional set size), and what the child has resident.
"""

import logging
import os
import select
import signal
import statistics
import threading
import time
from pathlib import Path

from wasmtime import wat2wasm

from benchmarks.figures import report
from sandbox import Plugin
from sandbox.admission import Isolation
from sandbox.isolate.crashes import Crashes
from sandbox.isolate.process import ProcessRunner
from support.sandbox import BUMP, ECHO, admit, descendants, plugin_files, sandbox

WARM, CALLS = 500, 20_000
LULL_S = 0.2
"""By then a child stands by."""
STARTS = (("killed child", 5, 100, 0.0), ("killed child, another stands by", 1, 40, LULL_S))
"""What it is called, the wanted ms, how many are killed, and seconds before each."""
TEXT = "x" * 1024
MODULE_BYTES = 1_000_000
STEP = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 77)) (i32.const 99)))"


def main() -> bool:
    """Run; returns whether the figures are met."""
    logging.getLogger("stack_composer.sandbox").setLevel(logging.CRITICAL)  # of each that is killed
    inline, _ = _call_us("inline")
    p50, p99 = _call_us("process")
    met = report("call in a process, p50", f"{p50:.0f} µs", "≤ 110 µs", met=p50 <= 110)
    met = report("call in a process, p99", f"{p99:.0f} µs", "≤ 250 µs", met=p99 <= 250) and met
    value = f"{inline:.0f} µs, {p50 - inline:.0f} µs more apart"
    report("the same call inline, p50", value, "no figure", met=True)
    for name, most_ms, kills, lull_s in STARTS:
        started, worst, gone = _killed_ms(kills, lull_s)
        value = f"p50 {started:.1f} ms, max {worst:.1f} ms; {gone:.1f} ms its end before"
        wanted = f"p50 ≤ {most_ms} ms"
        met = report(f"{name} → next call served", value, wanted, met=started <= most_ms) and met
    held_mb, resident_mb = _idle_mb()
    value = f"{held_mb:.1f} MB, child's RSS {resident_mb:.1f}"
    return report("idle plugin, 1 MB module", value, "≤ 40 MB", met=held_mb <= 40) and met


def _call_us(isolation: Isolation) -> tuple[float, float]:
    """The median and the 99th percentile of a call."""
    taken: list[float] = []

    def run(plugin: Plugin) -> None:
        for number in range(WARM + CALLS):
            started = time.perf_counter()
            plugin.call("run", [TEXT])
            if number >= WARM:
                taken.append((time.perf_counter() - started) * 1e6)

    with sandbox(admit(isolation=isolation)) as box:
        # not on the main thread, whose calls are handed to another one
        caller = threading.Thread(target=run, args=(box.load(plugin_files(ECHO)),))
        caller.start()
        caller.join()
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def _killed_ms(kills: int, lull_s: float) -> tuple[float, float, float]:
    """From the child's end to the next call's result: median and longest; median of that end."""
    taken: list[float] = []
    gone: list[float] = []

    def run(plugin: Plugin) -> None:
        runner = plugin._runner  # noqa: SLF001 - the child is killed behind its back
        assert isinstance(runner, ProcessRunner)
        for _ in range(kills):
            plugin.call("run", [TEXT])
            time.sleep(lull_s)
            runner.keeper._crashes = Crashes()  # noqa: SLF001 - back-off is not what is timed
            assert runner.keeper.pid is not None
            handle = os.pidfd_open(runner.keeper.pid)
            started = time.perf_counter()
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [])
            ended = time.perf_counter()
            gone.append((ended - started) * 1e3)
            plugin.call("run", [TEXT])
            taken.append((time.perf_counter() - ended) * 1e3)
            os.close(handle)

    with sandbox(admit(isolation="process")) as box:
        caller = threading.Thread(target=run, args=(box.load(plugin_files(ECHO)),))
        caller.start()
        caller.join()
    return statistics.median(taken), max(taken), statistics.median(gone)


def _idle_mb() -> tuple[float, float]:
    """What child and zygote of one loaded plugin hold together, and what the child has resident."""
    steps = STEP * 500
    code = f"(func (param i32) (result i32) {steps} (local.get 0))"
    payload = wat2wasm(
        f'(module {BUMP} {code * (MODULE_BYTES // (500 * 11))} (func (export "run")))'
    )
    assert len(payload) >= MODULE_BYTES
    with sandbox(admit(isolation="process"), max_module_bytes=2 * MODULE_BYTES) as box:
        plugin = box.load(plugin_files(bytes(payload)))
        plugin.call()
        time.sleep(LULL_S)
        pids = descendants()
        held = sum(_rollup_kb(pid, "Pss") for pid in pids)
        runner = plugin._runner  # noqa: SLF001 - which of them is the child
        assert isinstance(runner, ProcessRunner)
        return held / 1024, _rollup_kb(runner.keeper.pid or 0, "Rss") / 1024


def _rollup_kb(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


if __name__ == "__main__":
    raise SystemExit(not main())
