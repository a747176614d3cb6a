"""An update run with nothing to do: the requests it costs, counted at a docker-registry.

A thousand plugins; the best of some runs of the whole process, since whatever else the machine does
only adds.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import report
from benchmarks.installed import install
from support.system import CountedRegistry, Machine, counted_registry

PLUGINS = 1000
ROUNDS = 5
MAX_S, MAX_CONNECTIONS = 1.5, 4


def main() -> bool:
    """Run; returns whether the figures are met."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with counted_registry(folder / "registry") as registry:
            return _count(folder, registry)


def _count(folder: Path, registry: CountedRegistry) -> bool:
    machine = Machine(folder / "home", f"{registry.host}/bench")
    install(machine, folder, PLUGINS)
    command = [str(Path(sys.executable).with_name("agent")), "--home", str(machine.home), "-q"]
    took_s = []
    for _ in range(ROUNDS):
        registry.requests()
        started = time.perf_counter()
        subprocess.run([*command, "update"], env=os.environ, check=True, capture_output=True)
        took_s.append(time.perf_counter() - started)
        requests = registry.requests()
    met = report(
        f"requests of an unchanged update check, {PLUGINS} plugins",
        f"{len(requests)} over {registry.connections} connections",
        f"{PLUGINS} over ≤ {MAX_CONNECTIONS}",
        met=len(requests) == PLUGINS and registry.connections <= MAX_CONNECTIONS,
    )
    best_s = min(took_s)
    return report("its time", f"{best_s:.2f} s", f"≤ {MAX_S} s", met=best_s <= MAX_S) and met


if __name__ == "__main__":
    raise SystemExit(not main())
