"""Going live and going back, on a real tree and ledger."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.files import Files
from agent.model import Samples, Trial
from agent.pipeline.probation import Verdict
from agent.tree.activation import Activation
from agent.tree.generations import Tree
from support.agent import NOW, PLUGIN_ID, REPOSITORY, STEM, Crash, World, generation, payload_of

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


def test_a_trial_that_began_while_the_clock_was_ahead_begins_anew(world: World) -> None:
    """Set right by a year, it ends a probation after the first look, and not after a year."""
    world.install("0.1.0")
    world.now += 31_536_000
    world.install("0.2.0", probation_s=600)
    world.now = NOW + 5
    judged = world.activation.judge(PLUGIN_ID)
    assert judged is not None
    assert judged[1].verdict is Verdict.TOO_EARLY
    assert world.ledger.trial(PLUGIN_ID) == Trial(
        PLUGIN_ID, NEW.release, OLD.release, NOW + 5, NOW + 605
    )
    world.now += 599
    world.activation.judge(PLUGIN_ID)
    assert floor(world) == "0.1.0"
    world.now += 1
    world.activation.judge(PLUGIN_ID)
    assert (floor(world), world.ledger.trial(PLUGIN_ID)) == ("0.2.0", None)


def test_a_clock_that_is_set_back_within_a_trial_changes_nothing(world: World) -> None:
    """What began in the past goes on as it was."""
    world.install("0.1.0")
    world.install("0.2.0", probation_s=600)
    world.now += 500
    world.activation.judge(PLUGIN_ID)
    world.now -= 500
    world.activation.judge(PLUGIN_ID)
    world.now += 600
    world.activation.judge(PLUGIN_ID)
    assert floor(world) == "0.2.0"


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


@pytest.mark.parametrize(("length_s", "serves"), [(60, None), (0, "0.1.0")])
def test_a_trial_with_nothing_before_it(world: World, length_s: int, serves: str | None) -> None:
    """Its own failures decide, and nothing serves afterwards; one that a crash cut short commits.

    A first install is over at once, so what a crash left of it is finished and not judged.
    """
    world.seal("0.1.0")
    first = Trial(PLUGIN_ID, OLD.release, None, NOW, NOW + length_s)
    world.ledger.intend(OLD, first, channel=None)
    world.tree.flip(OLD)
    world.tree.project(OLD)
    world.fail_calls("0.1.0", 3)
    assert world.activation.is_unfinished(PLUGIN_ID)
    world.activation.judge(PLUGIN_ID)
    assert serving(world) == serves
    assert world.ledger.trial(PLUGIN_ID) is None
    assert bool(world.ledger.rejections(PLUGIN_ID)) is (serves is None)
    assert not world.activation.is_unfinished(PLUGIN_ID)


def unbelieved(world: World, *versions: str) -> Activation:
    """The activation of a world that does not believe these versions any more."""
    problem = {generation(version).release: "its key was revoked" for version in versions}
    return replace(world.activation, problem=lambda one: problem.get(one.release))


@pytest.mark.parametrize(
    ("doubted", "serves"),
    [((), "0.2.0"), (("0.2.0",), "0.1.0"), (("0.1.0", "0.2.0"), None)],
)
def test_a_failed_trial_ends_on_a_release_that_can_serve(
    world: World, doubted: tuple[str, ...], serves: str | None
) -> None:
    """The one before, else the latest good one that is believed, else nothing."""
    for version in ("0.1.0", "0.2.0"):
        world.install(version)
        world.now += 1
    world.install("0.3.0", probation_s=600)
    trial = world.ledger.trial(PLUGIN_ID)
    assert trial is not None
    unbelieved(world, *doubted).fail_trial(trial, reason="it traps")
    assert serving(world) == serves
    assert set(world.ledger.rejections(PLUGIN_ID)) == {trial.release}
    if serves:
        assert kinds(world)[-1] == ("rolled back", "0.3.0", "it traps")
    else:
        why = "it traps; 0.2.0: its key was revoked; 0.1.0: its key was revoked"
        assert kinds(world)[-1] == ("rollback failed", "0.3.0", why)
    world.activation.recover()
    assert serving(world) == serves


def test_a_release_that_cannot_serve_is_not_committed(world: World) -> None:
    """Its time is over and no call failed: it is rejected all the same, and the floor stays."""
    world.install("0.1.0")
    world.install("0.2.0", probation_s=600)
    doubting = unbelieved(world, "0.2.0")
    assert doubting.judge(PLUGIN_ID) is not None
    assert serving(world) == "0.2.0", "not before it is due"
    world.now += 600
    judged = doubting.judge(PLUGIN_ID)
    assert judged is not None
    assert judged[1].verdict is Verdict.UNHEALTHY
    assert (serving(world), floor(world)) == ("0.1.0", "0.1.0")
    why = "it could not serve any more: its key was revoked"
    assert world.ledger.rejections(PLUGIN_ID)[NEW.release].reason == why
    assert kinds(world)[-1] == ("rolled back", "0.2.0", why)


def test_where_nothing_could_serve_the_trial_stays_open(world: World) -> None:
    """The trust store is gone for a moment: nothing is taken away that would outlast that."""
    world.install("0.1.0")
    world.install("0.2.0", probation_s=600)
    world.now += 600
    judged = unbelieved(world, "0.1.0", "0.2.0").judge(PLUGIN_ID)
    assert judged is not None
    assert judged[1].verdict is Verdict.TOO_EARLY
    assert (serving(world), floor(world)) == ("0.2.0", "0.1.0")
    assert not world.ledger.rejections(PLUGIN_ID)
    world.activation.judge(PLUGIN_ID)
    assert floor(world) == "0.2.0"


def test_a_failed_trial_does_not_end_on_a_rejected_release(world: World) -> None:
    """Nor on one that was never committed: neither was ever found good."""
    world.install("0.1.0")
    world.install("0.2.0")
    world.seal("0.4.0")
    world.ledger.reject(PLUGIN_ID, OLD.release, "0.1.0", reason="bad", at=NOW)
    world.install("0.3.0", probation_s=600)
    trial = world.ledger.trial(PLUGIN_ID)
    assert trial is not None
    unbelieved(world, "0.2.0").fail_trial(trial, reason="it traps")
    assert serving(world) is None


class BrokenCopies(Files):
    """A disk on which the flat copies can't be written."""

    def copy_atomic(self, source: Path, target: Path, *, mode: int = 0o644) -> None:
        """Fail outside the store."""
        if ".store" not in target.parts:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        super().copy_atomic(source, target, mode=mode)


