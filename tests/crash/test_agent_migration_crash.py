"""A crash at every effect of bringing an old ledger up to date, and at each of the next try."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import database
from agent.ledger.ledger import Ledger
from agent.ledger.migrations import MIGRATIONS
from support.agent import PLUGIN_ID, World, generation
from support.crash import STORIES, check_recovered
from support.ledgers import raw, write_version_1, write_version_2

VERSIONS = (write_version_1, write_version_2)
_STORY = next(story for story in STORIES if story.name == "first install")


class WatchedLedger(Ledger):
    """Keeps a picture of the disk before each of its effects: what a process that dies leaves.

    The write-ahead log and its index are part of it, with what was never committed.
    """

    def __init__(self, path: Path, pictures: Path) -> None:
        self._pictures = pictures
        self.taken = 0
        super().__init__(path)

    def _run(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        if not statement.lstrip().startswith("SELECT"):
            self.take()
        return super()._run(statement, values)

    def take(self) -> None:
        """Copy all that lies there now."""
        shutil.copytree(
            self._path.parent.parent, self._pictures / f"{self.taken:03}", symlinks=True
        )
        self.taken += 1


def pictures_of(root: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Bring the ledger under ``root`` up to date; the disk before and after each effect."""
    ledgers: list[WatchedLedger] = []
    back_up = database._back_up

    def watched_back_up(path: Path, copy: Path) -> None:
        copy.touch()  # as a crash of the copying leaves it
        ledgers[0].take()
        back_up(path, copy)
        ledgers[0].take()

    class Registered(WatchedLedger):
        def take(self) -> None:
            if not ledgers:
                ledgers.append(self)
            super().take()

    pictures.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("agent.ledger.database._back_up", watched_back_up)
        ledger = Registered(root / "state" / "state.db", pictures)
        ledger.take()
        ledger.close()
    return sorted(pictures.iterdir())


def old_host(root: Path, write: Callable[[Path], None]) -> Path:
    """A host on which 0.1.0 serves, with the ledger of an earlier agent, and no second place."""
    with World(root / "world") as world:
        world.install("0.1.0")
    host = root / "host"
    (host / "state").mkdir(parents=True)
    shutil.copytree(root / "world" / "plugins", host / "plugins", symlinks=True)
    (host / "plugins" / ".store" / PLUGIN_ID / ".memory").unlink()
    write(host / "state" / "state.db")
    return host


def check_left(root: Path, version: int) -> None:
    """The schema is the old one or the new one; a backup is empty, or the old ledger whole."""
    backup = root / "state" / f"state.db.backup-v{version}"
    if backup.exists() and backup.stat().st_size:
        with raw(backup) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (version,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("SELECT version FROM rejected").fetchall() == [("0.2.0",)]
    with raw(root / "state" / "state.db") as db:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        assert found in (version, len(MIGRATIONS))
        assert found == version or backup.stat().st_size
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master").fetchall()}
        assert ("memories" in tables) == (found == len(MIGRATIONS))


def check_opened(root: Path) -> None:
    """Whoever opens it next has all that it held, and recovers as ever."""
    world_root = root / "again"
    world_root.mkdir()
    shutil.move(root / "plugins", world_root / "plugins")
    for path in (root / "state").glob("state.db*"):
        shutil.move(path, world_root / path.name)
    with World(world_root) as world:
        # A tree from before has no second place; that comes with the recovery.
        assert world.activation.live(PLUGIN_ID) is not None
        world.activation.recover()
        check_recovered(world, _STORY)
        once = world.picture()
        world.activation.recover()
        assert world.picture() == once
        live = world.activation.live(PLUGIN_ID)
        assert live is not None
        assert live.release == generation("0.1.0").release
        assert {one.version for one in world.ledger.rejections(PLUGIN_ID).values()} == {"0.2.0"}
        assert world.ledger.decisions(PLUGIN_ID) == {"network": True}


@pytest.mark.parametrize("version", [1, 2])
def test_a_migration_that_dies_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """The old ledger or the new one, and never a half; the same after a second crash."""
    host = old_host(tmp_path, VERSIONS[version - 1])
    firsts = pictures_of(host, tmp_path / "first", monkeypatch)
    assert len(firsts) > 30
    seen = set()
    for number, left in enumerate(firsts):
        copy = tmp_path / f"look-{number}"
        shutil.copytree(left, copy, symlinks=True)
        check_left(copy, version)
        with raw(copy / "state" / "state.db") as db:
            backup = copy / "state" / f"state.db.backup-v{version}"
            size = backup.stat().st_size if backup.exists() else None
            kind = (tuple(db.iterdump()), size)
        if kind not in seen:
            seen.add(kind)
            begun = tmp_path / f"begun-{number}"
            shutil.copytree(left, begun, symlinks=True)
            for second in pictures_of(begun, tmp_path / f"second-{number}", monkeypatch):
                again = tmp_path / f"again-{number}-{second.name}"
                shutil.copytree(second, again, symlinks=True)
                check_left(second, version)
                check_opened(again)
        check_opened(left)
    # Before the backup, with an empty one, with a whole one, and done.
    assert len(seen) >= 3
