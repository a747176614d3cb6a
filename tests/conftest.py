"""What tests of several kinds share."""

import pytest

from sandbox import worker
from sandbox.plain import PlainWay
from sandbox.raw import RawWay


@pytest.fixture(params=[RawWay, PlainWay], ids=["raw", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test twice: by the engine's library and by wasmtime's public API."""
    monkeypatch.setattr(worker, "best", request.param)
