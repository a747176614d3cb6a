"""The flat sets: which are ours, which are stale, which somebody put there."""

from pathlib import Path

import pytest

from agent.tree.flat import FlatSets, Identity, Standing
from agent.tree.flat_files import flat_set, flat_sets
from agent.tree.flat_model import FlatSet
from support.agent import PLUGIN_ID, STEM, World, generation

PARTS = frozenset({"wasm", "sig", "toml"})


def unread(_flat: FlatSet) -> Identity | None:
    """Nothing may be read."""
    raise AssertionError


@pytest.fixture
def world(tmp_path: Path) -> World:
    """0.1.0 was left for 0.2.0, which serves."""
    world = World(tmp_path / "world")
    world.install("0.1.0")
    world.install("0.2.0")
    return world


def test_what_we_wrote_is_known_without_reading_it(world: World) -> None:
    """An ordinary look is a listing and stats: no file is read, nothing is examined."""
    with world:
        assert FlatSets(world.activation, unread).changed() == ()


def test_what_was_only_touched_is_ours(world: World) -> None:
    """Other times, same bytes: noted, not written again, and not looked at any more."""
    with world:
        path = world.tree.root / f"{STEM}.toml"
        path.touch()
        inode = path.stat().st_ino
        flats = FlatSets(world.activation, unread)
        assert [flat.stem for flat in flats.changed()] == [STEM]
        assert flats.examine(STEM) is None
        assert (flats.changed(), path.stat().st_ino) == ((), inode)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_any_file_that_is_another_is_seen(world: World, part: str) -> None:
    """Size and bytes may be the same: times and inode are not."""
    with world:
        path = world.tree.root / f"{STEM}.{part}"
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        assert len(FlatSets(world.activation, unread).changed()) == 1


def test_copies_that_are_due_are_refreshed_and_never_looked_at(world: World) -> None:
    """Whatever lies there: a crash may have left it."""
    with world:
        world.put("0.3.0")
        world.ledger.project_again(PLUGIN_ID)
        assert FlatSets(world.activation, unread).examine(STEM) is None
        assert (world.tree.root / f"{STEM}.toml").read_bytes() == b"manifest of 0.2.0"


def test_an_old_release_is_stale_and_a_new_one_is_not(world: World) -> None:
    """The one served once; the other is sealed, by a run that died, and was never live."""
    with world:
        flats = FlatSets(world.activation, world._identify)
        for version, standing in {
            "0.1.0": Standing.STALE,
            "0.2.0": Standing.OURS,
            "0.3.0": Standing.FOREIGN,
        }.items():
            world.seal(version)
            world.put(version)
            assert flats.standing(flat_set(world.tree.root, STEM))[0] is standing


def test_what_was_rejected_and_pruned_is_no_stale_copy(world: World) -> None:
    """The store does not hold it any more: the rules must be asked."""
    with world:
        world.ledger.forget_generation(PLUGIN_ID, generation("0.1.0").release)
        world.put("0.1.0")
        flats = FlatSets(world.activation, world._identify)
        assert flats.standing(flat_set(world.tree.root, STEM))[0] is Standing.FOREIGN


def test_a_link_is_no_part_of_a_set(tmp_path: Path) -> None:
    """Nor is a folder, a hidden file or another suffix."""
    (tmp_path / "real.wasm").write_bytes(b"")
    (tmp_path / "real.toml").symlink_to("real.wasm")
    (tmp_path / "real.sig").mkdir()
    (tmp_path / ".real.sig").write_bytes(b"")
    (tmp_path / "real.txt").write_bytes(b"")
    (tmp_path / "a..b.wasm").write_bytes(b"")
    found = flat_sets(tmp_path)
    assert {stem: flat.parts for stem, flat in found.items()} == {"real": frozenset({"wasm"})}
    assert found["real"] == flat_set(tmp_path, "real")


def test_a_folder_that_is_not_there_has_no_sets(tmp_path: Path) -> None:
    """Before the first install."""
    assert flat_sets(tmp_path / "none") == {}


def test_stray_files_are_nobodys_business(world: World) -> None:
    """A module alone, a TOML file alone: no set that anybody could mean."""
    with world:
        (world.tree.root / "lonely.wasm").write_bytes(b"")
        (world.tree.root / "notes.toml").write_bytes(b"")
        assert FlatSets(world.activation, unread).changed() == ()
