"""A crash at every effect of going live and going back, and a second one while recovering.

After any of them a fresh process finishes or undoes what was left. The checker itself is
tested: five orders of effects that are known to be wrong must each fail it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import Event, Generation, Stop, Trial
from agent.tree.activation import Activation
from agent.tree.flat import FlatSets, Identity
from agent.tree.remembering import remember
from support.agent import PLUGIN_ID, Crash, Fuse, World
from support.crash import (
    PROBATION_S,
    STALE,
    STORIES,
    BrokenError,
    Story,
    check_at_any_instant,
    check_recovered,
    copy_of,
    intended,
    require,
)

# Told hundreds of times over: counting lines, which others count too, would take as long again.
pytestmark = pytest.mark.no_cover


def recover_and_check(folder: Path, story: Story, kind: type[Activation]) -> None:
    """A fresh process recovers; doing so again changes nothing."""
    with World(folder, kind=kind) as world:
        story.recover(world)
        check_recovered(world, story)
        once = world.picture()
        story.recover(world)
        require(world.picture() == once, "recovering twice changed something")


def crash_everywhere(tmp_path: Path, story: Story, kind: type[Activation] = Activation) -> int:
    """Crash before each effect of a story, and before each effect of recovering from that.

    Returns:
        How many histories were told.
    """
    start = tmp_path / "start"
    with World(start) as world:
        story.before(world)
    told, first, seen = 0, 0, set()
    while True:
        left = copy_of(start, tmp_path / f"{first}")
        if not _dies(left, story.act, Fuse(first), kind):
            break
        with World(left, kind=kind) as world:
            check_at_any_instant(world)
            picture = repr(world.picture())
        told += 1
        if picture not in seen:
            seen.add(picture)
            told += _crash_recovery_everywhere(left, story, kind)
        first += 1
    recover_and_check(left, story, kind)
    return told


def _crash_recovery_everywhere(left: Path, story: Story, kind: type[Activation]) -> int:
    second = 0
    while True:
        again = copy_of(left, left.with_name(f"{left.name}-{second}"))
        died = _dies(again, story.recover, Fuse(second), kind)
        if died:
            with World(again, kind=kind) as world:
                check_at_any_instant(world)
        recover_and_check(again, story, kind)
        if not died:
            return second
        second += 1


def _dies(folder: Path, act: Callable[[World], object], fuse: Fuse, kind: type[Activation]) -> bool:
    """Let a process act until the fuse has burnt down; whether it did."""
    with World(folder, fuse, kind, now=_latest(folder)) as world:
        try:
            act(world)
        except Crash:
            return True
    return False


def _latest(folder: Path) -> float:
    """A moment after all that happened before."""
    with World(folder) as world:
        return max([world.now, *(event.at for event in world.ledger.history(PLUGIN_ID))])


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_whatever_dies_when_it_is_whole_again(tmp_path: Path, story: Story) -> None:
    """A crash before each effect, and one before each effect of recovery, end whole."""
    told = crash_everywhere(tmp_path, story)
    assert told >= 2


def test_what_never_went_live_is_never_found_good(tmp_path: Path) -> None:
    """A run that died before its flip: its probation is void, however long ago it was."""
    with World(tmp_path / "world") as world:
        intended(world)
        world.now += PROBATION_S
        world.activation.judge(PLUGIN_ID)
        installed = world.ledger.installed(PLUGIN_ID)
        assert installed is not None
        assert installed.floor == "0.1.0"
        assert world.ledger.trial(PLUGIN_ID) is None


class FlipBeforeIntention(Activation):
    """Wrong: what serves is not in the ledger for a moment."""

    def activate(self, generation: Generation, *, probation_s: int, channel: str | None) -> Trial:
        """Flip first."""
        self.tree.flip(generation)
        return super().activate(generation, probation_s=probation_s, channel=channel)


class FlipBackBeforeRejection(Activation):
    """Wrong: a release that was left may be taken again."""

    def turn_back(
        self, leaving: Generation, target: Generation | None, *, kind: str, reason: str
    ) -> None:
        """Flip back first."""
        self._serve(leaving.plugin_id, target, leaving.stem)
        super().turn_back(leaving, target, kind=kind, reason=reason)


class FlipBackBeforeTheSecondPlace(Activation):
    """Wrong: a ledger that is lost after the flip back takes the rejection with it."""

    def turn_back(
        self, leaving: Generation, target: Generation | None, *, kind: str, reason: str
    ) -> None:
        """Write beside the ledger last."""
        back = target.release if target else None
        self.ledger.turn_back(leaving, target=back, reason=reason, at=self.clock())
        self._serve(leaving.plugin_id, target, leaving.stem)
        remember(self.ledger, self.tree, leaving.plugin_id)
        self._record(leaving, kind, reason)


class RecoveryThatDoesNotAsk(Activation):
    """Wrong: an intention is taken for a flip that happened."""

    def recover_one(self, plugin_id: str) -> None:
        trial = self.ledger.trial(plugin_id)
        if trial is not None and trial.previous is None:
            self.commit(trial)
        elif trial is not None:
            self.ledger.projected(plugin_id, trial.release)
            self.ledger.record(Event(self.clock(), plugin_id, "activated", None, None, ""))


class TreeBeforeWord(Activation):
    """Wrong: what a removal that nobody remembers took can't be gone back to."""

    def remove(self, plugin_id: str) -> None:
        """Unflip and remove first."""
        self.tree.unflip(plugin_id)
        self.tree.remove(plugin_id)
        super().remove(plugin_id)


