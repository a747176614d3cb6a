"""What happens to a plugin, and what must hold after something died in the middle of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.context import Context, Options
from agent.model import Generation, Stop, Trial
from agent.tree.pruning import prune
from agent.tree.remembering import recall, remembering
from support.agent import PLUGIN_ID, STEM, World, generation, payload_of

PROBATION_S = 600
SIGNED_ANEW = " by another key"


class BrokenError(AssertionError):
    """What a crash left is not whole."""


def require(holds: bool, promise: str) -> None:  # noqa: FBT001 - reads like assert
    """Say which promise was broken."""
    if not holds:
        raise BrokenError(promise)


@dataclass(frozen=True)
class Story:
    """What happens to a plugin.

    Attributes:
        condemned: The version that must never serve again unasked.
        ends: What else holds after recovery: it was done, or it was not, and nothing between.
        recover: What a fresh process does first.
        serves: The version that must serve in the end; None = whichever.
    """

    name: str
    before: Callable[[World], object]
    act: Callable[[World], object]
    condemned: str | None = None
    ends: Callable[[World], None] | None = None
    recover: Callable[[World], object] = lambda world: world.activation.recover()
    serves: str | None = None


def _nothing(_world: World) -> None:
    """A machine on which the plugin was never installed."""


def _first(world: World) -> None:
    world.install("0.1.0")


def _two(world: World) -> None:
    world.install("0.1.0")
    world.now += 60
    world.install("0.2.0")


def _three(world: World) -> None:
    _two(world)
    world.now += 60
    world.install("0.3.0")


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


def intended(world: World) -> None:
    """An update that died between its intention and its flip."""
    world.install("0.1.0")
    world.now += 60
    new = world.seal("0.2.0")
    previous = generation("0.1.0").release
    ends_at = world.now + PROBATION_S
    trial = Trial(PLUGIN_ID, new.release, previous, world.now, ends_at)
    world.ledger.intend(new, trial, channel=None)


def _judge_when_over(world: World) -> None:
    world.now += PROBATION_S
    world.activation.judge(PLUGIN_ID)


def _turn_back(world: World) -> None:
    world.activation.turn_back(
        generation("0.2.0"), generation("0.1.0"), kind="rollback", reason="by hand"
    )


def _left(world: World) -> None:
    _two(world)
    _turn_back(world)


def _give_up_the_first(world: World) -> None:
    trial = world.ledger.trial(PLUGIN_ID)
    assert trial is not None
    world.activation.fail_trial(trial, reason="it cannot be loaded")


def _pruned(world: World) -> None:
    """As the verb does it, with one release kept."""
    context = Context(
        Options(home=world.root), environ={"STACK_COMPOSER_UPDATE__KEEP": "1"}, clock=lambda: 0
    )
    context._ledger, context.tree = world.ledger, world.tree
    prune(context, PLUGIN_ID)


def _pruned_and_taken_again(world: World) -> None:
    _pruned(world)
    world.install("0.1.0", probation_s=PROBATION_S)


def _disabled(world: World) -> None:
    _two(world)
    world.activation.disable(PLUGIN_ID)


def _ends_disabled_or_as_it_was(world: World) -> None:
    installed = world.ledger.installed(PLUGIN_ID)
    require(installed is not None and installed.good is not None, "enable brings nothing back")
    require(not world.ledger.rejections(PLUGIN_ID), "a stop is taken for a verdict")


def _ends_removed_or_as_it_was(world: World) -> None:
    versions = {g.version for g in world.ledger.generations(PLUGIN_ID)}
    home = world.tree.root / ".store" / PLUGIN_ID
    installed = world.ledger.installed(PLUGIN_ID)
    require(installed is not None and installed.floor is not None, "the floor is lost")
    assert installed is not None
    require(installed.stop is not Stop.REMOVING, "a removal is half done")
    require(world.ledger.decisions(PLUGIN_ID).get("network") is False, "a denial is gone")
    if versions:
        require("0.1.0" in versions, "a release went before the others")
        require(installed.good is not None, "good is gone, and its release is not")
        return
    folders = [path for path in home.iterdir() if path.is_dir()] if home.exists() else []
    require(not folders, "folders that are nobody's")
    require(installed.good is None and installed.channel is None, "half forgotten")
    require(world.ledger.hold_of(PLUGIN_ID) is None, "a hold outlives the plugin")
    require(world.ledger.decisions(PLUGIN_ID) == {"network": False}, "a denial does not outlive it")


def _decided(before: Callable[[World], object]) -> Callable[[World], object]:
    """With a hold, a grant and a denial."""

    def decide(world: World) -> None:
        before(world)
        world.ledger.hold(PLUGIN_ID, until=None, at=world.now)
        world.ledger.decide(PLUGIN_ID, "fs_read", granted=True, at=world.now)
        world.ledger.decide(PLUGIN_ID, "network", granted=False, at=world.now)

    return decide


def _hold_deny_and_grant(world: World) -> None:
    """As the verbs do it, one after the other."""
    with remembering(world.ledger, world.tree, PLUGIN_ID):
        world.ledger.hold(PLUGIN_ID, until=None, at=world.now)
    for word, granted in (("network", False), ("fs_read", True), ("network", True)):
        with remembering(world.ledger, world.tree, PLUGIN_ID):
            world.ledger.decide(PLUGIN_ID, word, granted=granted, at=world.now)
    with remembering(world.ledger, world.tree, PLUGIN_ID):
        world.ledger.unhold(PLUGIN_ID)


def _remove(world: World) -> None:
    world.activation.remove(PLUGIN_ID)


def _remove_and_take_again(world: World) -> None:
    world.activation.remove(PLUGIN_ID)
    world.install("0.3.0", probation_s=PROBATION_S)


def _first_put(world: World) -> None:
    world.put("0.1.0")


def _newer_put(world: World) -> None:
    world.install("0.1.0")
    world.now += 60
    world.put("0.2.0")


def _stale_put(world: World) -> None:
    _two(world)
    world.put("0.1.0")


def _signature_put(world: World) -> None:
    _first(world)
    world.put("0.1.0", signed=SIGNED_ANEW, parts="sig")


def _look_again(world: World) -> None:
    """As verbs that change something do."""
    world.activation.recover()
    world.adopt(probation_s=PROBATION_S)


def _adopt(world: World) -> None:
    world.adopt(probation_s=PROBATION_S)


STALE = Story("a stale copy is refreshed", _stale_put, _adopt, recover=_look_again, serves="0.2.0")
STORIES = (
    Story("a drop-in is a first install", _first_put, _adopt, recover=_look_again, serves="0.1.0"),
    Story("a drop-in is an update", _newer_put, _adopt, recover=_look_again, serves="0.2.0"),
    STALE,
    Story(
        "a release is signed anew",
        _first,
        lambda world: world.renew("0.1.0", f"0.1.0{SIGNED_ANEW}"),
        serves="0.1.0",
    ),
    Story(
        "a release is signed anew by hand",
        _signature_put,
        _adopt,
        recover=_look_again,
        serves="0.1.0",
    ),
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
    Story(
        "a rejected release is taken again by name",
        _left,
        lambda world: world.install("0.2.0", probation_s=PROBATION_S),
        condemned="0.2.0",
    ),
    Story(
        "a plugin is disabled",
        _two,
        lambda world: world.activation.disable(PLUGIN_ID),
        ends=_ends_disabled_or_as_it_was,
    ),
    Story(
        "a plugin is disabled out of a trial",
        _trial,
        lambda world: world.activation.disable(PLUGIN_ID),
        ends=_ends_disabled_or_as_it_was,
    ),
    Story(
        "a plugin is disabled after an update that never went live",
        intended,
        lambda world: world.activation.disable(PLUGIN_ID),
        ends=_ends_disabled_or_as_it_was,
    ),
    Story(
        "a plugin is enabled",
        _disabled,
        lambda world: world.activation.enable(PLUGIN_ID),
        ends=_ends_disabled_or_as_it_was,
    ),
    Story("a plugin is removed", _decided(_two), _remove, ends=_ends_removed_or_as_it_was),
    Story(
        "a plugin is removed out of a trial",
        _decided(_trial),
        _remove,
        ends=_ends_removed_or_as_it_was,
    ),
    Story(
        "a disabled plugin is removed",
        _decided(_disabled),
        _remove,
        ends=_ends_removed_or_as_it_was,
    ),
    Story("it is held, denied and granted things", _two, _hold_deny_and_grant, serves="0.2.0"),
    Story("a removed plugin is taken again", _two, _remove_and_take_again),
    Story("old releases are pruned", _three, _pruned),
    Story("a pruned release is taken again", _three, _pruned_and_taken_again),
)


def is_whole(world: World, release: Generation, *, is_sealed: bool = True) -> bool:
    """Whether a generation has all its bytes, and is sealed."""
    folder = world.tree.folder(release)
    signature = f"signature of {release.version}".encode()
    parts = {
        "wasm": payload_of(release.version),
        "sig": signature,
        "toml": f"manifest of {release.version}".encode(),
    }
    files = {suffix: folder / f"{STEM}.{suffix}" for suffix in parts}
    return (
        folder.is_dir()
        and (folder.stat().st_mode & 0o222 == 0 or not is_sealed)
        and all(path.is_file() for path in files.values())
        and all(
            path.read_bytes().removesuffix(SIGNED_ANEW.encode()) == parts[suffix]
            for suffix, path in files.items()
        )
    )


def check_at_any_instant(world: World) -> None:
    """What holds even before anyone recovers: what serves is whole, and the ledger knows why."""
    name = world.tree.current(PLUGIN_ID)
    check_stop_in_second_place(world, name)
    if name is None:
        return
    live = world.activation.live(PLUGIN_ID)
    require(live is not None, f"{name} serves and is not in the ledger")
    assert live is not None
    check_second_place(world, live)
    # A folder is open for as long as a file in it is replaced.
    require(is_whole(world, live, is_sealed=False), f"{name} serves and is not whole")
    installed = world.ledger.installed(PLUGIN_ID)
    trial = world.ledger.trial(PLUGIN_ID)
    known = {installed.good if installed else None, trial.release if trial else None}
    known |= set(world.ledger.rejections(PLUGIN_ID))
    # A newer intention takes the place of the trial that serves until it is flipped away.
    superseded = trial is not None and trial.release != live.release
    require(live.release in known or superseded, f"{name} serves without an intention")


def check_second_place(world: World, live: Generation) -> None:
    """A ledger that were lost right now would bring no rejected release back."""
    memory = recall(world.tree, PLUGIN_ID)
    known = {rejection.release for rejection in memory.rejected} if memory else set()
    left = set(world.ledger.rejections(PLUGIN_ID)) - {live.release}
    require(left <= known, "a rejection would be lost with the ledger")


def check_stop_in_second_place(world: World, current: str | None) -> None:
    """Nor would it bring back what was stopped, once that is gone; or keep back what serves."""
    memory, installed = recall(world.tree, PLUGIN_ID), world.ledger.installed(PLUGIN_ID)
    remembered, stop = memory.stop if memory else None, installed.stop if installed else None
    require(current is not None or stop is None or bool(remembered), "a stop would be lost")
    require(current is None or stop is not None or not remembered, "what serves would not")


def check_recovered(world: World, story: Story) -> None:
    """What holds after recovery."""
    check_at_any_instant(world)
    memory = world.ledger.memory(PLUGIN_ID)
    require(recall(world.tree, PLUGIN_ID) == memory, "the second place is not up to date")
    ledger, live = world.ledger, world.activation.live(PLUGIN_ID)
    installed, trial = ledger.installed(PLUGIN_ID), ledger.trial(PLUGIN_ID)
    rejected = ledger.rejections(PLUGIN_ID)
    serving = live.release if live else None
    good = installed.good if installed else None
    stop = installed.stop if installed else None
    require(live is None or is_whole(world, live), "what serves is not sealed")
    version = live.version if live else None
    require(story.serves in (None, version), f"{version} serves, and not {story.serves}")
    require(serving not in rejected, "a rejected release serves")
    require(trial is None or trial.release == serving, "a trial is open for what does not serve")
    if stop is None:
        require(
            serving == (trial.release if trial else good),
            "neither a trial nor good, and yet it serves",
        )
    else:
        require(serving is None and trial is None, f"{stop.value}, and yet it serves")
    for needed in {good, trial.previous if trial else None} - {None}:
        back = ledger.generation(PLUGIN_ID, str(needed))
        require(back is not None and is_whole(world, back), "there is nothing to go back to")
    if story.condemned is not None:
        bad = generation(story.condemned).release
        require(bad == serving or bad in rejected, "a bad release may be taken again")
    if story.ends is not None:
        story.ends(world)
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
