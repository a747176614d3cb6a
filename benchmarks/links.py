"""A download over a link that breaks: the bytes that come down, beside the blob's own."""

import os
import tempfile
import time
from pathlib import Path

from agent.files import Files
from benchmarks.figures import report
from registry import Anonymous, Descriptor, HttpLocation, Repository, open_repository
from support.links import breaking_link
from support.registry import docker_registry

SIZE_BYTES = 256 << 20
EVERY_BYTES = 40 << 20
MAX_RATIO = 1.05


def main() -> bool:
    """Run; returns whether the figure is met."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        blob = os.urandom(SIZE_BYTES)
        descriptor = Descriptor.of("application/wasm", blob)
        (folder / "blob").write_bytes(blob)
        with docker_registry(folder / "registry") as host, breaking_link(host) as link:
            with _open(host) as repository:
                repository.push_blob(descriptor, folder / "blob")
            link.down_every = EVERY_BYTES
            started = time.perf_counter()
            with _open(link.host) as repository:
                repository.fetch_blob(descriptor, folder / "got")
            took_s = time.perf_counter() - started
            ratio = link.down / SIZE_BYTES
        assert (folder / "got").read_bytes() == blob
        return report(
            "bytes of 256 MiB over a link cut every 40 MiB",
            f"{ratio:.4f} × ({link.connections} connections, {took_s:.1f} s)",
            f"≤ {MAX_RATIO} ×",
            met=ratio <= MAX_RATIO,
        )


def _open(host: str) -> Repository:
    location = HttpLocation(host, "bench/org.example.hello")
    return open_repository(location, files=Files(), credentials=Anonymous())


if __name__ == "__main__":
    raise SystemExit(not main())
