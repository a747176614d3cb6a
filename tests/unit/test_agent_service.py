"""The service's main thread: what signals tell it is heeded, whenever they come."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from agent.context import Options
from agent.errors import AgentError, BusyError
from agent.service.answering import Answering
from agent.service.deadman import DeadMan
from agent.service.service import Service
from agent.service.tending import Tending

WAIT_S = 20
MOMENTS = 200


class Looks:
    """What the main thread passes signals on to, as far as it is asked here."""

    def __init__(self) -> None:
        self.reloads = 0

    def reload(self) -> None:
        """Count."""
        self.reloads += 1

    def heed(self) -> None:
        """See nothing new."""


def test_a_signal_is_heeded_at_any_moment(tmp_path: Path) -> None:
    """Python runs a handler between any two steps of the main thread, whatever lock it holds."""
    service, looks = Service(Options(home=tmp_path), {}), Looks()
    moments = 0
    is_handling = False

    def between_steps(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal moments, is_handling
        if event == "line" and not is_handling:
            is_handling = True
            moments += 1
            (service.reload if moments < MOMENTS else service.stop)()
            is_handling = False
        return between_steps

    def watch() -> None:
        sys.settrace(between_steps)
        service._watch_over(cast("Tending", looks), cast("Answering", looks), lambda: None)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert looks.reloads


@contextlib.contextmanager
def run(service: Service) -> Iterator[list[BaseException]]:
    """Run it on a thread, to the end of the block; what it raised."""
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            service.run()
        except AgentError as error:
            raised.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield raised
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_it_serves_between_its_start_and_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a program of one's own, too: it answers when it is ready, reads its config, and goes."""
    caplog.set_level("INFO", "stack_composer.service")
    service = Service(Options(home=tmp_path), {})
    with run(service) as raised:
        wait_for(caplog, "ready: 0 plugins")
        assert (tmp_path / "run" / "agent.sock").is_socket()
        service.reload()
        wait_for(caplog, "the config was read again")
        service.stop()
    assert not raised
    assert not (tmp_path / "run" / "agent.sock").exists()


def test_it_heeds_signals_while_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its start waits for, it ends; what was begun is left as it is."""
    begun, goes_on = threading.Event(), threading.Event()

    def begin(_tending: Tending, _deadman: object) -> None:
        begun.set()
        goes_on.wait(WAIT_S)

    monkeypatch.setattr(Tending, "begin", begin)
    service = Service(Options(home=tmp_path), {})
    with run(service) as raised:
        assert begun.wait(WAIT_S)
        service.reload()
        service.stop()
    goes_on.set()
    assert not raised
    assert not (tmp_path / "run" / "agent.sock").exists()


def test_what_its_start_met_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it went on beside the main thread."""

    def begin(_tending: Tending, _deadman: object) -> None:
        raise BusyError("cannot begin")

    monkeypatch.setattr(Tending, "begin", begin)
    with run(Service(Options(home=tmp_path), {})) as raised:
        pass
    assert [str(error) for error in raised] == ["cannot begin"]


def test_a_fault_of_its_own_counts_as_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release on trial may be to blame: the dead-man switch stays armed."""
    disarmed = list[DeadMan]()

    def fault(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Service, "_watch_over", fault)
    monkeypatch.setattr(DeadMan, "disarm", disarmed.append)
    with pytest.raises(MemoryError):
        Service(Options(home=tmp_path), {}).run()
    assert not disarmed


def wait_for(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait for a message of the service's."""
    until_s = time.monotonic() + WAIT_S
    while text not in caplog.text:
        assert time.monotonic() < until_s, caplog.text
        time.sleep(0.01)