class RowsBeforeTree(Activation):
    """Wrong: what lies in the tree is nobody's."""

    def remove(self, plugin_id: str) -> None:
        """Forget first."""
        self.ledger.forget(plugin_id)
        super().remove(plugin_id)


class TrialEndsBeforeUnflip(Activation):
    """Wrong: what serves is not in the ledger for a moment."""

    def disable(self, plugin_id: str) -> None:
        """End the trial first."""
        self.ledger.abandon_trial(plugin_id)
        super().disable(plugin_id)


class StopBeforeTheSecondPlace(Activation):
    """Wrong: a ledger that is lost right then takes the stop with it."""

    def disable(self, plugin_id: str) -> None:
        """Write beside the ledger last."""
        event = Event(self.clock(), plugin_id, "disabled", None, None, "")
        self.ledger.stop(plugin_id, Stop.DISABLED, event)
        self._finish_stop(plugin_id)
        remember(self.ledger, self.tree, plugin_id)


class ServesBeforeTheSecondPlace(Activation):
    """Wrong: a ledger that is lost right then takes out of service what serves."""

    def enable(self, plugin_id: str) -> None:
        """Write beside the ledger last."""
        good = self.good(plugin_id)
        self.ledger.start(plugin_id, Event(self.clock(), plugin_id, "enabled", None, None, ""))
        self._serve(plugin_id, good, None)
        remember(self.ledger, self.tree, plugin_id)


class RecoveryThatForgetsTheWord(Activation):
    """Wrong: a stop that a crash cut short is taken for a flip that did not happen."""

    def _finish_stop(self, plugin_id: str) -> None:
        """Serve what is good."""
        installed, good = self.ledger.installed(plugin_id), self.good(plugin_id)
        if installed is not None and installed.stop is not None and good is not None:
            self._serve(plugin_id, good, good.stem)


class ProjectionBeforeItIsDue(Activation):
    """Wrong: other hosts may read for ever what does not serve."""

    def activate(self, generation: Generation, *, probation_s: int, channel: str | None) -> Trial:
        """Copy first."""
        self.tree.project(generation)
        return super().activate(generation, probation_s=probation_s, channel=channel)


class StaleCopyTakenForAnUpdate(FlatSets):
    """Wrong: an old copy that lies about brings its release back."""

    def _is_stale(self, live: Generation, identity: Identity) -> bool:
        return identity.release == live.release  # never, where it is asked


def test_a_stale_copy_that_is_taken_for_an_update_is_found(tmp_path: Path) -> None:
    """The fifth wrong order: the check itself goes by what lies in the folder."""

    def adopt(world: World) -> None:
        world.activation.recover()
        world.adopt(kind=StaleCopyTakenForAnUpdate)

    wrong = replace(STALE, act=adopt, recover=adopt)
    with pytest.raises(BrokenError, match=r"0\.1\.0 serves, and not 0\.2\.0"):
        crash_everywhere(tmp_path, wrong)


@pytest.mark.parametrize(
    ("story", "kind", "promise"),
    [
        ("update on trial", FlipBeforeIntention, "serves without an intention"),
        ("a trial ends badly", FlipBackBeforeRejection, "a bad release may be taken again"),
        (
            "a trial ends badly",
            FlipBackBeforeTheSecondPlace,
            "a rejection would be lost with the ledger",
        ),
        ("update on trial", RecoveryThatDoesNotAsk, "a trial is open for what does not serve"),
        ("first install", RecoveryThatDoesNotAsk, "yet it serves"),
        ("a plugin is removed", TreeBeforeWord, "serves and is not whole"),
        ("a plugin is removed", RowsBeforeTree, "serves and is not in the ledger"),
        ("a disabled plugin is removed", RowsBeforeTree, "folders that are nobody's"),
        (
            "a plugin is disabled out of a trial",
            TrialEndsBeforeUnflip,
            "serves without an intention",
        ),
        ("a plugin is disabled", StopBeforeTheSecondPlace, "a stop would be lost"),
        ("a plugin is enabled", ServesBeforeTheSecondPlace, "what serves would not"),
        ("a plugin is disabled", RecoveryThatForgetsTheWord, "disabled, and yet it serves"),
        ("update on trial", ProjectionBeforeItIsDue, "copies are not what serves"),
    ],
    ids=[
        "flip first",
        "flip back first",
        "second place last",
        "trial taken for live",
        "first install not asked for",
        "tree before word",
        "rows before unflip",
        "rows before tree",
        "trial ends first",
        "stop remembered last",
        "start remembered last",
        "stop forgotten",
        "copied before it is due",
    ],
)
def test_a_wrong_order_is_found(
    tmp_path: Path, story: str, kind: type[Activation], promise: str
) -> None:
    """Each of the known wrong orders breaks a promise that the checker watches."""
    told = next(one for one in STORIES if one.name == story)
    with pytest.raises(BrokenError, match=promise):
        crash_everywhere(tmp_path, told, kind)
