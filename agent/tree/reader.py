"""Where everything in a plugin tree lies, and what serves; no change is made here.

See ``agent.tree.generations`` for how the tree looks.
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from agent.errors import UsageError
from agent.model import Generation
from agent.reading import is_no_file, read_start
from agent.tree.flat_files import STEM, same_bytes
from agent.tree.flat_model import FLAT_PARTS
from sandbox.grammar import PLUGIN_ID

STORE = ".store"
CURRENT = "current"
MEMORY = ".memory"
OWNER = ".owner"
LOCK = ".lock"
TEMPORARY = ".tmp-"
_MAX_NOTE_BYTES = 1 << 20
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")
_FOLDER = re.compile(r"[0-9][0-9A-Za-z.+-]{0,140}")


class TreeReader:
    """The plugin folder of one user (or of the system), as it lies there.

    What is a link in the store, but ``current``, is not the tree's: it is never followed.

    All methods may raise ``OSError``.

    Args:
        root: The folder, whether it is there or not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store = root / STORE
        self._links: dict[str, Path] = {}

    def current(self, plugin_id: str) -> str | None:
        """The folder name of the generation that serves; None where there is none."""
        link = self._link(plugin_id)
        try:
            name = os.readlink(link)  # noqa: PTH115 - a host looks here before every call
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
                raise
            return None
        # What is no link, or points elsewhere, was made by nobody we know: treat it as absent.
        if _FOLDER.fullmatch(name) is None or _is_linked(link.parent, name):
            return None
        return name

    def folder(self, generation: Generation) -> Path:
        """Where a generation lies, whether it is there or not."""
        return self.named(generation.plugin_id, generation.folder_name)

    def named(self, plugin_id: str, folder_name: str) -> Path:
        """Where the generation of this folder name lies, whether it is there or not."""
        return self._home(plugin_id) / checked(_FOLDER, folder_name)

    def current_stems(self, plugin_id: str) -> tuple[str, ...]:
        """The stem of what serves, as its folder has it, whatever the ledger knows."""
        name = self.current(plugin_id)
        if name is None:
            return ()
        found = sorted(path.stem for path in self.named(plugin_id, name).glob("*.toml"))
        return tuple(stem for stem in found if STEM.fullmatch(stem))

    def sealed_at(self, plugin_id: str) -> int | None:
        """What changes whenever a file of what serves is replaced; None where nothing serves."""
        name = self.current(plugin_id)
        try:
            return None if name is None else self.named(plugin_id, name).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def plugin_ids(self) -> tuple[str, ...]:
        """The plugins that have a generation serving, sorted."""
        return tuple(name for name in self.homes() if self.current(name) is not None)

    def serving_stem(self, stem: str) -> str | None:
        """The plugin whose generation that serves has this stem."""
        name = f"{checked(STEM, stem)}.toml"
        for plugin_id in self.plugin_ids():
            if (self._home(plugin_id) / CURRENT / name).is_file():
                return plugin_id
        return None

    def homes(self) -> tuple[str, ...]:
        """The plugins that have a folder, whether anything serves or not; sorted."""
        return tuple(path.name for path in self._in_store() if _is_home(path))

    def foreign(self) -> tuple[Path, ...]:
        """What lies in the store and is not the tree's: never followed, changed or removed."""
        mine = {LOCK, OWNER}
        others = [
            path
            for path in self._in_store()
            if not (path.name in mine or path.name.startswith(TEMPORARY) or _is_home(path))
        ]
        inside = (self._home(name) / one for name in self.homes() for one in self._linked(name))
        return (*others, *inside)

    def in_the_way(self) -> tuple[Path, ...]:
        """Folders that lie where the tree's own files should: nothing can be changed."""
        store = self.root / STORE
        return tuple(path for path in (store / LOCK, store / OWNER) if path.is_dir())

    def is_away(self, plugin_id: str) -> bool:
        """Whether a link lies where a plugin's folder should: nothing serves from there."""
        return self._home(plugin_id).is_symlink()

    def entries(self, plugin_id: str) -> tuple[str, ...]:
        """All names in a plugin's folder, sorted: generations, and whatever else lies there."""
        home = self._home(plugin_id)
        is_there = home.is_dir() and not home.is_symlink()
        return tuple(sorted(entry.name for entry in home.iterdir())) if is_there else ()

    def generations(self, plugin_id: str) -> tuple[str, ...]:
        """The names of a plugin's sealed folders, sorted."""
        home = self._home(plugin_id)
        return tuple(
            name
            for name in self.entries(plugin_id)
            if _FOLDER.fullmatch(name) and (home / name).is_dir() and not (home / name).is_symlink()
        )

    def beside(self, plugin_id: str, keep: frozenset[str]) -> tuple[str, ...]:
        """The names in a plugin's folder that are neither kept, nor serve, nor are its notes.

        Links that somebody laid there are not the tree's either.
        """
        kept = keep | {self.current(plugin_id), CURRENT, MEMORY, *self._linked(plugin_id)}
        return tuple(name for name in self.entries(plugin_id) if name not in kept)

    def read_memory(self, plugin_id: str) -> bytes | None:
        """What is remembered of a plugin beside the ledger; None where nothing is."""
        return None if self.is_away(plugin_id) else _read_note(self._home(plugin_id) / MEMORY)

    def inode(self) -> int:
        """Which folder this is, whatever path leads there; 0 where there is none yet."""
        try:
            return self._store.stat().st_ino
        except FileNotFoundError:
            return 0

    def read_owner(self) -> bytes | None:
        """Which ledger knows this tree; None where nobody has said."""
        return _read_note(self._store / OWNER)

    def flat_files(self, stem: str) -> tuple[Path, ...]:
        """Where the flat copies lie, whether they are there or not."""
        return tuple(self.root / f"{checked(STEM, stem)}.{end}" for end in FLAT_PARTS)

    def is_copied(self, generation: Generation, parts: Iterable[str]) -> bool:
        """Whether these flat files hold the sealed bytes of a generation."""
        sealed, stem = self.folder(generation), checked(STEM, generation.stem)
        names = [f"{stem}.{part}" for part in parts]
        return all(same_bytes(self.root / name, sealed / name) for name in names)

    def copied(self, plugin_id: str, stem: str) -> frozenset[str]:
        """The parts of a flat set that hold the bytes of any sealed release of a plugin."""
        sealed = [self.named(plugin_id, name) for name in self.generations(plugin_id)]
        return frozenset(
            path.suffix[1:]
            for path in self.flat_files(stem)
            if any(same_bytes(path, folder / path.name) for folder in sealed)
        )

    def _link(self, plugin_id: str) -> Path:
        """Where ``current`` lies; kept, because a host looks there before every call."""
        link = self._links.get(plugin_id)
        if link is None:
            link = self._links[plugin_id] = self._home(plugin_id) / CURRENT
        return link

    def _home(self, plugin_id: str) -> Path:
        return self._store / checked(_ID, plugin_id)

    def _in_store(self) -> tuple[Path, ...]:
        return tuple(sorted(self._store.iterdir())) if self._store.is_dir() else ()

    def _linked(self, plugin_id: str) -> tuple[str, ...]:
        """The links in a plugin's folder that no run of ours made."""
        home = self._home(plugin_id)
        return tuple(
            name
            for name in self.entries(plugin_id)
            if name != CURRENT and not name.startswith(TEMPORARY) and (home / name).is_symlink()
        )


def _is_home(path: Path) -> bool:
    """Whether it is a folder, and called as a plugin may be (contract §2)."""
    is_named = _ID.fullmatch(path.name) and PLUGIN_ID.fullmatch(path.name)
    return bool(is_named) and path.is_dir() and not path.is_symlink()


def _is_linked(home: Path, name: str) -> bool:
    """Whether a release, or the plugin's folder that it lies in, is a link to somewhere else."""
    return os.path.islink(f"{home}/{name}") or os.path.islink(home)  # noqa: PTH114 - as above


def _read_note(path: Path) -> bytes | None:
    """Read a small file; None where there is none, or no regular one, or a longer one."""
    try:
        data = read_start(path, _MAX_NOTE_BYTES + 1, follow=False)
    except OSError as error:
        if is_no_file(error):
            return None
        raise
    return data if len(data) <= _MAX_NOTE_BYTES else None


def checked(grammar: re.Pattern[str], name: str) -> str:
    """A name of which a path may be built.

    Raises:
        UsageError: It does not match its grammar.
    """
    if grammar.fullmatch(name) is None or ".." in name:
        raise UsageError(
            f"cannot build a path from {name!r}: expected a plugin's id, version or stem",
            hint="agent list",
        )
    return name
