"""Pulling large artifacts beside skopeo, oras and curl, from docker-registry.

All fetch the same over loopback to the same disk, in turn, as processes of their own; the ratio of
the medians is what counts. A plugin has one large layer; of 64 layers the call takes part that all
transfers of several blobs go through. Ours verify each byte, and of a plugin the signature before
the payload; oras-py and curl verify nothing.
"""

import os
import shutil
import tempfile
from pathlib import Path

from agent.files import Files
from benchmarks.transfers import (
    Race,
    agent,
    of_layers,
    oras,
    oras_py,
    plugin,
    publisher,
    random_file,
    script,
    skopeo,
)
from registry import Anonymous, HttpLocation, open_repository, push_artifact
from support.registry import docker_registry

MIB = 1 << 20
ROUNDS, ROUNDS_LARGE = 5, 3
WANTED = {"skopeo": 0.6, "oras-py": 0.8, "oras": 1.2, "curl": 2.0}
FETCH_ALL = """
from pathlib import Path
from registry import *
from agent.files import Files
host, name, folder, cache = sys.argv[1:]
files, folder = Files(), Path(folder)
folder.mkdir()
with open_repository(
    HttpLocation(host, name),
    files=files,
    credentials=Anonymous(),
    cache=BlobCache(Path(cache), files, 1 << 30),
) as repository:
    layers = repository.manifest("0.1.0").layers
    titled = [(one, one.annotations["org.opencontainers.image.title"]) for one in layers]
    fetch_all(repository, [Wanted(one, folder / title) for one, title in titled])
"""


def main() -> bool:
    """Run; returns whether the figures are met."""
    met = True
    for compare in (_one_layer, _many_layers, _one_gibibyte):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "registry").mkdir()
            with docker_registry(folder / "registry") as host:
                met &= compare(folder, host)
    return met


def _race(folder: Path) -> Race:
    environ = {**os.environ, "STACK_COMPOSER_HOME": str(folder / "home")}

    def ready() -> None:
        for name in ("home/cache/blobs", "got"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "curl").unlink(missing_ok=True)

    return Race(ready, environ, folder)


def _one_layer(folder: Path, host: str) -> bool:
    race = _race(folder)
    target = _publish(folder, host, race, 256 * MIB)
    for _ in range(ROUNDS):
        race.run("agent", agent("pull", target, "--output", "got"))
        race.run("skopeo", skopeo(f"docker://{target}", f"dir:{folder / 'got'}"))
        race.run("oras-py", oras_py("pull", target, "got"))
        race.run("oras", oras("pull", target, "-o", "got"))
    return race.tell("agent pull --output, 256 MiB", WANTED)


def _many_layers(folder: Path, host: str) -> bool:
    race, name = _race(folder), "bench/layers"
    built = of_layers([random_file(folder / f"{n}.bin", 4 * MIB) for n in range(64)])
    location = HttpLocation(host, name)
    with open_repository(location, files=Files(), credentials=Anonymous()) as repository:
        push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    target = f"{host}/{name}:0.1.0"
    for _ in range(ROUNDS):
        race.run("agent", script(FETCH_ALL, host, name, "got", folder / "home/cache/blobs"))
        race.run("skopeo", skopeo(f"docker://{target}", f"dir:{folder / 'got'}"))
        race.run("oras-py", oras_py("pull", target, "got"))
        race.run("oras", oras("pull", target, "-o", "got"))
    return race.tell("64 layers of 4 MiB", WANTED)


def _one_gibibyte(folder: Path, host: str) -> bool:
    race = _race(folder)
    target = _publish(folder, host, race, 1024 * MIB)
    repository = target.partition("/")[2].removesuffix(":0.1.0")
    location = HttpLocation(host, repository)
    with open_repository(location, files=Files(), credentials=Anonymous()) as opened:
        digest = opened.manifest("0.1.0").layers[0].digest
    shutil.rmtree(folder / "plugin")
    url = f"http://{host}/v2/{repository}/blobs/{digest}"
    for _ in range(ROUNDS_LARGE):
        race.run("agent", agent("pull", target, "--output", "got"))
        race.run("curl", ["curl", "-sS", "-o", "curl", url])
    return race.tell("agent pull --output, 1 GiB", WANTED)


def _publish(folder: Path, host: str, race: Race, size_bytes: int) -> str:
    """Push a plugin of this size; gives its reference."""
    publisher(folder, race.environ)
    plugin(folder / "plugin", size_bytes)
    repository = f"{host}/bench/org.example.hello"
    race.run("push", agent("push", "./plugin", "--key", "key.pem", "--to", repository))
    race.took_s.clear()
    return f"{repository}:0.1.0"


if __name__ == "__main__":
    raise SystemExit(not main())
