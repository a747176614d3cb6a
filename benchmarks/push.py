"""Pushing large artifacts beside skopeo and oras, to fresh repositories of a docker-registry.

In turn, as processes of their own. Every round has bytes of its own, so that nobody mounts what an
earlier round sent. Ours also makes the artifact: it hashes the plugin, signs it and looks at its
code; skopeo and oras-py copy what is there.
"""

import os
import tempfile
from pathlib import Path

from benchmarks.transfers import (
    Race,
    agent,
    as_folder,
    of_layers,
    oras,
    oras_py,
    plugin,
    publisher,
    random_file,
    script,
    skopeo,
)
from support.registry import docker_registry

MIB = 1 << 20
ROUNDS = 3
WANTED = {"skopeo": 1.0, "oras-py": 1.0, "oras": 1.2}
PUSH_ALL = """
from pathlib import Path
from registry import *
from agent.files import Files
from benchmarks.transfers import of_layers
host, name, *files = sys.argv[1:]
built = of_layers([Path(file) for file in files])
location = HttpLocation(host, name)
with open_repository(location, files=Files(), credentials=Anonymous()) as repository:
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
"""


def main() -> bool:
    """Run; returns whether the figures are met."""
    met = True
    for compare in (_one_layer, _many_layers):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "registry").mkdir()
            with docker_registry(folder / "registry") as host:
                met &= compare(folder, host)
    return met


def _one_layer(folder: Path, host: str) -> bool:
    race = Race(lambda: None, {**os.environ, "STACK_COMPOSER_HOME": str(folder / "home")}, folder)
    publisher(folder, race.environ)
    code = plugin(folder / "plugin", 256 * MIB) / "hello-plugin.wasm"
    for number in range(ROUNDS):
        _mark([code], number)
        to = f"{host}/ours{number}/org.example.hello"
        race.run("agent", agent("push", "./plugin", "--key", "key.pem", "--to", to))
        _peers(race, host, number, [code])
    return race.tell("agent push, 256 MiB", WANTED)


def _many_layers(folder: Path, host: str) -> bool:
    top = str(Path(__file__).parent.parent)
    race = Race(lambda: None, {**os.environ, "PYTHONPATH": top}, folder)
    files = [random_file(folder / f"{n}.bin", 4 * MIB) for n in range(64)]
    for number in range(ROUNDS):
        _mark(files, number)
        race.run("agent", script(PUSH_ALL, host, f"ours{number}/layers", *files))
        _peers(race, host, number, files)
    return race.tell("push of 64 layers of 4 MiB", WANTED)


def _peers(race: Race, host: str, number: int, files: list[Path]) -> None:
    source = as_folder(of_layers(files), race.folder / f"dir{number}")
    race.run("skopeo", skopeo(source, f"docker://{host}/skopeo{number}/layers:0.1.0"))
    race.run("oras-py", oras_py("push", f"{host}/py{number}/layers:0.1.0", *files))
    names = [str(file.relative_to(race.folder)) for file in files]
    race.run("oras", oras("push", f"{host}/oras{number}/layers:0.1.0", *names))


def _mark(files: list[Path], number: int) -> None:
    """Make bytes that no registry has seen."""
    for path in files:
        with path.open("r+b") as file:
            file.seek(8)
            file.write(number.to_bytes(8, "big"))


if __name__ == "__main__":
    raise SystemExit(not main())
