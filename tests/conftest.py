"""What tests of several kinds share."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sandbox import worker
from sandbox.admission import Isolation
from sandbox.cell import Way
from sandbox.plain import PlainWay
from sandbox.raw import RawWay
from support.sandbox import ECHO, loaded, nothing_left, running

_IN_MEMORY = Path("/dev/shm")  # noqa: S108  # pytest makes a folder of the user's own there
_ROOM_BYTES = 4 * 1024**3

# How fast a busy machine makes up inputs is no promise of ours.
settings.register_profile("suite", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' folders in memory where there is room: half of the time were syncs.

    ``make soak`` is for real disks, and stays on one.
    """
    if config.option.markexpr == "soak" or not _IN_MEMORY.is_dir():
        return
    there = os.statvfs(_IN_MEMORY)
    may_run = not there.f_flag & os.ST_NOEXEC  # compiled code is mapped from there
    if may_run and there.f_bavail * there.f_frsize >= _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_IN_MEMORY))


def pytest_collection_finish() -> None:
    """What stands now stands to the end: who looks for what a test left need not go through it."""
    gc.collect()
    gc.freeze()


_WAYS: dict[str, tuple[Isolation, type[Way] | None]] = {
    "inline": ("inline", RawWay),
    "inline, public API": ("inline", PlainWay),
    "process": ("process", None),
}


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let children hear SIGINT, also where a shell started us in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=_WAYS)
def isolation(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Isolation]:
    """Run the test once for each isolation, and in this process by both ways into the engine."""
    isolation, way = _WAYS[request.param]
    if way is not None:
        monkeypatch.setattr(worker, "best", way)
    with running(isolation):
        yield isolation


@pytest.fixture
def unharmed(isolation: Isolation) -> Iterator[None]:  # noqa: ARG001  # runs first
    """After an attack another plugin answers, and nothing of this one is left."""
    with nothing_left():
        yield
        with loaded(ECHO) as plugin:
            assert plugin.call("run", ["still here"]).value == "still here"
        del plugin  # its code goes with it
