"""A crash at every effect of going live and going back, and a second one while recovering.

After any of them a fresh process finishes or undoes what was left. The checker itself is
tested: three orders of effects that are known to be wrong must each fail it.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.activation import Activation
from agent.model import Event, Generation, Trial
from support.agent import (
    PLUGIN_ID,
    STEM,
    Crash,
    Fuse,
    World,
    generation,
    payload_of,
)

PROBATION_S = 600


class BrokenError(AssertionError):
    """What a crash left is not whole."""


def require(holds: bool, promise: str) -> None:  # noqa: FBT001 - reads like assert
    """Say which promise was broken."""
    if not holds:
        raise BrokenError(promise)


@dataclass(frozen=True)
class Story:
    """What happens to a plugin, and the release that must never serve again unasked."""

    name: str
    before: Callable[[World], object]
    act: Callable[[World], object]
    condemned: str | None = None


def _nothing(_world: World) -> None:
    """A machine on which the plugin was never installed."""


def _first(world: World) -> None:
    world.install("0.1.0")


def _two(world: World) -> None:
    world.install("0.1.0")
    world.now += 60
    world.install("0.2.0")


def _trial(world: World) -> None:
    world.install("0.1.0")
    world.now += 60
    world.install("0.2.0", probation_s=PROBATION_S)


def _failing_trial(world: World) -> None:
    _trial(world)
    world.fail_calls("0.2.0", 5)


def _unfinished_first(world: World) -> None:
    """A first install that died between its flip and its commit."""
    new = world.seal("0.1.0")
    trial = Trial(PLUGIN_ID, new.release, None, world.now, world.now)
    world.ledger.intend(new, trial, channel=None)
    world.tree.flip(new)
    world.activation._project(new)


def _judge_when_over(world: World) -> None:
    world.now += PROBATION_S
    world.activation.judge(PLUGIN_ID)


def _turn_back(world: World) -> None:
    world.activation.turn_back(
        generation("0.2.0"), generation("0.1.0"), kind="rollback", reason="by hand"
    )


def _give_up_the_first(world: World) -> None:
    trial = world.ledger.trial(PLUGIN_ID)
    assert trial is not None
    world.activation.fail_trial(trial, reason="it cannot be loaded")


STORIES = (
    Story("first install", _nothing, lambda world: world.install("0.1.0")),
    Story(
        "update on trial",
        _first,
        lambda world: world.install("0.2.0", probation_s=PROBATION_S),
    ),
    Story("update that commits at once", _first, lambda world: world.install("0.2.0")),
    Story("a trial ends well", _trial, _judge_when_over),
    Story(
        "a trial ends badly",
        _failing_trial,
        lambda world: world.activation.judge(PLUGIN_ID),
        condemned="0.2.0",
    ),
    Story("rollback by hand", _two, _turn_back, condemned="0.2.0"),
    Story("rollback by hand out of a trial", _trial, _turn_back, condemned="0.2.0"),
    Story("a first install is given up", _unfinished_first, _give_up_the_first, condemned="0.1.0"),
    Story(
        "another update during a trial",
        _trial,
        lambda world: world.install("0.3.0", probation_s=PROBATION_S),
    ),
    Story(
        "the release before is taken again during a trial",
        _trial,
        lambda world: world.install("0.1.0", probation_s=PROBATION_S),
    ),
)


def is_whole(world: World, release: Generation) -> bool:
    """Whether a generation is sealed, with all its bytes."""
    folder = world.tree.folder(release)
    parts = {
        "wasm": payload_of(release.version),
        "sig": f"signature of {release.version}".encode(),
        "toml": f"manifest of {release.version}".encode(),
    }
    files = {suffix: folder / f"{STEM}.{suffix}" for suffix in parts}
    return (
        folder.is_dir()
        and folder.stat().st_mode & 0o222 == 0
        and all(
            path.is_file() and path.read_bytes() == parts[suffix] for suffix, path in files.items()
        )
    )


def check_at_any_instant(world: World) -> None:
    """What holds even before anyone recovers: what serves is whole, and the ledger knows why."""
    name = world.tree.current(PLUGIN_ID)
    if name is None:
        return
    live = world.activation.live(PLUGIN_ID)
    require(live is not None, f"{name} serves and is not in the ledger")
    assert live is not None
    require(is_whole(world, live), f"{name} serves and is not whole")
    installed = world.ledger.installed(PLUGIN_ID)
    trial = world.ledger.trial(PLUGIN_ID)
    known = {installed.good if installed else None, trial.release if trial else None}
    known |= set(world.ledger.rejections(PLUGIN_ID))
    # A newer intention takes the place of the trial that serves until it is flipped away.
    superseded = trial is not None and trial.release != live.release
    require(live.release in known or superseded, f"{name} serves without an intention")


def check_recovered(world: World, story: Story) -> None:
    """What holds after recovery."""
    check_at_any_instant(world)
    ledger, live = world.ledger, world.activation.live(PLUGIN_ID)
    installed, trial = ledger.installed(PLUGIN_ID), ledger.trial(PLUGIN_ID)
    rejected = ledger.rejections(PLUGIN_ID)
    serving = live.release if live else None
    good = installed.good if installed else None
    require(serving not in rejected, "a rejected release serves")
    require(trial is None or trial.release == serving, "a trial is open for what does not serve")
    require(
        serving == (trial.release if trial else good), "neither a trial nor good, and yet it serves"
    )
    for needed in {good, trial.previous if trial else None} - {None}:
        back = ledger.generation(PLUGIN_ID, str(needed))
        require(back is not None and is_whole(world, back), "there is nothing to go back to")
    if story.condemned is not None:
        bad = generation(story.condemned).release
        require(bad == serving or bad in rejected, "a bad release may be taken again")
    flat = {
        suffix: (world.tree.root / f"{STEM}.{suffix}").read_bytes()
        for suffix in ("wasm", "sig", "toml")
        if (world.tree.root / f"{STEM}.{suffix}").exists()
    }
    if live is None:
        require(not flat, "flat copies of what does not serve")
    else:
        sealed = {
            suffix: (world.tree.folder(live) / f"{STEM}.{suffix}").read_bytes()
            for suffix in ("wasm", "sig", "toml")
        }
        require(flat == sealed, "the flat copies are not what serves")
        require(installed is not None and not installed.projection_due, "still due")


def copy_of(folder: Path, target: Path) -> Path:
    """The disk as the dead process left it."""
    shutil.copytree(folder, target, symlinks=True)
    return target


def recover_and_check(folder: Path, story: Story, kind: type[Activation]) -> None:
    """A fresh process recovers; doing so again changes nothing."""
    with World(folder, kind=kind) as world:
        world.activation.recover()
        check_recovered(world, story)
        once = world.picture()
        world.activation.recover()
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
        died = _dies(again, lambda world: world.activation.recover(), Fuse(second), kind)
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


class RecoveryThatDoesNotAsk(Activation):
    """Wrong: an intention is taken for a flip that happened."""

    def _recover(self, plugin_id: str) -> None:
        trial = self.ledger.trial(plugin_id)
        if trial is not None and trial.previous is None:
            self.commit(trial)
        elif trial is not None:
            self.ledger.projected(plugin_id, trial.release)
            self.ledger.record(Event(self.clock(), plugin_id, "activated", None, None, ""))


@pytest.mark.parametrize(
    ("story", "kind", "promise"),
    [
        ("update on trial", FlipBeforeIntention, "serves without an intention"),
        ("a trial ends badly", FlipBackBeforeRejection, "a bad release may be taken again"),
        ("update on trial", RecoveryThatDoesNotAsk, "a trial is open for what does not serve"),
        ("first install", RecoveryThatDoesNotAsk, "yet it serves"),
    ],
    ids=["flip first", "flip back first", "trial taken for live", "first install not asked for"],
)
def test_a_wrong_order_is_found(
    tmp_path: Path, story: str, kind: type[Activation], promise: str
) -> None:
    """Each of the known wrong orders breaks a promise that the checker watches."""
    told = next(one for one in STORIES if one.name == story)
    with pytest.raises(BrokenError, match=promise):
        crash_everywhere(tmp_path, told, kind)
