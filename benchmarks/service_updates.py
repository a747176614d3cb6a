"""The service at its main job: it takes what is pushed to a docker-registry, and goes back.

*Calls*: an application and a client of the socket call one plugin while ``agent run`` takes release
after release; each is gone back from: it falls ill in its trial, or a command goes back, in the
trial or after it. *New tag*: from the request whose listing holds a new tag to the first answer
of the new version, beside its pull, compilation and probe alone.
"""

import hashlib
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from agent.context import Context, Options
from agent.control.address import socket_path
from agent.pipeline.candidate import read_head
from benchmarks.cache import FUNCTIONS
from benchmarks.callers import Callers, callers
from benchmarks.figures import report
from registry import Wanted, fetch_all, parse_reference, read_artifact
from sandbox import PluginFiles
from support.registry import docker_registry
from support.service import EAGER, Frail, service
from support.system import PLUGIN_ID, STEM, CountedRegistry, Machine, Publisher, counted_registry

UPDATES, CALLS_S = 50, 1000
THREADS, EACH_S = 2, 600
ROUNDS, MAX_RATIO = 11, 1.5
LARGE = """(module
  (memory (export "memory") 1)
  (data (i32.const 64) "{version}")
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "health") (result i32) (i32.const 0))
  (func (export "run") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const {length})))
  {functions})"""


def main() -> bool:
    """Run; returns whether the figures are met."""
    met = True
    for measure in (_calls, _new_tag):
        with tempfile.TemporaryDirectory() as name:
            met &= measure(Path(name))
    return met


def _publisher(folder: Path, host: str, probation: str) -> Publisher:
    """Who pushes to the registry that a machine updates from, each second."""
    machine = Machine(folder / "home", f"{host}/bench")
    machine.configure(Frail.section(), probation=probation, update=EAGER)
    publisher = Publisher(machine, folder / "publisher")
    publisher.trusted_by(machine)
    return publisher


# -- no call fails


def _calls(folder: Path) -> bool:
    (folder / "registry").mkdir()
    with docker_registry(folder / "registry") as host:
        publisher = _publisher(folder, host, "4s")
        machine = publisher.machine
        frail = Frail(publisher, machine)
        frail.release("0.1.0")
        machine.run("pull", PLUGIN_ID)
        with service(machine) as running, ExitStack() as stack:
            all_of_them = [
                stack.enter_context(callers(what, place, threads=THREADS, each_s=EACH_S))
                for what, place in (("application", machine.home), ("client", _socket(machine)))
            ]
            _wait(all_of_them, "0.1.0")
            for number in range(1, UPDATES + 1):
                version = f"1.{number}.0"
                frail.release(version)
                _wait(all_of_them, version)
                if number % 3 == 0:
                    frail.fall_ill()
                    running.await_event("rolled back", version)
                    frail.recover()
                else:
                    if number % 3 == 1:
                        running.await_event("committed", version)
                    machine.process("rollback", PLUGIN_ID)
                _wait(all_of_them, "0.1.0")
    totals = [one.total for one in all_of_them]
    each_s = [sum(one["each_s"].get(second, 0) for one in totals) for second in _seconds(totals)]
    calls, failed = (sum(one[what] for one in totals) for what in ("calls", "failed"))
    for one in totals:
        for fault in one["faults"]:
            print(f"        {fault}")
    met = report(
        f"calls during {UPDATES} updates, {UPDATES} rollbacks",
        f"{calls} ({totals[1]['calls']} over the socket), {failed} failed",
        "0 failed",
        met=not failed,
    )
    rate = statistics.mean(each_s)
    value = f"{rate:.0f}/s, {min(each_s)} in the worst second"
    return report("their rate", value, f"≥ {CALLS_S}/s", met=rate >= CALLS_S) and met


def _socket(machine: Machine) -> Path:
    with closing(Context(Options(home=machine.home), environ={})) as context:
        return socket_path(context.places.socket)


def _wait(all_of_them: list[Callers], answer: str) -> None:
    """Until each of them is answered so: everyone's release has changed."""
    for one in all_of_them:
        one.wait_for(answer)


