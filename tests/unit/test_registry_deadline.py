"""Deadlines and least speeds, by a clock that the tests move."""

from dataclasses import dataclass, field

import pytest

from registry import Timing
from registry.deadline import Deadline, Pace


@dataclass
class World:
    """Time that passes when somebody sleeps."""

    now_s: float = 100.0
    slept: list[float] = field(default_factory=list)

    @property
    def timing(self) -> Timing:
        """Its clock."""
        return Timing(lambda: self.now_s, self.slept.append, lambda low, _: low)


@pytest.fixture
def world() -> World:
    """Some moment."""
    return World()


def test_an_operation_ends_with_the_one_that_it_is_part_of(world: World) -> None:
    """A part may have less time than the whole and never more; afterwards the whole's counts."""
    deadline = Deadline(world.timing)
    assert deadline.remaining_s() == float("inf")
    with deadline.within(10):
        with deadline.within(60):
            assert deadline.remaining_s() == 10
        with deadline.within(4):
            assert deadline.remaining_s() == 4
        world.now_s += 9
        assert deadline.remaining_s() == 1
        world.now_s += 1
        with pytest.raises(TimeoutError), deadline.within(60):
            deadline.remaining_s()
    assert deadline.remaining_s() == float("inf")


def test_a_pause_is_no_longer_than_what_is_left(world: World) -> None:
    """And there is none where nothing is."""
    deadline = Deadline(world.timing)
    with deadline.within(3):
        deadline.pause(2)
        deadline.pause(30)
        world.now_s += 3
        with pytest.raises(TimeoutError):
            deadline.pause(1)
    assert world.slept == [2, 3]


def test_each_window_needs_its_bytes(world: World) -> None:
    """A fast beginning buys no slow end; the wait before the first byte is not counted."""
    pace = Pace(world.timing, window_s=10, min_bytes_per_s=100)
    world.now_s += 1000
    pace.took(1)
    world.now_s += 9
    pace.took(1_000_000)
    world.now_s += 1
    pace.took(1)
    for _ in range(5):
        world.now_s += 10
        pace.took(1000)
    world.now_s += 9.9
    pace.took(1)
    world.now_s += 0.1
    with pytest.raises(TimeoutError, match="only 2 bytes in 10 s"):
        pace.took(1)
