"""The socket's file: made whole under another name, then put in its place.

Nobody can connect before it listens, and it listens with its final owner and mode; so no moment
is open to others, and the process's umask, which all threads share, is left alone.
"""

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.control.address import is_short, require_safe_folder
from agent.errors import BusyError, ConfigError
from agent.files import Files

_BACKLOG = 128
_PROBE_S = 5.0


@dataclass(slots=True)
class Bound:
    """A listening socket and its file.

    Attributes:
        listener: Whoever serves closes it.
        path: Where it lies.
    """

    listener: socket.socket
    path: Path
    _file: tuple[int, int]

    def remove(self) -> None:
        """Remove the file, if it is still ours: another service may have put its own there."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return
        if (status.st_dev, status.st_ino) == self._file:
            self.path.unlink(missing_ok=True)
            if is_short(self.path):
                with contextlib.suppress(OSError):  # somebody is there again
                    self.path.parent.rmdir()


def bind(path: Path, *, group: int | None, files: Files) -> Bound:
    """Listen at a path; what a dead service left there is replaced.

    Args:
        path: See ``agent.control.address.socket_path``.
        group: The group that may connect; None = only the user.
        files: Makes the folder.

    Raises:
        BusyError: A service answers there.
        ConfigError: The place or the group can't be used.
        OSError: It can't be made.
    """
    files.make_folder(path.parent, mode=0o700)
    require_safe_folder(path)
    if group is not None:
        _let_through(path.parent)
    _require_dead(path)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # one who died here
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(fresh))
        _give(fresh, group)
        status = fresh.lstat()
        listener.listen(_BACKLOG)
        listener.settimeout(0)
        files.rename(fresh, path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return Bound(listener, path, (status.st_dev, status.st_ino))


def is_answered(path: Path) -> bool:
    """Whether some process listens at a path.

    Raises:
        OSError: That can't be said.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except BlockingIOError:
            return True  # its queue is full
        return True


def _require_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            f"cannot listen at {path}: there is something else, expected nothing or a socket",
            hint=f"look at it, and remove it: ls -l {path}",
        )
    if is_answered(path):
        raise BusyError(
            f"cannot listen at {path}: another service answers there", hint="agent status"
        )


def _let_through(folder: Path) -> None:
    """Let a group go through a folder of ours; what is in it is seen by us alone, as before."""
    status = folder.stat()
    if status.st_uid == os.geteuid():
        folder.chmod(stat.S_IMODE(status.st_mode) | 0o011)


def _give(path: Path, group: int | None) -> None:
    """Let the group connect, or nobody else."""
    try:
        if group is not None:
            os.chown(path, -1, group)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        raise ConfigError(
            f"cannot give the socket {path} to the group {group}: the service is not in it",
            hint="usermod --append --groups adds its user to the group",
        ) from error
    path.chmod(0o600 if group is None else 0o660)
