"""``agent pull --output`` of a large artifact beside ``skopeo copy``, from docker-registry.

Both fetch the same artifact over loopback to the same disk, in turn; the ratio of the medians
is what counts. Ours also verifies the signature, before the payload and against it. Memory is
the peak resident size of the whole process (VmHWM).
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import report
from support.registry import docker_registry

SAMPLE = Path(__file__).parent.parent / "sdk" / "samples" / "hello" / "0.1.0"
SIZE_BYTES = 256 << 20
ROUNDS = 5
MAX_RATIO, MAX_PEAK_MIB = 0.8, 60
# What `agent` runs, then its own peak: a child's ru_maxrss would begin with its parent's.
WITH_PEAK = """
import sys
from agent.cli.main import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
raise SystemExit(code)
"""


def main() -> bool:
    """Run; returns whether the figures are met."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with docker_registry(folder / "registry") as address:
            return _compare(folder, f"{address}/bench/org.example.hello")


def _compare(folder: Path, repository: str) -> bool:
    environment = {**os.environ, "STACK_COMPOSER_HOME": str(folder / "home")}
    agent = [str(Path(sys.executable).with_name("agent")), "-q"]
    _publish(folder, agent, environment, repository)
    ours_s, theirs_s, peaks_mib = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", WITH_PEAK, "pull", "-q", f"{repository}:0.1.0"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", str(folder / "ours")],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        ours_s.append(time.perf_counter() - started)
        peaks_mib.append(int(done.stderr.split()[-1]) / 1024)
        source = f"docker://{repository}:0.1.0"
        started = time.perf_counter()
        subprocess.run(
            ["skopeo", "copy", "-q", "--src-tls-verify=false", source, f"dir:{folder / 'theirs'}"],
            check=True,
            capture_output=True,
        )
        theirs_s.append(time.perf_counter() - started)
        shutil.rmtree(folder / "ours")
        shutil.rmtree(folder / "theirs")
    ratio = statistics.median(ours_s) / statistics.median(theirs_s)
    met = report(
        "agent pull --output of 256 MiB, verified / skopeo copy",
        f"{ratio:.2f} ({statistics.median(ours_s):.2f} s)",
        f"≤ {MAX_RATIO}",
        met=ratio <= MAX_RATIO,
    )
    peak = max(peaks_mib)
    limit = f"≤ {MAX_PEAK_MIB} MiB"
    return report("its peak memory", f"{peak:.0f} MiB", limit, met=peak <= MAX_PEAK_MIB) and met


def _publish(folder: Path, agent: list[str], environment: dict[str, str], repository: str) -> None:
    """A plugin of 256 MiB: the magic, then bytes that do not compress."""
    plugin = folder / "plugin"
    shutil.copytree(SAMPLE, plugin)
    with (plugin / "hello-plugin.wasm").open("wb") as file:
        file.write(b"\0asm\x01\0\0\0")
        for _ in range(SIZE_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    for arguments in (
        ["keygen", "key.pem"],
        ["trust", "add", "key.pem.pub", "--owner", "acme", "--scope", "org.example.*"],
        ["push", "./plugin", "--key", "key.pem", "--to", repository],
    ):
        subprocess.run(
            [*agent, *arguments], cwd=folder, env=environment, check=True, capture_output=True
        )


if __name__ == "__main__":
    raise SystemExit(not main())
