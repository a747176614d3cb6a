"""What the benchmarks of transfers share: artifacts of random bytes, the peers, rounds in turn."""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from benchmarks.figures import report
from registry import BuiltArtifact, Descriptor, sha256_digest

SAMPLE = Path(__file__).parent.parent / "sdk" / "samples" / "hello" / "0.1.0"
MAX_PEAK_MIB = 45
# What a command runs, then its own peak: a child's ru_maxrss would begin with its parent's.
_PEAK = """
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""
# As its program starts, garbage collection included.
_AGENT = f"""
import sys
from agent.__main__ import run
try:
    run()
finally:
{indent(_PEAK, "    ")}
"""
_ORAS = """
import sys
from oras.client import OrasClient
client, verb, target, *files = OrasClient(insecure=True), *sys.argv[1:]
if verb == "pull":
    client.pull(target=target, outdir=files[0])
else:
    client.push(target=target, files=files, disable_path_validation=True)
"""


def script(text: str, *arguments: str | Path) -> list[str]:
    """Run a script of ours that prints its peak."""
    return [sys.executable, "-c", f"import sys\n{text}\n{_PEAK}", *map(str, arguments)]


def agent(*arguments: str | Path) -> list[str]:
    """Run a verb, which prints its peak."""
    return [sys.executable, "-c", _AGENT, *map(str, arguments), "-q"]


def skopeo(source: str, target: str) -> list[str]:
    """Copy by skopeo, over plain HTTP."""
    insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    return ["skopeo", "copy", "-q", *insecure, source, target]


def oras_py(*arguments: str | Path) -> list[str]:
    """Pull or push by oras-py."""
    return [sys.executable, "-c", _ORAS, *map(str, arguments)]


def oras(*arguments: str | Path) -> list[str] | None:
    """Pull or push by the oras CLI; None where it is not on the machine."""
    found = shutil.which("oras")
    verb, *rest = map(str, arguments)
    return None if found is None else [found, verb, "--plain-http", *rest]


@dataclass
class Race:
    """Commands that do the same, run in turn.

    Attributes:
        ready: Called before each run: makes it the first of its kind.
        environ: Theirs.
        folder: Where they run.
    """

    ready: Callable[[], object]
    environ: Mapping[str, str]
    folder: Path
    took_s: dict[str, list[float]] = field(default_factory=dict)
    peaks_mib: list[float] = field(default_factory=list)

    def run(self, name: str, command: Sequence[str] | None) -> None:
        """Run a command once, where there is one; ours ends by saying its peak."""
        if command is None:
            return
        self.ready()
        started = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        took_s = time.perf_counter() - started
        assert done.returncode == 0, done.stderr
        self.took_s.setdefault(name, []).append(took_s)
        if name == "agent":
            self.peaks_mib.append(int(done.stderr.split()[-1]) / 1024)

    def tell(self, what: str, wanted: Mapping[str, float]) -> bool:
        """Print our time beside each peer's, and our peak memory; whether all is as wanted."""
        medians = {name: statistics.median(times) for name, times in self.took_s.items()}
        ours_s = medians.pop("agent")
        met = True
        for name, median_s in medians.items():
            ratio, most = ours_s / median_s, wanted[name]
            value = f"{ratio:.2f} ({ours_s:.2f} s / {median_s:.2f} s)"
            met &= report(f"{what} / {name}", value, f"≤ {most}", met=ratio <= most)
        peak = max(self.peaks_mib)
        limit = f"≤ {MAX_PEAK_MIB} MiB"
        return met & report("its peak memory", f"{peak:.0f} MiB", limit, met=peak <= MAX_PEAK_MIB)


def random_file(path: Path, size_bytes: int, start: bytes = b"") -> Path:
    """Write bytes that do not compress."""
    with path.open("wb") as file:
        file.write(start)
        left = size_bytes - len(start)
        while left:
            left -= file.write(os.urandom(min(left, 1 << 20)))
    return path


def publisher(folder: Path, environ: Mapping[str, str]) -> None:
    """Make a key, and have the host believe it."""
    command = str(Path(sys.executable).with_name("agent"))
    for arguments in (
        ["keygen", "key.pem"],
        ["trust", "add", "key.pem.pub", "--owner", "acme", "--scope", "org.example.*"],
    ):
        subprocess.run(
            [command, "-q", *arguments], cwd=folder, env=environ, check=True, capture_output=True
        )


def plugin(folder: Path, size_bytes: int) -> Path:
    """A plugin of this size: the magic, then random bytes."""
    shutil.copytree(SAMPLE, folder)
    random_file(folder / "hello-plugin.wasm", size_bytes, b"\0asm\x01\0\0\0")
    return folder


def of_layers(files: Sequence[Path]) -> BuiltArtifact:
    """An artifact with each file as a layer, titled by its name."""
    config_raw = b"{}"
    config = Descriptor.of("application/vnd.oci.image.config.v1+json", config_raw)
    layers = []
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        title = {"org.opencontainers.image.title": path.name}
        media_type = "application/vnd.oci.image.layer.v1.tar"
        layers.append(Descriptor(media_type, f"sha256:{digest}", path.stat().st_size, title))
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.document(),
            "layers": [layer.document() for layer in layers],
        }
    ).encode()
    sources: dict[str, Path | bytes] = {config.digest: config_raw}
    sources |= {layer.digest: path for layer, path in zip(layers, files, strict=True)}
    return BuiltArtifact(raw, sha256_digest(raw), config_raw, config, tuple(layers), sources)


def as_folder(built: BuiltArtifact, folder: Path) -> str:
    """An artifact as skopeo's ``dir:`` has it; the files are links."""
    folder.mkdir()
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(built.manifest_raw)
    for digest, source in built.sources.items():
        name = folder / digest.removeprefix("sha256:")
        if isinstance(source, bytes):
            name.write_bytes(source)
        else:
            os.link(source, name)
    return f"dir:{folder}"
