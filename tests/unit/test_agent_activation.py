"""Going live and going back, on a real tree and ledger."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import Samples, Trial
from agent.probation import Verdict
from support.agent import NOW, PLUGIN_ID, REPOSITORY, STEM, World, generation, payload_of

OLD, NEW = generation("0.1.0"), generation("0.2.0")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An installation without a plugin."""
    with World(tmp_path / "world") as opened:
        yield opened


def serving(world: World) -> str | None:
    """The version that serves, by the tree and by the flat copies."""
    live = world.activation.live(PLUGIN_ID)
    flat = world.tree.root / f"{STEM}.wasm"
    if live is None:
        assert not flat.exists()
        return None
    assert flat.read_bytes() == payload_of(live.version)
    return live.version


def kinds(world: World) -> list[tuple[str, str | None, str]]:
    """The history: what happened to which version."""
    return [(e.kind, e.version, e.detail) for e in world.ledger.history(PLUGIN_ID)]


def floor(world: World) -> str | None:
    """The highest committed version."""
    installed = world.ledger.installed(PLUGIN_ID)
    return installed.floor if installed else None


def test_a_first_install_commits_at_once(world: World) -> None:
    """There is nothing to go back to, so there is no trial."""
    world.seal("0.1.0")
    trial = world.activation.activate(OLD, probation_s=600, channel=None)
    assert trial.is_over_at_once
    assert trial.previous is None
    assert serving(world) == "0.1.0"
    assert world.ledger.trial(PLUGIN_ID) is None
    assert floor(world) == "0.1.0"
    assert kinds(world) == [("activated", "0.1.0", ""), ("committed", "0.1.0", "floor 0.1.0")]


def test_an_update_is_on_trial(world: World) -> None:
    """It serves, and the one before is what a rollback goes back to."""
    world.install("0.1.0")
    world.now += 5
    world.seal("0.2.0")
    trial = world.activation.activate(NEW, probation_s=600, channel="stable")
    assert trial == Trial(PLUGIN_ID, NEW.release, OLD.release, NOW + 5, NOW + 605)
    assert world.ledger.trial(PLUGIN_ID) == trial
    assert not trial.is_over_at_once
    assert serving(world) == "0.2.0"
    assert floor(world) == "0.1.0"
    installed = world.ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert (installed.good, installed.channel) == (OLD.release, "stable")
    assert (installed.projected, installed.projection_due) == (NEW.release, False)
    assert kinds(world)[-1] == ("activated", "0.2.0", "on trial for 600 s")


def test_an_update_without_probation_commits_at_once(world: World) -> None:
    """``probation = "0s"``."""
    world.install("0.1.0")
    world.install("0.2.0")
    assert world.ledger.trial(PLUGIN_ID) is None
    assert floor(world) == "0.2.0"


