"""The one place that changes the disk: atomic writes, renames, fsync and locks.

Every room that writes takes an object of this shape (each defines the small Protocol it
needs); tests replace it to inject faults and crashes at each effect.

Durability follows the usual recipe: temporary name in the same folder, fsync the file,
rename, fsync the folder.
"""

import contextlib
import errno
import fcntl
import io
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from agent.reading import open_regular, require_regular

_LOCK_POLL_S = 0.02


class Files:
    """Durable file operations on the local disk.

    All methods raise ``OSError`` as the system gives it; ``lock`` raises ``TimeoutError``.
    """

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """Create ``path`` and its parents, durably; an existing folder is left as it is."""
        if path.is_dir():
            return
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        for folder in reversed(missing):
            self.sync_folder(folder.parent)

    @contextlib.contextmanager
    def temporary(self, folder: Path, *, mode: int = 0o600) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a new file in ``folder``; removed on exit unless it was published.

        Args:
            folder: An existing folder, on the file system of the final name.
            mode: The permission bits of the new file, exact (the umask is not applied).

        Yields:
            The open binary file and its path.
        """
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
        path = Path(name)
        try:
            with _naming(path), os.fdopen(descriptor, "w+b") as file:
                os.fchmod(descriptor, mode)
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def publish(self, temporary: Path, final: Path) -> None:
        """Make a temporary file durable under its final name, replacing what was there."""
        self.sync_file(temporary)
        self.rename(temporary, final)

    def write_atomic(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Replace ``path`` by ``data`` so that a reader or a crash sees the old or the new."""
        with self.temporary(path.parent, mode=mode) as (file, temporary):
            file.write(data)
            file.flush()
            self.publish(temporary, path)

    def copy_atomic(self, source: Path, path: Path, *, mode: int = 0o644) -> None:
        """Replace ``path`` by a copy of ``source``; a copy, never a link to it."""
        with self.temporary(path.parent, mode=mode) as (file, temporary):
            with open_regular(source) as original:
                shutil.copyfileobj(original, file, 1 << 20)
            file.flush()
            self.publish(temporary, path)

    def append_line(self, path: Path, line: bytes, *, mode: int = 0o600) -> None:
        """Add a line at the end of a file, created where it is missing, and make it durable.

        What could not be written as a whole is taken back if the disk allows; a crash can
        leave a part of the line. There must be one writer at a time.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags | os.O_NONBLOCK, mode)
        try:
            require_regular(descriptor, path)
            before_bytes = os.fstat(descriptor).st_size
            try:
                left = memoryview(line)
                with _naming(path):
                    while left:
                        left = left[os.write(descriptor, left) :]
                self.sync_file(path)
                if not before_bytes:
                    self.sync_folder(path.parent)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before_bytes)
                raise
        finally:
            os.close(descriptor)

    def symlink_atomic(self, target: str, path: Path) -> None:
        """Point the symbolic link ``path`` at ``target`` in one step."""
        temporary = path.parent / f".tmp-{os.getpid()}-{time.monotonic_ns()}"
        temporary.symlink_to(target)
        try:
            self.rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Rename and make it durable."""
        source.rename(target)
        self.sync_folder(target.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename what may be lost in a crash, such as a file of a cache: nothing is flushed."""
        source.rename(target)

    def sync_file(self, path: Path) -> None:
        """Flush a file's bytes to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with _naming(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Flush a folder's entries to the disk."""
        self.sync_file(path)

    def seal_folder(self, path: Path, *, mode: int) -> None:
        """Set a folder's permission bits, and flush them and its entries."""
        path.chmod(mode)
        self.sync_folder(path)

    def remove(self, path: Path) -> None:
        """Remove a file, durably; one that is not there is no error."""
        if os.path.lexists(path):
            path.unlink(missing_ok=True)
            self.sync_folder(path.parent)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all in it; sealed (read-only) folders included.

        Of a link to one only the link goes.
        """
        if path.is_symlink():
            self.remove(path)
        if not path.is_dir():
            return
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)

    @contextlib.contextmanager
    def lock(self, path: Path, *, timeout_s: float) -> Iterator[None]:
        """Hold an exclusive lock between processes for the length of the block.

        The lock is the kernel's (``flock``): it goes when its holder dies.

        Args:
            path: The lock file; created where it is missing, never removed.
            timeout_s: How long to wait for another holder; 0 = do not wait.

        Raises:
            TimeoutError: Another process held the lock all that time.
        """
        deadline_s = time.monotonic() + timeout_s
        descriptor = _open_lock(path)
        try:
            _await_turn(descriptor, path, deadline_s)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def held(
        self, path: Path, *, timeout_s: float, make: bool = True
    ) -> Iterator[io.BufferedRandom]:
        """Open a file to go on with, under an exclusive lock between processes.

        The file itself is locked: whoever held it before may rename or remove it.

        Args:
            path: The file, in a folder of the user's own.
            timeout_s: How long to wait for another holder; 0 = do not wait.
            make: Create it, 0600, where it is missing.

        Raises:
            OSError: What is there is no file of the user's under this name alone.
            TimeoutError: Another process held it all that time.
        """
        deadline_s = time.monotonic() + timeout_s
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            descriptor = os.open(path, flags | (os.O_CREAT if make else 0), 0o600)
            try:
                require_regular(descriptor, path)
            except OSError:
                os.close(descriptor)  # a pipe can't even be made a file object of
                raise
            with os.fdopen(descriptor, "r+b") as file:
                _await_turn(descriptor, path, deadline_s)
                if not _is_at(file, path):
                    continue  # it was removed or renamed since
                found = os.fstat(descriptor)
                if found.st_nlink > 1 or found.st_uid != os.geteuid():
                    raise OSError(errno.EINVAL, "not a file of our own", str(path))
                with _naming(path):
                    yield file
                return

    def share(self, file: BinaryIO, path: Path) -> bool:
        """Put an open file under one more name, durably, replacing what was there.

        One that has a second name already, or that another process is at, is not shared:
        whoever changes it in place would change both.

        Returns:
            Whether it was; a file can't have names on two file systems.
        """
        descriptor = file.fileno()
        temporary = path.parent / f".tmp-{os.getpid()}-{threading.get_ident()}"
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink != 1:
                return False
            # The very file, whatever has its name by now; followed only where a folder is given.
            os.link(f"/proc/self/fd/{descriptor}", temporary.name, dst_dir_fd=folder)
        except OSError:
            return False
        finally:
            os.close(folder)
        try:
            self.publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _await_turn(descriptor: int, path: Path, deadline_s: float) -> None:
    """Lock an open file, or raise ``TimeoutError`` at the deadline."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                message = f"cannot lock {path}: held by another process"
                raise TimeoutError(message) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _open_lock(path: Path) -> int:
    """Open a lock file; where the disk is read only, one that is there already will do."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # Not at once: over NFS only who may write gets an exclusive lock.
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise error from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file a fault of the disk is about: a write and a flush do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
