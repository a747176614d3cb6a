"""When plugins are looked at: whatever their turns come to."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Kind, Outcome
from agent.service.schedule import Rhythm, Turn

FIRST_RETRY_S = 30.0
DRAWS = st.integers(0, 1023).map(lambda number: number / 1024)
TIMES = st.integers(0, 10**9)
RHYTHMS = st.builds(Rhythm, st.integers(1, 10**6), st.integers(0, 10**5))
DONE = st.sampled_from([kind for kind in Kind if kind is not Kind.FAILED])
HOURLY = Rhythm(3600, 600)


def outcome(kind: Kind) -> Outcome:
    """What a turn came to."""
    return Outcome("org.example.hello", kind, "check", "it is so")


FAILED = outcome(Kind.FAILED)


@given(TIMES)
def test_a_new_plugin_is_due_at_once(now_s: float) -> None:
    """The start-up check does not wait."""
    assert Turn().is_due(now_s, may_act=False)


@given(
    kind=DONE,
    rhythm=RHYTHMS,
    now_s=TIMES,
    draw=DRAWS,
    failures=st.integers(0, 99),
    awaits=st.booleans(),
)
def test_what_was_done_is_due_after_the_interval_within_the_jitter(
    kind: Kind, rhythm: Rhythm, now_s: float, draw: float, failures: int, *, awaits: bool
) -> None:
    """Never earlier, never later, whatever failed before; a rule's refusal is no failure."""
    before = Turn(now_s, failures)
    turn = before.after(outcome(kind), rhythm, now_s, draw, may_act=False, awaits_window=awaits)
    assert turn.failures == 0
    assert turn.awaits_window == awaits
    assert rhythm.interval_s <= turn.due_s - now_s
    assert turn.due_s - now_s <= rhythm.interval_s + rhythm.jitter_s
    assert turn.is_due(turn.due_s, may_act=False)
    earlier = turn.due_s - 1
    assert not turn.is_due(earlier, may_act=False)
    assert turn.is_due(earlier, may_act=True) == awaits


@given(
    rhythm=RHYTHMS,
    now_s=TIMES,
    draws=st.lists(DRAWS, min_size=2, max_size=80),
    may_act=st.booleans(),
)
def test_what_fails_is_tried_again_later_each_time(
    rhythm: Rhythm, now_s: float, draws: list[float], *, may_act: bool
) -> None:
    """From half a minute up to the regular time: a registry that is down is not hammered."""
    turn, delays = Turn(), []
    for draw in draws:
        turn = turn.after(FAILED, rhythm, now_s, draw, may_act=may_act, awaits_window=False)
        delays.append(turn.due_s - now_s)
        assert delays[-1] <= rhythm.interval_s + draw * rhythm.jitter_s
        assert not turn.is_due(turn.due_s - min(1, delays[-1]), may_act=True)
        now_s = turn.due_s
    assert turn.failures == len(draws)
    assert delays[0] >= min(FIRST_RETRY_S, rhythm.interval_s)
    for sooner, later in itertools.pairwise(delays):
        assert later >= min(sooner, rhythm.interval_s)
    assert delays[-1] <= rhythm.interval_s + rhythm.jitter_s


@pytest.mark.parametrize("draw", [0.0, 0.5])
def test_each_delay_is_twice_the_one_before(draw: float) -> None:
    """30 s, 1 min, 2 min …, more by as much as was drawn; then the regular time."""
    turn, delays = Turn(), []
    for _ in range(10):
        turn = turn.after(FAILED, HOURLY, 0, draw, may_act=False, awaits_window=False)
        delays.append(turn.due_s)
    regular_s = 3600 + draw * 600
    assert delays == [min(30 * 2**one * (1 + draw), regular_s) for one in range(10)]
    assert delays[-1] == regular_s


def test_a_success_forgets_the_failures() -> None:
    """The next failure is tried again as soon as a first one."""
    turn = Turn(failures=9).after(
        outcome(Kind.CURRENT), HOURLY, 0, 0.0, may_act=True, awaits_window=False
    )
    turn = turn.after(FAILED, HOURLY, 0, 0.0, may_act=True, awaits_window=False)
    assert turn.due_s == FIRST_RETRY_S


@pytest.mark.parametrize("kind", [Kind.PENDING, Kind.CURRENT, Kind.REFUSED])
def test_an_opening_window_calls_only_what_waits_for_it(kind: Kind) -> None:
    """What waits for it has its turn at once; the rest in its time."""
    for awaits in (True, False):
        turn = Turn().after(outcome(kind), HOURLY, 0, 0.0, may_act=False, awaits_window=awaits)
        assert not turn.is_due(1, may_act=False)
        assert turn.is_due(1, may_act=True) == awaits


def test_a_look_that_fails_before_the_window_does_not_make_it_miss_the_window() -> None:
    """What was found before waits on."""
    found = Turn().after(outcome(Kind.PENDING), HOURLY, 0, 0.0, may_act=False, awaits_window=True)
    failed = found.after(FAILED, HOURLY, 3600, 0.0, may_act=False, awaits_window=False)
    assert failed.is_due(3601, may_act=True)


def test_what_fails_in_an_open_window_is_tried_again_in_time_and_not_at_once() -> None:
    """An open window calls once; then failures go by the back-off as ever."""
    found = Turn().after(outcome(Kind.PENDING), HOURLY, 0, 0.0, may_act=False, awaits_window=True)
    failed = found.after(FAILED, HOURLY, 60, 0.0, may_act=True, awaits_window=False)
    assert not failed.is_due(60 + FIRST_RETRY_S - 1, may_act=True)
    assert failed.is_due(60 + FIRST_RETRY_S, may_act=True)
