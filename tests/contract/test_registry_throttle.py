"""A limit to what goes over all connections together, by a clock of our own."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    Descriptor,
    HttpLocation,
    KeptConnections,
    Repository,
    Timing,
    Wanted,
    fetch_all,
    open_repository,
)
from registry.throttle import Throttle
from support.registry import PLUGIN_ID, docker_registry

LIMIT = 1 << 20
BLOBS = [bytes([number]) * (1 << 20) for number in range(6)]
DESCRIPTORS = [Descriptor.of("application/wasm", blob) for blob in BLOBS]


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.longest_s = 0.0
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> None:
        """Let it pass; of several who wait one after the other."""
        with self._lock:
            self.now_s += seconds
            self.longest_s = max(self.longest_s, seconds)

    def timing(self) -> Timing:
        """As the transport wants it."""
        return Timing(clock=lambda: self.now_s, sleep=self.wait, uniform=lambda low, _: low)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry that has the blobs."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        with opened(host, KeptConnections()) as repository:
            for descriptor, blob in zip(DESCRIPTORS, BLOBS, strict=True):
                repository.push_blob(descriptor, blob)
        yield host


def opened(host: str, connections: KeptConnections, name: str = "r") -> Repository:
    """Open a repository."""
    return open_repository(
        HttpLocation(host, f"{name}/{PLUGIN_ID}"),
        files=Files(),
        credentials=Anonymous(),
        connections=connections,
    )


def test_a_download_keeps_to_the_limit(registry: str, tmp_path: Path) -> None:
    """As many bytes a second as were allowed, and no fewer."""
    clock = Clock()
    connections = KeptConnections(clock.timing(), max_bytes_per_s=LIMIT)
    with opened(registry, connections) as repository:
        for descriptor in DESCRIPTORS:
            repository.fetch_blob(descriptor, tmp_path / "a")
    assert clock.now_s == pytest.approx(len(BLOBS), rel=0.1)
    assert clock.longest_s < 0.3  # all the time, and not in the end


def test_all_connections_share_it(registry: str, tmp_path: Path) -> None:
    """Four at once are no faster than one."""
    clock = Clock()
    connections = KeptConnections(clock.timing(), max_bytes_per_s=LIMIT)
    wanted = [Wanted(one, tmp_path / one.digest[7:]) for one in DESCRIPTORS]
    with opened(registry, connections) as repository:
        fetch_all(repository, wanted)
    assert clock.now_s >= 0.9 * len(BLOBS)


def test_an_upload_keeps_to_it_too(registry: str) -> None:
    """What is sent counts as what is received does."""
    clock = Clock()
    connections = KeptConnections(clock.timing(), max_bytes_per_s=LIMIT)
    with opened(registry, connections, "w") as repository:
        for descriptor, blob in zip(DESCRIPTORS, BLOBS, strict=True):
            repository.push_blob(descriptor, blob)
    assert clock.now_s == pytest.approx(len(BLOBS), rel=0.1)
    assert clock.longest_s < 0.3  # all the time, and not in the end


def test_who_rested_may_not_make_up_for_it() -> None:
    """What was not used for an hour is not there at once."""
    clock = Clock()
    throttle = Throttle(clock.timing(), 1000)
    assert throttle.took(1000) == pytest.approx(0.75)
    clock.wait(3600)
    assert throttle.took(1000) == pytest.approx(0.75)
