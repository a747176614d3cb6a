"""The service's workers: one thing a key, not too many of a lane, an end that is bounded."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.service.workers import Workers

WAIT_S = 20


class Job:
    """Work that says that it has begun, and goes on until it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.go.wait(WAIT_S)
        self.ended.set()


@pytest.fixture
def jobs() -> Iterator[Callable[[], Job]]:
    """Makes jobs, and lets all go at the end."""
    made: list[Job] = []

    def make() -> Job:
        made.append(Job())
        return made[-1]

    yield make
    for job in made:
        job.go.set()


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Two threads, of which one lane gets one."""
    workers = Workers("test", 2, of_one_lane=1)
    yield workers
    assert workers.close(WAIT_S)


def test_a_key_is_taken_once_while_it_waits_or_is_at_work(
    workers: Workers, jobs: Callable[[], Job]
) -> None:
    """And again once it is done."""
    running, other, waiting, again = (jobs() for _ in range(4))
    assert workers.offer("a", running, lane="one")
    assert workers.offer("b", other, lane="two")
    assert running.began.wait(WAIT_S)
    assert other.began.wait(WAIT_S)
    assert workers.offer("c", waiting, lane="three")
    assert not workers.offer("a", again, lane="one")
    assert not workers.offer("c", again, lane="three")
    assert workers.at_work() == {"a", "b"}
    running.go.set()
    assert waiting.began.wait(WAIT_S)
    assert workers.offer("a", again, lane="one")
    waiting.go.set()
    assert again.began.wait(WAIT_S)
    assert workers.at_work() == {"a", "b"}


def test_a_lane_that_hangs_leaves_room_for_others(
    workers: Workers, jobs: Callable[[], Job]
) -> None:
    """Whatever waits in it before them; it goes on where it ends."""
    hanging, behind, other = jobs(), jobs(), jobs()
    workers.offer("a", hanging, lane="one")
    assert hanging.began.wait(WAIT_S)
    workers.offer("b", behind, lane="one")
    workers.offer("c", other, lane="two")
    assert other.began.wait(WAIT_S)
    other.go.set()
    assert other.ended.wait(WAIT_S)
    assert not behind.began.is_set()
    hanging.go.set()
    assert behind.began.wait(WAIT_S)


def test_work_that_raises_ends_nobody_elses(
    workers: Workers, jobs: Callable[[], Job], caplog: pytest.LogCaptureFixture
) -> None:
    """It is told with its traceback, its key is free, and each thread works on."""

    def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "stack_composer.service"):
        for number in range(4):
            assert workers.offer(f"bad {number}", fail, lane="one")
        after = [jobs(), jobs()]
        for number, job in enumerate(after):
            assert workers.offer(f"good {number}", job, lane=f"lane {number}")
        assert all(job.began.wait(WAIT_S) for job in after)
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot finish the work on bad {number}" for number in range(4)
    ]
    assert workers.at_work() == {"good 0", "good 1"}


def test_the_end_forgets_what_waits_and_says_what_hangs(jobs: Callable[[], Job]) -> None:
    """Nothing is taken any more; what is at work is waited for, and not for ever."""
    workers = Workers("test", 1)
    running, waiting = jobs(), jobs()
    workers.offer("a", running)
    assert running.began.wait(WAIT_S)
    workers.offer("b", waiting)
    assert not workers.close(0)
    assert not workers.offer("c", waiting)
    running.go.set()
    assert workers.close(WAIT_S)
    assert running.ended.is_set()
    assert not waiting.began.is_set()
    assert workers.at_work() == frozenset()