def _seconds(totals: list[dict[str, dict[str, int]]]) -> list[str]:
    """The whole seconds in which all of them called."""
    first = max(min(map(int, one["each_s"])) for one in totals)
    last = min(max(map(int, one["each_s"])) for one in totals)
    return [str(second) for second in range(first + 1, last)]


# -- a new tag


def _new_tag(folder: Path) -> bool:
    (folder / "registry").mkdir()
    with counted_registry(folder / "registry") as registry:
        alone = Machine(folder / "alone")  # it runs no service
        publisher = _publisher(folder, registry.host, "1s")
        publisher.trusted_by(alone)
        machine = publisher.machine
        publisher.push(_large(publisher, "0.1.0"))
        machine.run("pull", PLUGIN_ID)
        took_s, parts_s = list[float](), list[tuple[float, ...]]()
        with (
            service(machine) as running,
            callers("client", _socket(machine), threads=1, each_s=200) as client,
        ):
            client.wait_for("0.1.0")
            for number in range(1, ROUNDS + 1):
                version = f"1.{number}.0"
                large = _large(publisher, version)
                publisher.push(large)
                serves_at = client.wait_for(version)
                took_s.append(serves_at - _seen_at(registry, large / f"{STEM}.wasm"))
                running.await_event("committed", version)
                parts_s.append(_parts_s(alone, f"{registry.host}/bench/{PLUGIN_ID}", version))
    ours, bare = statistics.median(took_s), statistics.median(map(sum, parts_s))
    pull, compiling, probe = (statistics.median(part) for part in zip(*parts_s, strict=True))
    print(f"        pull {pull:.3f} s, compile {compiling:.3f} s, probe {probe:.3f} s")
    return report(
        "new tag seen → serving / pull, compile, probe alone",
        f"{ours / bare:.2f} ({ours:.2f} s / {bare:.2f} s)",
        f"≤ {MAX_RATIO}",
        met=ours / bare <= MAX_RATIO,
    )


def _large(publisher: Publisher, version: str) -> Path:
    """A plugin with about 1 MB of code, of which no other version has all."""
    code = LARGE.format(version=version, length=len(version), functions=FUNCTIONS)
    return publisher.plugin(version, code=code)


def _seen_at(registry: CountedRegistry, payload: Path) -> float:
    """When the tags were listed that made the service fetch this payload."""
    digest = hashlib.sha256(payload.read_bytes()).hexdigest()
    asked = list(zip(registry.requests(), registry.asked_at, strict=True))
    fetched = next(
        place
        for place, ((method, path), _) in enumerate(asked)
        if method == "GET" and path.endswith(digest)
    )
    listings = [at for (_, path), at in asked[:fetched] if "/tags/list" in path]
    return listings[-1]


def _parts_s(machine: Machine, repository: str, version: str) -> tuple[float, float, float]:
    """Pull, compilation and probe of a release that this machine never saw; no more than these."""
    with (
        tempfile.TemporaryDirectory(dir=machine.home) as name,
        closing(Context(Options(home=machine.home), environ={})) as context,
    ):
        folder = Path(name)
        reference = parse_reference(f"{repository}:{version}", context.bases())
        began_s = time.perf_counter()
        opened = context.open_repository(reference.location)
        artifact = read_artifact(opened.manifest(version), max_artifact_bytes=1 << 30)
        head = read_head(context, opened, artifact)
        fetch_all(opened, [Wanted(artifact.payload, folder / f"{STEM}.wasm")])
        pulled_s = time.perf_counter()
        files = PluginFiles(
            STEM,
            (folder / f"{STEM}.wasm").read_bytes(),
            head.signature,
            head.manifest_bytes,
            folder,
        )
        with closing(context.open_sandbox()) as sandbox:
            plugin = sandbox.load(files)
            compiled_s = time.perf_counter()
            plugin.probe()
            probed_s = time.perf_counter()
            plugin.close()
    return pulled_s - began_s, compiled_s - pulled_s, probed_s - compiled_s


if __name__ == "__main__":
    raise SystemExit(not main())
