"""An update run with nothing to do: the requests it costs, counted at a docker-registry."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import report
from support.system import CountedRegistry, counted_registry

SAMPLE = Path(__file__).parent.parent / "sdk" / "samples" / "hello" / "0.1.0"
PLUGINS = 20


def main() -> bool:
    """Run; returns whether the figure is met."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with counted_registry(folder / "registry") as registry:
            return _count(folder, registry)


def _count(folder: Path, registry: CountedRegistry) -> bool:
    environment = {
        **os.environ,
        "STACK_COMPOSER_HOME": str(folder / "home"),
        "STACK_COMPOSER_REGISTRY__DEFAULT": f"{registry.host}/bench",
    }

    def agent(*arguments: str) -> None:
        command = [str(Path(sys.executable).with_name("agent")), "-q", *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)

    agent("keygen", "key.pem")
    agent("trust", "add", "key.pem.pub", "--owner", "acme", "--scope", "org.example.*")
    for number in range(PLUGINS):
        agent("push", _plugin(folder, number), "--key", "key.pem")
        agent("pull", f"org.example.p{number}")
    registry.requests()
    started = time.perf_counter()
    agent("update")
    took_s = time.perf_counter() - started
    requests = registry.requests()
    return report(
        f"requests of an unchanged update check, {PLUGINS} plugins",
        f"{len(requests)} in {took_s:.2f} s",
        f"{PLUGINS}",
        met=len(requests) == PLUGINS,
    )


def _plugin(folder: Path, number: int) -> str:
    """A plugin with an id and a stem of its own."""
    plugin, stem = folder / f"p{number}", f"p{number}-plugin"
    shutil.copytree(SAMPLE, plugin)
    (plugin / "hello-plugin.wasm").rename(plugin / f"{stem}.wasm")
    manifest = plugin / "hello-plugin.toml"
    text = manifest.read_text().replace("org.example.hello", f"org.example.p{number}")
    (plugin / f"{stem}.toml").write_text(text.replace("hello-plugin.sig", f"{stem}.sig"))
    manifest.unlink()
    return f"./p{number}"


if __name__ == "__main__":
    raise SystemExit(not main())
