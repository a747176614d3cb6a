"""The plugin tree: sealed generations, the one link that moves, the flat copies."""

import os
import stat
from pathlib import Path

import pytest

from agent.errors import AgentError, BusyError
from agent.files import Files
from agent.model import Generation, PluginSet
from agent.tree.generations import Tree
from support.agent import PLUGIN_ID, STEM, generation, payload_of, plugin_set

OLD = generation("0.1.0")
NEW = generation("0.2.0")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty tree."""
    return Tree(tmp_path / "plugins", Files())


def sealed(tree: Tree, one: Generation) -> Path:
    """A generation of the usual bytes, sealed."""
    return tree.seal(one, plugin_set(tree.root.parent, one.version))


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_sealed_generation_is_read_only(tree: Tree) -> None:
    """Every file is there, nothing in it may be changed, and nothing serves yet."""
    folder = sealed(tree, NEW)
    assert folder == tree.root / ".store" / PLUGIN_ID / f"0.2.0-{NEW.release[:12]}"
    assert names(folder) == ["README.md", f"{STEM}.sig", f"{STEM}.toml", f"{STEM}.wasm"]
    assert (folder / f"{STEM}.wasm").read_bytes() == payload_of("0.2.0")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o555
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
    assert names(folder.parent) == [folder.name]
    assert tree.current(PLUGIN_ID) is None
    assert tree.plugin_ids() == ()


def test_seal_and_unseal_are_idempotent(tree: Tree) -> None:
    """Do, do again, undo, undo again."""
    first = sealed(tree, NEW)
    inode = first.stat().st_ino
    assert sealed(tree, NEW).stat().st_ino == inode
    tree.unseal(NEW)
    tree.unseal(NEW)
    assert not first.exists()
    assert sealed(tree, NEW).is_dir()


@pytest.mark.parametrize("harm", ["other bytes", "a file too few", "a file too many"])
def test_what_is_broken_is_sealed_anew(tree: Tree, harm: str) -> None:
    """A folder of the right name that does not hold the right bytes is replaced."""
    folder = sealed(tree, NEW)
    folder.chmod(0o755)
    if harm == "other bytes":
        (folder / f"{STEM}.wasm").chmod(0o644)
        (folder / f"{STEM}.wasm").write_bytes(payload_of("6.6.6"))
    elif harm == "a file too few":
        (folder / f"{STEM}.sig").unlink()
    else:
        (folder / "more").touch()
    sealed(tree, NEW)
    assert (folder / f"{STEM}.wasm").read_bytes() == payload_of("0.2.0")
    assert len(names(folder)) == 4


def test_staging_starts_anew(tree: Tree) -> None:
    """What a crash left of a staging folder does not get into the generation."""
    torn = tree.root / ".store" / PLUGIN_ID / f".staging-{NEW.folder_name}"
    torn.mkdir(parents=True)
    (torn / "left.wasm").touch()
    assert "left.wasm" not in names(sealed(tree, NEW))
    assert not torn.exists()


def test_a_set_may_lack_signature_and_readme(tree: Tree) -> None:
    """What is not there is not made up."""
    usual = plugin_set(tree.root.parent)
    bare = PluginSet(STEM, usual.payload, signature=None, manifest=b"m")
    assert names(tree.seal(OLD, bare)) == [f"{STEM}.toml", f"{STEM}.wasm"]
    tree.flip(OLD)
    tree.project(OLD)
    assert names(tree.root) == [".store", f"{STEM}.toml", f"{STEM}.wasm"]


def test_what_serves_is_neither_sealed_over_nor_unsealed(tree: Tree) -> None:
    """The bytes below a running host do not move."""
    folder = sealed(tree, OLD)
    tree.flip(OLD)
    inode = folder.stat().st_ino
    assert tree.seal(OLD, plugin_set(tree.root.parent, "6.6.6")) == folder
    tree.unseal(OLD)
    assert folder.stat().st_ino == inode
    assert (folder / f"{STEM}.wasm").read_bytes() == payload_of("0.1.0")


def test_a_flip_moves_one_link(tree: Tree) -> None:
    """Flip, flip again, take it back, take it back again."""
    for one in (OLD, NEW):
        sealed(tree, one)
    tree.flip(OLD)
    assert tree.current(PLUGIN_ID) == OLD.folder_name
    for _ in range(2):
        tree.flip(NEW)
        assert tree.current(PLUGIN_ID) == NEW.folder_name
    assert tree.plugin_ids() == (PLUGIN_ID,)
    link = tree.root / ".store" / PLUGIN_ID / "current"
    assert str(link.readlink()) == NEW.folder_name
    for _ in range(2):
        tree.unflip(PLUGIN_ID)
        assert tree.current(PLUGIN_ID) is None


class Watched(Files):
    """Notes the order in which flat files change."""

    def __init__(self) -> None:
        self.changed: list[str] = []

    def rename(self, source: Path, target: Path) -> None:
        """A file takes its place."""
        super().rename(source, target)
        self.changed.append(target.name)

    def remove(self, path: Path) -> None:
        """A file goes."""
        super().remove(path)
        self.changed.append(path.name)


def test_the_manifest_is_projected_last_and_removed_first(tmp_path: Path) -> None:
    """Whoever watches for manifests wakes on a whole set, and never on half of one."""
    files = Watched()
    tree = Tree(tmp_path / "plugins", files)
    sealed(tree, NEW)
    files.changed.clear()
    tree.project(NEW)
    assert files.changed == [f"{STEM}.wasm", f"{STEM}.sig", f"{STEM}.toml"]
    flat = tree.root / f"{STEM}.wasm"
    assert flat.read_bytes() == payload_of("0.2.0")
    assert not flat.is_symlink()
    assert flat.stat().st_nlink == 1
    assert stat.S_IMODE(flat.stat().st_mode) == 0o644
    assert [path.name for path in tree.flat_files(STEM)] == files.changed
    assert all(path.is_file() for path in tree.flat_files(STEM))
    files.changed.clear()
    tree.unproject(STEM)
    assert files.changed == [f"{STEM}.toml", f"{STEM}.sig", f"{STEM}.wasm"]
    tree.unproject(STEM)
    assert names(tree.root) == [".store"]


def test_pruning_keeps_what_serves(tree: Tree) -> None:
    """What serves and what is to be kept stay; torn staging and stray files go; links do not."""
    third = generation("0.3.0")
    for one in (OLD, NEW, third):
        sealed(tree, one)
    tree.flip(NEW)
    home = tree.root / ".store" / PLUGIN_ID
    (home / ".staging-x").mkdir()
    (home / ".tmp-1").touch()
    (home / "away").symlink_to(tree.root)
    gone = tree.prune(PLUGIN_ID, frozenset({third.folder_name}))
    assert gone == (".staging-x", ".tmp-1", OLD.folder_name)
    assert names(home) == sorted([NEW.folder_name, third.folder_name, "away", "current"])
    assert tree.prune(PLUGIN_ID, frozenset({third.folder_name})) == ()
    assert tree.root.is_dir()


def test_pruning_nothing(tree: Tree) -> None:
    """A plugin that was never there has nothing to prune."""
    assert tree.prune(PLUGIN_ID, frozenset()) == ()


@pytest.mark.parametrize("target", ["/etc", "../other/0.1.0-a", ".", "current", "0.1.0/x", "a b"])
def test_a_current_that_points_elsewhere_is_none(tree: Tree, target: str) -> None:
    """A link that the agent cannot have made is not followed."""
    sealed(tree, OLD)
    (tree.root / ".store" / PLUGIN_ID / "current").symlink_to(target)
    assert tree.current(PLUGIN_ID) is None
    assert tree.plugin_ids() == ()


@pytest.mark.parametrize("kind", ["file", "folder", "home is a file"])
def test_a_current_that_is_no_link_is_none(tree: Tree, kind: str) -> None:
    """One strange entry in the store does not keep the other plugins away."""
    sealed(tree, OLD)
    tree.flip(OLD)
    home = tree.root / ".store" / "org.example.strange"
    if kind == "home is a file":
        home.touch()
    else:
        home.mkdir()
        (home / "current").mkdir() if kind == "folder" else (home / "current").touch()
    assert tree.current("org.example.strange") is None
    assert tree.plugin_ids() == (PLUGIN_ID,)


@pytest.mark.parametrize("name", ["..", "a/b", "/etc", "", "A", "a..b", "a\n", "a" * 129, ".store"])
def test_a_hostile_id_builds_no_path(tree: Tree, name: str) -> None:
    """An id from outside never becomes a path that it should not."""
    with pytest.raises(AgentError, match="cannot build a path from"):
        tree.current(name)
    with pytest.raises(AgentError, match="cannot build a path from"):
        tree.prune(name, frozenset())


@pytest.mark.parametrize("name", ["..", "a", "/0", "0/..", "", "0\n", "current"])
def test_a_hostile_folder_name_builds_no_path(tree: Tree, name: str) -> None:
    """Nor does the name of a generation."""
    with pytest.raises(AgentError, match="cannot build a path from"):
        tree.named(PLUGIN_ID, name)


@pytest.mark.parametrize("stem", ["..", "a/b", ".hidden", "", "a" * 65, "a\n", "a..b"])
def test_a_hostile_stem_builds_no_path(tree: Tree, stem: str) -> None:
    """Nor does a stem, in any of the places that use one."""
    bad = PluginSet(stem, plugin_set(tree.root.parent).payload, None, b"m")
    one = generation(stem=stem)
    for use in (
        lambda: tree.flat_files(stem),
        lambda: tree.seal(OLD, bad),
        lambda: tree.project(one),
        lambda: tree.unproject(stem),
    ):
        with pytest.raises(AgentError, match="cannot build a path from"):
            use()


def test_the_lock_says_who_is_busy(tree: Tree) -> None:
    """Held by someone else: an error with the folder, the time and what to do."""
    with (
        tree.lock(timeout_s=1),
        pytest.raises(BusyError, match=f"cannot change {tree.root}: .* more than 0 s") as caught,
        tree.lock(timeout_s=0),
    ):
        raise AssertionError
    assert caught.value.exit_code == 11
    with tree.lock(timeout_s=0):
        pass


def test_a_time_out_under_the_lock_is_not_a_busy_lock(tree: Tree) -> None:
    """What times out inside stays what it is."""
    with pytest.raises(TimeoutError, match="the registry"), tree.lock(timeout_s=1):
        raise TimeoutError("the registry")


def test_a_store_that_cannot_be_read_is_an_error(tree: Tree) -> None:
    """A fault of the disk is not taken for "nothing serves"."""
    home = tree.root / ".store" / PLUGIN_ID
    home.parent.mkdir(parents=True)
    home.symlink_to(home)
    with pytest.raises(OSError, match="symbolic links"):
        tree.current(PLUGIN_ID)


def test_a_tree_that_is_not_there_holds_nothing(tree: Tree) -> None:
    """Reading creates nothing."""
    assert tree.plugin_ids() == ()
    assert tree.current(PLUGIN_ID) is None
    assert not tree.root.exists()


def test_what_does_not_serve_is_removed_whole(tree: Tree) -> None:
    """Every generation and what a crash left; its memory and other plugins stay; twice is fine."""
    other = generation("0.1.0", plugin_id="org.example.other", stem="other")
    for one in (OLD, NEW):
        sealed(tree, one)
    tree.seal(other, plugin_set(tree.root.parent, "0.1.0", stem="other"))
    (tree.root / ".store" / PLUGIN_ID / ".staging-left").mkdir()
    tree.write_memory(PLUGIN_ID, b"{}")
    tree.remove(PLUGIN_ID)
    tree.remove(PLUGIN_ID)
    assert names(tree.root / ".store" / PLUGIN_ID) == [".memory"]
    assert tree.folder(other).is_dir()


def test_the_stem_of_what_serves_is_read_from_its_folder(tree: Tree) -> None:
    """Whatever the ledger knows; none where nothing serves or the folder is gone."""
    assert tree.current_stems(PLUGIN_ID) == ()
    folder = sealed(tree, OLD)
    tree.flip(OLD)
    assert tree.current_stems(PLUGIN_ID) == (STEM,)
    folder.chmod(0o755)
    (folder / "-rf.toml").touch()
    assert tree.current_stems(PLUGIN_ID) == (STEM,)
    Files().remove_tree(folder)
    assert tree.current_stems(PLUGIN_ID) == ()


def test_whole_copies_are_left_alone(tree: Tree) -> None:
    """Nobody's watcher wakes for nothing; whatever else lies there is replaced by a copy."""
    sealed(tree, OLD)
    tree.flip(OLD)
    tree.project(OLD)
    flat = tree.flat_files(STEM)
    before = [file.stat().st_ino for file in flat]
    tree.project(OLD)
    assert [file.stat().st_ino for file in flat] == before


@pytest.mark.parametrize("harm", ["other bytes", "cut short", "a link", "a hard link", "a mode"])
def test_a_copy_that_is_not_whole_is_made_again(tree: Tree, harm: str) -> None:
    """Same size and time or not; and nothing that a ``cp`` onto it would write through."""
    folder = sealed(tree, OLD)
    tree.flip(OLD)
    tree.project(OLD)
    flat, held = tree.root / f"{STEM}.wasm", folder / f"{STEM}.wasm"
    times = flat.stat().st_atime_ns, flat.stat().st_mtime_ns
    good = flat.read_bytes()
    if harm == "other bytes":
        flat.write_bytes(bytes(len(good)))
        os.utime(flat, ns=times)
    elif harm == "cut short":
        flat.write_bytes(good[:-1])
    elif harm == "a link":
        flat.unlink()
        flat.symlink_to(held)
    elif harm == "a hard link":
        os.link(flat, tree.root / "other")
    else:
        flat.chmod(0o600)
    tree.project(OLD)
    assert flat.read_bytes() == good
    info = flat.lstat()
    assert (stat.S_ISREG(info.st_mode), stat.S_IMODE(info.st_mode)) == (True, 0o644)
    assert info.st_nlink == 1