@pytest.mark.parametrize(
    ("calls", "later_s", "verdict", "serves"),
    [
        (Samples(100, 2), 0, Verdict.TOO_EARLY, "0.2.0"),
        (Samples(100, 2), 600, Verdict.HEALTHY, "0.2.0"),
        (Samples(3, 3), 0, Verdict.UNHEALTHY, "0.1.0"),
        (Samples(3, 3), 600, Verdict.UNHEALTHY, "0.1.0"),
    ],
)
def test_a_trial_is_judged_by_its_calls(
    world: World, calls: Samples, later_s: int, verdict: Verdict, serves: str
) -> None:
    """Too early: it goes on. Healthy: committed. Unhealthy: rejected, and the old one serves."""
    world.install("0.1.0")
    world.install("0.2.0", probation_s=600)
    world.ledger.add_samples([(PLUGIN_ID, NEW.release, int(NOW // 60), calls)])
    world.now += later_s
    judged = world.activation.judge(PLUGIN_ID)
    assert judged is not None
    assert judged[1].verdict is verdict
    assert serving(world) == serves
    assert (world.ledger.trial(PLUGIN_ID) is None) == (verdict is not Verdict.TOO_EARLY)
    rejected = world.ledger.rejections(PLUGIN_ID)
    if verdict is Verdict.UNHEALTHY:
        assert rejected[NEW.release].reason == "3 of 3 calls failed, no record before"
        assert kinds(world)[-1] == ("rolled back", "0.2.0", rejected[NEW.release].reason)
        assert floor(world) == "0.1.0"
        assert world.activation.judge(PLUGIN_ID) is None
    else:
        assert rejected == {}


def test_the_old_releases_calls_are_the_measure(world: World) -> None:
    """What the old one failed as well is no reason to go back to it."""
    world.install("0.1.0")
    world.fail_calls("0.1.0", 50)
    world.install("0.2.0", probation_s=600)
    world.fail_calls("0.2.0", 50)
    judged = world.activation.judge(PLUGIN_ID)
    assert judged is not None
    assert judged[1].verdict is Verdict.TOO_EARLY


def test_nothing_is_judged_without_a_trial(world: World) -> None:
    """None for a plugin that is not there, and for one that is committed."""
    assert world.activation.judge(PLUGIN_ID) is None
    world.install("0.1.0")
    assert world.activation.judge(PLUGIN_ID) is None


def test_turning_back_by_hand(world: World) -> None:
    """The release that is left is rejected; the floor stays; the history says who did it."""
    world.install("0.1.0")
    world.install("0.2.0")
    for _ in range(2):
        world.activation.turn_back(NEW, OLD, kind="rollback", reason="by hand")
        assert serving(world) == "0.1.0"
    assert set(world.ledger.rejections(PLUGIN_ID)) == {NEW.release}
    assert floor(world) == "0.2.0"
    assert kinds(world)[-1] == ("rollback", "0.2.0", "by hand")


def test_a_floor_never_sinks(world: World) -> None:
    """Committing a lower version, or another build of the same, leaves it where it is."""
    world.install("0.2.0")
    world.install("0.1.0")
    assert (serving(world), floor(world)) == ("0.1.0", "0.2.0")
    world.install("0.2.0+b")
    assert floor(world) == "0.2.0"
    world.install("0.10.0")
    assert floor(world) == "0.10.0"


def test_what_is_in_use_stays_whole(world: World) -> None:
    """What serves, what is good, and both ends of a trial."""
    assert world.activation.in_use(PLUGIN_ID) == frozenset()
    world.install("0.1.0")
    assert world.activation.in_use(PLUGIN_ID) == {OLD.release}
    world.install("0.2.0", probation_s=600)
    assert world.activation.in_use(PLUGIN_ID) == {OLD.release, NEW.release}


def test_a_rejected_release_that_is_named_counts_anew(world: World) -> None:
    """It is taken again, its failures of last time forgotten."""
    world.install("0.1.0")
    world.install("0.2.0", probation_s=600)
    world.fail_calls("0.2.0", 5)
    world.activation.judge(PLUGIN_ID)
    world.install("0.2.0", probation_s=600)
    assert serving(world) == "0.2.0"
    assert world.ledger.rejections(PLUGIN_ID) == {}
    judged = world.activation.judge(PLUGIN_ID)
    assert judged is not None
    assert judged[1].verdict is Verdict.TOO_EARLY


def test_recovering_what_is_whole_changes_nothing(world: World) -> None:
    """Nothing installed, committed, on trial: a trial is not a crash."""
    world.activation.recover()
    world.install("0.1.0")
    world.install("0.2.0", probation_s=600)
    before = world.picture()
    world.activation.recover()
    assert world.picture() == before


def test_a_current_that_is_not_in_the_ledger_is_left(world: World) -> None:
    """What serves must be known: recovery goes back to what is good."""
    world.install("0.1.0")
    stranger = replace(NEW, release="f" * 64)
    world.tree.flip(stranger)
    assert world.activation.live(PLUGIN_ID) is None
    world.activation.recover()
    assert serving(world) == "0.1.0"


def test_nothing_serves_where_what_was_good_is_lost(world: World) -> None:
    """A ledger without the row of what serves: nothing that it does not know goes on serving."""
    world.install("0.1.0")
    world.ledger.forget_generation(PLUGIN_ID, OLD.release)
    world.activation.recover()
    assert world.tree.current(PLUGIN_ID) is None


def test_a_first_trial_is_judged_without_a_measure(world: World) -> None:
    """Nothing served before: its own failures decide, and nothing serves afterwards."""
    world.seal("0.1.0")
    world.ledger.intend(OLD, Trial(PLUGIN_ID, OLD.release, None, NOW, NOW + 60), channel=None)
    world.tree.flip(OLD)
    world.fail_calls("0.1.0", 3)
    world.activation.judge(PLUGIN_ID)
    assert serving(world) is None
    assert set(world.ledger.rejections(PLUGIN_ID)) == {OLD.release}


def test_a_stale_projection_is_refreshed(world: World) -> None:
    """Due and not whole: the flat copies are written again."""
    world.install("0.1.0")
    world.ledger.intend(OLD, Trial(PLUGIN_ID, OLD.release, None, NOW, NOW), channel=None)
    (world.tree.root / f"{STEM}.wasm").write_bytes(b"torn")
    world.activation.recover()
    assert serving(world) == "0.1.0"
    installed = world.ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert not installed.projection_due
    assert installed.repository == REPOSITORY


def test_a_generation_that_the_ledger_lost_is_named(world: World) -> None:
    """A trial without its row is a fault of ours, not a guess."""
    lost = Trial(PLUGIN_ID, "e" * 64, None, NOW, NOW)
    with pytest.raises(LookupError, match=f"lost generation {'e' * 12} of {PLUGIN_ID}"):
        world.activation.commit(lost)
