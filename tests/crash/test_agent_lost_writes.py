"""A power cut at every effect: what was not flushed is lost, or comes to the disk out of order.

The same stories as for a process that dies, over a disk that keeps only what was flushed. The
checker itself is tested: without any one of the flushes it must fail.
"""

from pathlib import Path

import pytest

from support.agent import PLUGIN_ID, Crash, World
from support.crash import (
    STORIES,
    BrokenError,
    Story,
    check_at_any_instant,
    check_recovered,
    copy_of,
    is_whole,
    require,
)
from support.power import Disk, LosingFiles, LosingWorld, Loss, WatchedFuse

# Told hundreds of times over: counting lines, which others count too, would take as long again.
pytestmark = pytest.mark.no_cover


def losses(seed: int) -> dict[str, Loss]:
    """What a power cut may take: all, the bytes only, or a selection."""
    return {
        "all": Loss(names=0, whole=0, modes=0),
        "bytes": Loss(names=1, whole=0, modes=1),
        "some": Loss(names=0.5, whole=0.5, modes=0.5, seed=seed),
    }


def cut_everywhere(tmp_path: Path, story: Story, files: type[LosingFiles] = LosingFiles) -> int:
    """Cut the power before each effect, and before each effect of recovering from that.

    Returns:
        How many histories were told.
    """
    start = tmp_path / "start"
    with World(start) as world:
        story.before(world)
        now = max([world.now, *(event.at for event in world.ledger.history(PLUGIN_ID))])
    told, first, seen, mended, is_cut = 0, 0, set[str](), set[str](), True
    while is_cut:
        left = copy_of(start, tmp_path / f"{first}")
        with Disk(left, tmp_path / f"{first}-aside") as disk:
            with LosingWorld(left, WatchedFuse(disk, first), now=now, files=files) as world:
                try:
                    story.act(world)
                    is_cut = False
                except Crash:
                    pass
                disk.cut()
                served = world.tree.current(PLUGIN_ID)
            for name, loss in losses(first).items():
                image = disk.leave(tmp_path / f"{first}-{name}", loss)
                with World(image) as world:
                    picture = repr(world.picture())
                    # What was done and reported is there, whatever was lost of other things.
                    kept = is_cut or world.tree.current(PLUGIN_ID) == served
                    require(kept, "what was done is undone")
                if picture in seen:
                    continue
                seen.add(picture)
                told += 1 + _cut_recovery_everywhere(image, story, files, mended)
        first += 1
    return told


def _cut_recovery_everywhere(
    image: Path, story: Story, files: type[LosingFiles], mended: set[str]
) -> int:
    """Cut the power before each effect of recovering; ``mended`` are what was recovered from."""
    with World(image) as world:
        check_at_any_instant(world)
    second, is_cut = 0, True
    while is_cut:
        again = copy_of(image, image.with_name(f"{image.name}-{second}"))
        with Disk(again, image.with_name(f"{again.name}-aside")) as disk:
            with LosingWorld(again, WatchedFuse(disk, second), files=files) as world:
                try:
                    story.recover(world)
                    is_cut = False
                except Crash:
                    pass
                disk.cut()
            last = disk.leave(image.with_name(f"{again.name}-last"), Loss(0, 0, 0))
        with World(last) as world:
            picture = repr(world.picture())
            if is_cut and picture in mended:
                second += 1
                continue
            mended.add(picture)
            check_at_any_instant(world)
            story.recover(world)
            check_recovered(world, story)
            if not is_cut:
                _check_that_life_goes_on(world)
        second += 1
    return second


def _check_that_life_goes_on(world: World) -> None:
    """Whatever was left beside what serves is in nobody's way."""
    for version in ("0.1.0", "0.2.0"):
        world.now += 60
        new = world.install(version)
        require(is_whole(world, new), f"{version} can't be taken any more")
        check_at_any_instant(world)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_whatever_is_lost_when_the_power_fails_it_is_whole_again(
    tmp_path: Path, story: Story
) -> None:
    """A power cut before each effect and each flush, and during recovery: it ends whole."""
    assert cut_everywhere(tmp_path, story) >= 2


class NoFlushOfFiles(LosingFiles):
    """Wrong: a file gets its final name before its bytes are on the disk."""

    def publish(self, temporary: Path, final: Path) -> None:
        """Rename only."""
        self.rename(temporary, final)


class NoFlushAfterRename(LosingFiles):
    """Wrong: a new name may be forgotten, with what was done since then kept."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename only."""
        self._fuse.burn()
        source.rename(target)


class NoFlushOfTheSeal(LosingFiles):
    """Wrong: a sealed folder may turn out to be empty, or open to writers."""

    def seal_folder(self, path: Path, *, mode: int) -> None:
        """Set the mode only."""
        self._fuse.burn()
        path.chmod(mode)


class NoFlushOfNewFolders(LosingFiles):
    """Wrong: a folder may be forgotten, with all that is in it."""

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """Create it only."""
        self._fuse.burn()
        path.mkdir(mode=mode, parents=True, exist_ok=True)


class NoFlushOfRemovals(LosingFiles):
    """Wrong: what was removed may come back."""

    def remove(self, path: Path) -> None:
        """Remove it only."""
        self._fuse.burn()
        path.unlink(missing_ok=True)


class NoFlushOfTheHome(LosingFiles):
    """Wrong: a release whose row is forgotten may come back."""

    def sync_folder(self, path: Path) -> None:
        """Flush any other."""
        if path.name != PLUGIN_ID:
            super().sync_folder(path)


@pytest.mark.parametrize(
    ("story", "files"),
    [
        ("update that commits at once", NoFlushOfFiles),
        ("update that commits at once", NoFlushAfterRename),
        ("first install", NoFlushOfTheSeal),
        ("first install", NoFlushOfNewFolders),
        ("a first install is given up", NoFlushOfRemovals),
        ("a plugin is disabled", NoFlushOfRemovals),
        ("a plugin is removed", NoFlushOfTheHome),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_missing_flush_is_found(tmp_path: Path, story: str, files: type[LosingFiles]) -> None:
    """Each of the flushes is needed: without it a power cut breaks a promise."""
    told = next(one for one in STORIES if one.name == story)
    with pytest.raises(BrokenError):
        cut_everywhere(tmp_path, told, files)
