"""An idle service: what its process holds and takes while nothing is due, twenty plugins inline."""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import report
from benchmarks.installed import install
from support.system import Machine

PLUGINS = 20
START_S, SETTLE_S, IDLE_S = 60, 10, 30
MAX_MB, MAX_CPU = 120, 0.005
ISOLATION = '[sandbox]\nisolation = "inline"\n'
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> bool:
    """Run; returns whether the figures are met."""
    with tempfile.TemporaryDirectory() as name, _running(_installed(Path(name))) as pid:
        time.sleep(SETTLE_S)
        before_s, began_s = _processor_s(pid), time.monotonic()
        held_mb = []
        while (passed_s := time.monotonic() - began_s) < IDLE_S:
            held_mb.append(_resident_mb(pid))
            time.sleep(1)
        share = (_processor_s(pid) - before_s) / passed_s
    name = f"idle service, {PLUGINS} plugins inline"
    held, most = statistics.median(held_mb), max(held_mb)
    value = f"{held:.0f} MB, most {most:.0f} MB"
    met = report(name, value, f"≤ {MAX_MB} MB", met=most <= MAX_MB)
    value, wanted = f"{share:.2%} of a processor", f"< {MAX_CPU:.1%}"
    return report("its processor time", value, wanted, met=share < MAX_CPU) and met


def _installed(folder: Path) -> Machine:
    machine = Machine(folder / "home")
    machine.configure(ISOLATION, probation="0s")
    install(machine, folder, PLUGINS)
    return machine


@contextlib.contextmanager
def _running(machine: Machine) -> Iterator[int]:
    """The service's process, once it is ready."""
    command = [str(Path(sys.executable).with_name("agent")), "--home", str(machine.home), "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            deadline_s = time.monotonic() + START_S
            ready = f"{PLUGINS} plugins, 0 on trial"
            while ready not in process.stderr.readline():
                assert process.poll() is None
                assert time.monotonic() < deadline_s
            yield process.pid
        finally:
            process.terminate()


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


def _processor_s(pid: int) -> float:
    """User's and system's time of a process; its name may hold blanks."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


if __name__ == "__main__":
    raise SystemExit(not main())
