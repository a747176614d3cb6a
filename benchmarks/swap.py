"""Hot swap under load: calls on four threads while the release under them changes.

A real host follows a real plugin tree. *Swap*: a loaded release takes the place of the one that
serves (compile and probe come before). *Flip followed*: from the look at a moved ``current`` to
the new release serving, its code verified and read from the AOT cache, beside the same load.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent import PluginHost
from agent.context import Context, Options
from benchmarks.figures import report

SAMPLES = Path(__file__).parent.parent / "sdk" / "samples" / "hello"
PLUGIN = "org.example.hello"
CALLERS, MIN_CALLS, MIN_SWAPS, MIN_FOLLOWS = 4, 50_000, 200, 50
PAUSE_S = 0.01


def main() -> bool:
    """Run; returns whether the figures are met."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        _install(Path(name), home)
        context = Context(Options(home=home))
        with PluginHost(context=context, on_log=lambda _record: None) as host:
            host.load_installed(PLUGIN)
            return _run(context, host)


def _run(context: Context, host: PluginHost) -> bool:
    generations = context.ledger.generations(PLUGIN)
    served = host._loaded.find(PLUGIN)  # noqa: SLF001 - the swap is timed, not its callers
    done = threading.Event()
    calls, failed = [0] * CALLERS, [0] * CALLERS

    def call(number: int) -> None:
        while not done.is_set():
            try:
                host.call_plugin("run", ["Jane"], plugin=PLUGIN)
            except Exception:  # noqa: BLE001 - every failure counts
                failed[number] += 1
            calls[number] += 1

    threads = [threading.Thread(target=call, args=(n,)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    swaps_ms, follows_ms = list[float](), list[float]()
    number = 0
    while len(follows_ms) < MIN_FOLLOWS or sum(calls) < MIN_CALLS // 2:
        # Three in turn: the host holds two, so that each has to be loaded.
        number += 1
        context.tree.flip(generations[number % len(generations)])
        follows_ms.append(_timed_ms(lambda: served.follow(now=True)))
        time.sleep(PAUSE_S)
    other = host._loaded._loader.generation(PLUGIN, generations[0].folder_name)  # noqa: SLF001 - as above
    while len(swaps_ms) < MIN_SWAPS or sum(calls) < MIN_CALLS:
        started = time.perf_counter()
        other = served.slot.swap(other)
        swaps_ms.append((time.perf_counter() - started) * 1e3)
        time.sleep(PAUSE_S)
    done.set()
    for thread in threads:
        thread.join()
    swaps = len(swaps_ms) + len(follows_ms)
    met = report(
        f"calls during {swaps} swaps, {CALLERS} threads",
        f"{sum(calls)}, {sum(failed)} failed",
        f"≥ {MIN_CALLS}, ≥ {MIN_SWAPS} swaps, 0 failed",
        met=not sum(failed),
    )
    p50 = statistics.median(swaps_ms)
    value = f"p50 {p50:.3f} ms, max {max(swaps_ms):.1f} ms"
    met = report("swap", value, "p50 < 1 ms", met=p50 < 1) and met
    value = f"p50 {statistics.median(follows_ms):.1f} ms, max {max(follows_ms):.1f} ms"
    report("flip followed, verified and loaded", value, "no figure", met=True)
    return met


def _timed_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def _install(folder: Path, home: Path) -> None:
    """Two releases, pushed and pulled by command."""
    (home / "config").mkdir(parents=True, mode=0o700)
    (home / "config" / "plugin-host.toml").write_text('[update]\nprobation = "0s"\n')
    agent = [str(Path(sys.executable).with_name("agent")), "--home", str(home), "-q"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    for version in ("0.1.0", "0.2.0", "0.2.1"):
        shutil.copytree(SAMPLES / version.replace("0.2.1", "0.2.0"), folder / version)
    manifest = folder / "0.2.1" / "hello-plugin.toml"
    manifest.write_text(manifest.read_text().replace('"0.2.0"', '"0.2.1"'))
    for arguments in (
        ["keygen", "key.pem"],
        ["trust", "add", "key.pem.pub", "--owner", "acme", "--scope", "org.example.*"],
        ["push", "./0.1.0", "--key", "key.pem"],
        ["pull", PLUGIN],
        ["push", "./0.2.0", "--key", "key.pem"],
        ["pull", PLUGIN],
        ["push", "./0.2.1", "--key", "key.pem"],
        ["pull", PLUGIN],
    ):
        subprocess.run(
            [*agent, *arguments], cwd=folder, env=environment, check=True, capture_output=True
        )


if __name__ == "__main__":
    raise SystemExit(not main())
