"""What tests of several kinds share."""

from collections.abc import Iterator

import pytest

from sandbox import worker
from sandbox.admission import Isolation
from sandbox.cell import Way
from sandbox.plain import PlainWay
from sandbox.raw import RawWay
from support.sandbox import ECHO, loaded, nothing_left, running

_WAYS: dict[str, tuple[Isolation, type[Way] | None]] = {
    "inline": ("inline", RawWay),
    "inline, public API": ("inline", PlainWay),
    "process": ("process", None),
}


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
