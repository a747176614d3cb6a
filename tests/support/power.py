"""A disk that forgets what was never flushed; the test chooses what a power cut leaves.

Names, bytes and modes are kept only from the flush of the folder or file that holds them. A
change of names in one folder is atomic (a rename is one change), and unflushed changes survive
in any selection: so renames are lost, and come to the disk in another order.
"""

import os
import random
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from agent.tree.generations import Tree
from support.agent import DyingFiles, Fuse, World

TREE = "plugins"


@dataclass(eq=False, slots=True)
class Node:
    """One file, folder or link: what is on the disk of it, and what a process sees.

    Attributes:
        keeper: Another name of the file or link, outside of the tree; None for a folder.
        flushed: The bytes that were flushed; None while none were.
        mode: The permission bits on the disk; those it was made with, or last flushed.
        mode_seen: The permission bits as a process sees them.
        entries: A folder's names on the disk.
        seen: A folder's names as a process sees them.
        pending: Changes of names that were not flushed, in order; None = removed.
    """

    kind: int
    keeper: Path | None
    mode: int
    mode_seen: int
    flushed: bytes | None = None
    entries: dict[str, "Node"] = field(default_factory=dict)
    seen: dict[str, "Node"] = field(default_factory=dict)
    pending: list[dict[str, "Node | None"]] = field(default_factory=list)


class Loss:
    """What a power cut takes of all that was not flushed.

    Args:
        names: The share of changed names that survive.
        whole: The share of unflushed files that survive.
        modes: The share of changed permission bits that survive.
        seed: Which ones.
    """

    def __init__(self, names: float, whole: float, modes: float, seed: int = 0) -> None:
        self._names = names
        self._whole = whole
        self._modes = modes
        self._rng = random.Random(seed)  # noqa: S311 - a reproducible choice, no secret

    def keeps_name(self) -> bool:
        """Whether a change of a name survives."""
        return self._rng.random() < self._names

    def keeps_mode(self) -> bool:
        """Whether a change of permission bits survives."""
        return self._rng.random() < self._modes

    def left_of(self, data: bytes) -> bytes:
        """What survives of bytes that were not flushed: all, none, or a beginning."""
        if self._rng.random() < self._whole:
            return data
        return data[: int(self._whole > 0 and self._rng.randrange(len(data) + 1))]


class Disk:
    """What would be there after a power cut, for a plugin tree that a process works on.

    Args:
        root: The folder that holds the tree; what is there already is on the disk.
        aside: A folder beside it, on the same file system, for what was unlinked.
    """

    def __init__(self, root: Path, aside: Path) -> None:
        self._root = root
        self._aside = aside
        self._nodes: dict[int, Node] = {}
        self._folders: list[int] = []
        self._is_cut = False

    def __enter__(self) -> Self:
        self._aside.mkdir()
        self._top = self._meet(str(self._root), self._root.stat())
        self.observe()
        for node in self._nodes.values():
            self._flush(node)
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._folders:
            os.close(descriptor)

    def observe(self) -> None:
        """Note what a process changed since the last look."""
        if not self._is_cut:
            self._look(self._top, str(self._root))

    def flush(self, path: Path) -> None:
        """The bytes of a file, or the names of a folder, are on the disk now."""
        self.observe()
        if not self._is_cut:
            self._flush(self._nodes[path.stat().st_ino])

    def cut(self) -> None:
        """The power is gone: nothing that happens from now on counts."""
        self.observe()
        self._is_cut = True

    def leave(self, target: Path, loss: Loss) -> Path:
        """Write down what the power cut leaves; the ledger keeps every transaction."""
        target.mkdir()
        self._write(self._top, target, loss)
        for file in self._root.glob("state.db*"):
            shutil.copy(file, target / file.name)
        return target

    def _meet(self, path: str, info: os.stat_result) -> Node:
        node = self._nodes.get(info.st_ino)
        if node is None:
            kind, mode, keeper = stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), None
            # An open folder, and another name, keep the inode's number from being used again.
            if kind == stat.S_IFDIR:
                self._folders.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            else:
                keeper = self._aside / str(info.st_ino)
                os.link(path, keeper, follow_symlinks=False)
            node = self._nodes[info.st_ino] = Node(kind, keeper, mode, mode)
        node.mode_seen = stat.S_IMODE(info.st_mode)
        return node

    def _look(self, node: Node, path: str) -> None:
        # Strings, and one call for each name: there are a hundred thousand looks.
        with os.scandir(path) as listed:
            there = {e.name: e for e in listed if node is not self._top or e.name == TREE}
        found = {
            name: self._meet(there[name].path, there[name].stat(follow_symlinks=False))
            for name in sorted(there)
        }
        if found != node.seen:
            self._note(node, found)
        for name, child in found.items():
            if child.kind == stat.S_IFDIR:
                self._look(child, there[name].path)

    @staticmethod
    def _note(node: Node, found: dict[str, Node]) -> None:
        """What changed of a folder's names."""
        gone = {name: old for name, old in node.seen.items() if name not in found}
        for name, new in found.items():
            if node.seen.get(name) is new:
                continue
            change: dict[str, Node | None] = {name: new}
            for before in [before for before, old in gone.items() if old is new]:
                change[before] = None
                del gone[before]
            node.pending.append(change)
        node.pending += [{name: None} for name in gone]
        node.seen = found

    @staticmethod
    def _flush(node: Node) -> None:
        node.mode = node.mode_seen
        if node.kind == stat.S_IFREG and node.keeper is not None:
            node.flushed = node.keeper.read_bytes()
        node.entries, node.pending = dict(node.seen), []

    def _write(self, node: Node, target: Path, loss: Loss) -> None:
        entries = dict(node.entries)
        for change in node.pending:
            if loss.keeps_name():
                entries = {n: c for n, c in (entries | change).items() if c is not None}
        for name, child in entries.items():
            path = target / name
            if child.keeper is None:
                path.mkdir()
                self._write(child, path, loss)
            elif child.kind == stat.S_IFLNK:
                path.symlink_to(child.keeper.readlink())
                continue
            elif child.flushed is not None:
                path.write_bytes(child.flushed)
            else:
                path.write_bytes(loss.left_of(child.keeper.read_bytes()))
            path.chmod(child.mode_seen if loss.keeps_mode() else child.mode)


class WatchedFuse(Fuse):
    """A fuse that lets the disk look before each effect, and cuts the power when it burns down.

    Args:
        disk: The disk.
        effects_left: See ``Fuse``.
    """

    def __init__(self, disk: Disk, effects_left: int | None = None) -> None:
        super().__init__(effects_left)
        self.disk = disk

    def burn(self) -> None:
        """Look, then see ``Fuse``."""
        if self._left is not None and self.burnt >= self._left:
            self.disk.cut()
        self.disk.observe()
        super().burn()


class LosingFiles(DyingFiles):
    """The real effects, with each flush an effect of its own.

    Args:
        fuse: When the power goes.
    """

    def __init__(self, fuse: WatchedFuse) -> None:
        super().__init__(fuse)
        self._disk = fuse.disk

    def sync_file(self, path: Path) -> None:
        """An effect: the disk has it now."""
        self._fuse.burn()
        self._disk.flush(path)


@dataclass
class LosingWorld(World):
    """An installation whose disk forgets.

    Args:
        files: What it writes with.
    """

    files: type[LosingFiles] = LosingFiles

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.fuse, WatchedFuse)
        self.tree = Tree(self.root / TREE, self.files(self.fuse))
        self.activation = self.kind(self.ledger, self.tree, lambda: self.now)
