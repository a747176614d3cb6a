"""The service's tick: it comes again whatever became of the last one, and keeps nobody."""

import logging
import threading

import pytest

from agent.service import ticking as module
from agent.service.ticking import ticking

WAIT_S = 20


def test_a_tick_that_fails_is_told_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake in one thing that is looked at must not end the looking."""
    came = threading.Semaphore(0)

    def tick() -> None:
        came.release()
        raise ValueError("no such thing")

    with caplog.at_level(logging.ERROR, "stack_composer.service"), ticking(tick):
        assert came.acquire(timeout=WAIT_S)
        assert came.acquire(timeout=WAIT_S)
    assert "no such thing" in caplog.text


def test_a_tick_that_hangs_keeps_nobody_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer: a service that is told to end does."""
    monkeypatch.setattr(module, "_END_S", 0.01)
    hangs, over = threading.Event(), threading.Event()

    def tick() -> None:
        hangs.set()
        over.wait(WAIT_S)

    def serve() -> None:
        with ticking(tick):
            assert hangs.wait(WAIT_S)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(WAIT_S / 2)
    is_ended = not thread.is_alive()
    over.set()
    thread.join(WAIT_S)
    assert is_ended


def test_one_tick_runs_at_a_time() -> None:
    """Also where it takes longer than a second, and is woken meanwhile."""
    running, most = 0, 0
    came = threading.Semaphore(0)

    def tick() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        came.release()
        rouse()
        pause.wait(1.5)
        running -= 1

    pause = threading.Event()
    with ticking(tick) as rouse:
        for _ in range(2):
            assert came.acquire(timeout=WAIT_S)
        pause.set()
    assert most == 1
