"""The rows of a run: what each says, and the error that goes with it."""

import pytest

from agent.errors import AgentError, NotFoundError, PolicyError
from agent.model import Kind
from agent.pipeline.outcomes import nothing_to_take, on_trial, reverted
from agent.pipeline.plan import Skip
from agent.pipeline.probation import Judgement, Verdict
from agent.pipeline.search import Found
from support.agent import PLUGIN_ID, generation

SERVING = generation("0.1.0")
UNHEALTHY = Judgement(Verdict.UNHEALTHY, "4 of 4 calls failed")


def test_an_open_trial_is_pending_by_rule() -> None:
    """An update run says why it takes nothing; named, that would be exit 8."""
    outcome = on_trial(PLUGIN_ID)
    assert (outcome.kind, outcome.step) == (Kind.PENDING, "trial")
    assert isinstance(outcome.error, PolicyError)
    assert outcome.error.reason == "trial"
    assert on_trial(PLUGIN_ID, "due").detail == "due"


def test_a_trial_that_ended_badly_names_what_serves_again() -> None:
    """A revert nobody asked for: exit 9, and the release that was gone back to."""
    outcome = reverted(PLUGIN_ID, SERVING, UNHEALTHY)
    assert (outcome.kind, outcome.after, outcome.release) == (
        Kind.ROLLED_BACK,
        "0.1.0",
        SERVING.release,
    )
    assert outcome.digest == SERVING.digest
    assert outcome.error is not None
    assert outcome.error.exit_code == 9
    assert "4 of 4 calls failed" in outcome.error.message


def test_a_trial_with_nothing_to_go_back_to_says_so() -> None:
    """Nothing serves: that is a rollback that failed, exit 10, and no version is named."""
    outcome = reverted(PLUGIN_ID, None, UNHEALTHY)
    assert (outcome.kind, outcome.after, outcome.release) == (Kind.FAILED, None, None)
    assert outcome.error is not None
    assert outcome.error.exit_code == 10


def test_nothing_newer_is_current() -> None:
    """The serving release is named; what was passed over is told."""
    plain = nothing_to_take(PLUGIN_ID, SERVING, Found(None, (), None))
    assert (plain.kind, plain.detail, plain.after) == (Kind.CURRENT, "nothing newer", "0.1.0")
    skip = Skip("0.2.0", "rejected", "rejected here: it trapped")
    passed = nothing_to_take(PLUGIN_ID, SERVING, Found(None, (skip,), "0.2.0"))
    assert (passed.kind, passed.error, passed.newest) == (Kind.CURRENT, None, "0.2.0")
    assert passed.detail == "0.2.0: rejected here: it trapped"


def test_what_may_be_taken_later_is_pending() -> None:
    """A version that waits decides, even behind one that is refused for good."""
    refused = Skip("0.3.0", "floor", "below the floor 1.0.0")
    waits = Skip("0.2.0", "cooldown", "cooldown, 17 h left", waits=True)
    outcome = nothing_to_take(PLUGIN_ID, SERVING, Found(None, (refused, waits), "0.3.0"))
    assert (outcome.kind, outcome.after) == (Kind.PENDING, "0.2.0")
    assert isinstance(outcome.error, PolicyError)
    assert outcome.error.reason == "cooldown"


@pytest.mark.parametrize(
    ("skips", "error", "words"),
    [
        ((), NotFoundError, "a version"),
        ((Skip("0.2.0", "pre-release", "only when asked for"),), PolicyError, "asked for"),
    ],
)
def test_a_first_install_without_a_candidate_is_an_error(
    skips: tuple[Skip, ...], error: type[AgentError], words: str
) -> None:
    """Nothing serves and nothing can be taken: whoever asked is told why."""
    with pytest.raises(error, match=words):
        nothing_to_take(PLUGIN_ID, None, Found(None, skips, None))
