"""The plugin tree: sealed generations, the ``current`` links, the flat copies.

The only writer of the tree (architecture.md, "On disk")::

    plugins/.store/ID/current -> 0.2.0-3fa9c1d2e4b5     the one thing that moves
    plugins/.store/ID/0.2.0-3fa9c1d2e4b5/STEM.{wasm,sig,toml}, README.md    sealed, read only
    plugins/.store/ID/.memory                           what outlives a lost ledger
    plugins/.store/.owner                               which ledger knows this tree
    plugins/STEM.{wasm,sig,toml}                        copies, for other hosts

Our hosts read the store only. The flat files are copies and not links, because a ``cp`` onto a
link would rewrite the sealed file behind it.
"""

import contextlib
import errno
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from agent.errors import BusyError
from agent.files import Files
from agent.model import Generation, PluginSet
from agent.reading import is_no_file, read_start
from agent.tree.flat_files import STEM, same_bytes
from agent.tree.flat_model import FLAT_PARTS
from agent.tree.reader import CURRENT, LOCK, MEMORY, OWNER, STORE, TreeReader, checked

_SEALED_FILE = 0o444
_FLAT_FILE = 0o644
_SEALED_FOLDER = 0o555
_OPEN_FOLDER = 0o755


class Tree(TreeReader):
    """The plugin folder of one user (or of the system).

    All methods may raise ``OSError``.

    Args:
        root: The folder; created on the first write.
        files: Performs every change.
        guard: Asked under the lock before anything changes; raises where it must not.
    """

    def __init__(self, root: Path, files: Files, guard: Callable[[], None] | None = None) -> None:
        super().__init__(root)
        self._files = files
        self._guard = guard

    @contextlib.contextmanager
    def lock(self, *, timeout_s: float, guarded: bool = True) -> Iterator[None]:
        """Hold the tree's state lock: from stage to the end of activate.

        Args:
            timeout_s: How long to wait for another holder.
            guarded: Ask the guard; not for who mends what it would refuse.

        Raises:
            BusyError: Another process held it all that time.
            AgentError: The guard said no.
        """
        store = self.root / STORE
        self._files.make_folder(store)
        with contextlib.ExitStack() as held:
            # Only the wait for the lock says "busy", not a time-out of what is done under it.
            try:
                held.enter_context(self._files.lock(store / LOCK, timeout_s=timeout_s))
            except TimeoutError as error:
                raise BusyError(
                    f"cannot change {self.root}: another agent is at it for more than "
                    f"{timeout_s:g} s",
                    hint="try again when it has ended",
                ) from error
            if guarded and self._guard is not None:
                self._guard()
            yield

    def write_memory(self, plugin_id: str, data: bytes) -> None:
        """Remember something of a plugin beside the ledger."""
        home = self._own(self._home(plugin_id))
        self._files.make_folder(home)
        self._files.write_atomic(home / MEMORY, data)

    def write_owner(self, data: bytes) -> None:
        """Say which ledger knows this tree."""
        self._files.write_atomic(self.root / STORE / OWNER, data)

    def seal(self, generation: Generation, plugin: PluginSet) -> Path:
        """Stage the files of a release and seal them under their final name.

        A folder of this name is replaced unless it serves (then it is this very release), or
        holds the same bytes already: it may be what a rollback goes back to.

        Returns:
            The sealed folder.
        """
        final = self.folder(generation)
        self._own(final.parent)
        if self.current(generation.plugin_id) == final.name:
            return final
        stem = checked(STEM, plugin.stem)
        small = {
            f"{stem}.sig": plugin.signature,
            f"{stem}.toml": plugin.manifest,
            "README.md": plugin.readme,
        }
        held = {name: data for name, data in small.items() if data is not None}
        if not final.is_symlink() and _holds(final, f"{stem}.wasm", plugin.payload, held):
            # A removal that a crash cut short may have opened it.
            self._close(final)
            return final
        staging = final.parent / f".staging-{final.name}"
        self._files.make_folder(final.parent)
        self._files.remove_tree(staging)
        self._files.make_folder(staging)
        self._files.copy_atomic(plugin.payload, staging / f"{stem}.wasm", mode=_SEALED_FILE)
        for name, data in held.items():
            self._files.write_atomic(staging / name, data, mode=_SEALED_FILE)
        self._files.remove_tree(final)
        self._files.seal_folder(staging, mode=_SEALED_FOLDER)
        self._files.rename(staging, final)
        return final

    def differing(self, generation: Generation, plugin: PluginSet) -> tuple[str, ...]:
        """The names of a sealed release's files that are not those of a set; README aside."""
        folder, stem = self.folder(generation), checked(STEM, generation.stem)
        code, manifest, signature = f"{stem}.wasm", f"{stem}.toml", f"{stem}.sig"
        whole = {
            code: same_bytes(plugin.payload, folder / code),
            manifest: _has_bytes(folder / manifest, plugin.manifest),
            signature: _has_bytes(folder / signature, plugin.signature),
        }
        return tuple(name for name, is_whole in whole.items() if not is_whole)

    def reseal(self, generation: Generation, plugin: PluginSet) -> None:
        """Replace, one by one and by rename, the files of a sealed release that differ.

        For the same release only: its signature was made anew, or its bytes were broken.

        Args:
            generation: The release.
            plugin: Its files, verified; the payload may be the sealed one.
        """
        folder, differing = self._own_folder(generation), self.differing(generation, plugin)
        if differing:
            self._files.make_folder(folder)
            self._files.seal_folder(folder, mode=_OPEN_FOLDER)
        for name in differing:
            if name.endswith(".wasm"):
                self._files.copy_atomic(plugin.payload, folder / name, mode=_SEALED_FILE)
            else:
                data = plugin.signature if name.endswith(".sig") else plugin.manifest
                self._files.write_atomic(folder / name, data or b"", mode=_SEALED_FILE)
        self.close(generation)

    def close(self, generation: Generation) -> None:
        """Seal the folder of a release again; a crash while it was mended may have left it open."""
        folder = self._own_folder(generation)
        if folder.is_dir():
            self._close(folder)

    def _close(self, folder: Path) -> None:
        if stat.S_IMODE(folder.stat().st_mode) != _SEALED_FOLDER:
            self._files.seal_folder(folder, mode=_SEALED_FOLDER)

    def unseal(self, generation: Generation) -> None:
        """Remove a generation that does not serve; the undo of ``seal``."""
        if self.current(generation.plugin_id) != generation.folder_name:
            self._own(self._home(generation.plugin_id))
            self._files.remove_tree(self.folder(generation))

    def flip(self, generation: Generation) -> None:
        """Make a sealed generation the one that serves, in one step."""
        folder = self._own_folder(generation)
        self._files.symlink_atomic(folder.name, folder.with_name(CURRENT))

    def unflip(self, plugin_id: str) -> None:
        """No generation serves any more: a first install is taken back."""
        if not self.is_away(plugin_id):
            self._files.remove(self._home(plugin_id) / CURRENT)

    def project(self, generation: Generation) -> None:
        """Refresh the flat copies: payload, signature, then the manifest that watchers read.

        A copy that is whole is left as it is, so that nobody's watcher wakes for nothing.
        """
        source = self.folder(generation)
        stem = checked(STEM, generation.stem)
        self.close(generation)
        copied = False
        for suffix in FLAT_PARTS:
            sealed = source / f"{stem}.{suffix}"
            flat = self.root / sealed.name
            if sealed.exists() and not _is_copy(flat, sealed):
                self._files.copy_atomic(sealed, flat, mode=_FLAT_FILE)
                copied = True
        if not copied:
            # Whoever made them may have died before their names were on the disk.
            self._files.sync_folder(self.root)

    def unproject(self, stem: str, parts: Collection[str] = FLAT_PARTS) -> None:
        """Remove the flat copies, or these of them, the manifest first."""
        for path in reversed(self.flat_files(stem)):
            if path.suffix[1:] in parts:
                self._files.remove(path)

    def prune(self, plugin_id: str, keep: frozenset[str]) -> tuple[str, ...]:
        """Remove what is not kept, torn staging folders too; never what serves.

        Args:
            plugin_id: The plugin.
            keep: Folder names.

        Returns:
            The names that were removed.
        """
        gone = self.beside(plugin_id, keep)
        for name in gone:
            path = self._home(plugin_id) / name
            if path.is_dir() and not path.is_symlink():
                self._files.remove_tree(path)
            else:
                self._files.remove(path)
        return gone

    def remove(self, plugin_id: str) -> None:
        """Remove the generations of a plugin that does not serve, durably; its memory stays."""
        home = self._home(plugin_id)
        if home.is_dir() and not self.is_away(plugin_id):
            self.prune(plugin_id, frozenset())
            self._files.sync_folder(home)

    def _own_folder(self, generation: Generation) -> Path:
        """Where a generation lies; no link on the way there."""
        self._own(self._home(generation.plugin_id))
        return self._own(self.folder(generation))

    def _own(self, path: Path) -> Path:
        """A folder of the tree's that may be written.

        Raises:
            OSError: A link lies there: what it leads to is not the tree's.
        """
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, expected a folder", str(path))
        return path


def _is_copy(flat: Path, sealed: Path) -> bool:
    """Whether a flat file is what ``project`` would make: no link of any kind, the same bytes."""
    try:
        info = flat.lstat()
    except FileNotFoundError:
        return False
    is_ours = stat.S_ISREG(info.st_mode) and stat.S_IMODE(info.st_mode) == _FLAT_FILE
    return is_ours and info.st_nlink == 1 and same_bytes(flat, sealed)


def _holds(folder: Path, payload_name: str, payload: Path, small: Mapping[str, bytes]) -> bool:
    """Whether a folder holds exactly these files."""
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} != {payload_name, *small}:
        return False
    return same_bytes(folder / payload_name, payload) and all(
        _has_bytes(folder / name, data) for name, data in small.items()
    )


def _has_bytes(path: Path, data: bytes | None) -> bool:
    try:
        return read_start(path, len(data or b"") + 1) == data
    except OSError as error:
        if is_no_file(error):
            return False
        raise