def test_flat_copies_that_cannot_be_written_only_wait(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What serves does not depend on them: the flip stands, and the next run tries again."""
    world.install("0.1.0")
    broken = replace(world.activation, tree=Tree(world.tree.root, BrokenCopies()))
    world.seal("0.2.0")
    broken.activate(NEW, probation_s=600, channel=None)
    live = world.activation.live(PLUGIN_ID)
    assert live is not None
    assert live.version == "0.2.0"
    assert kinds(world)[-1][0] == "activated"
    (warning,) = caplog.messages
    wasm = world.tree.root / f"{STEM}.wasm"
    why = f"cannot use {wasm}: No space left on device"
    assert warning.startswith(f"cannot refresh {wasm.with_suffix('.*')}: {why}")
    assert world.activation.is_unfinished(PLUGIN_ID)
    world.activation.recover()
    assert serving(world) == "0.2.0"
    assert not world.activation.is_unfinished(PLUGIN_ID)


def test_a_run_is_in_the_history_once_it_went_live(world: World) -> None:
    """A process that dies while it refreshes the copies has said that the release serves."""
    new = world.seal("0.1.0")

    class Dying(BrokenCopies):
        def copy_atomic(self, source: Path, target: Path, *, mode: int = 0o644) -> None:
            if ".store" not in target.parts:
                raise Crash
            super().copy_atomic(source, target, mode=mode)

    dying = replace(world.activation, tree=Tree(world.tree.root, Dying()))
    with pytest.raises(Crash):
        dying.activate(new, probation_s=0, channel=None)
    assert kinds(world) == [("activated", "0.1.0", "")]


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
    with pytest.raises(AgentError, match=f"{PLUGIN_ID}: .* lost its release {'e' * 12}") as caught:
        world.activation.commit(lost)
    assert caught.value.hint == f"agent pull {PLUGIN_ID}"
