"""Where the service listens, and who may have put it there."""

import hashlib
import os
import stat
from pathlib import Path

from agent.errors import ConfigError

_LONGEST_BYTES = 96
"""Of a socket's path: the system's bound is 103 (macOS) or 107, and one is made under a name
that is longer by a few."""
_SHORT = "/tmp"  # noqa: S108 - a folder of our own in it, whose owner is checked


def socket_path(configured: Path) -> Path:
    """Where the socket lies: as configured, or where that is too long, under a short name.

    Args:
        configured: ``Places.socket``.
    """
    data = os.fsencode(configured)
    if len(data) <= _LONGEST_BYTES:
        return configured
    digest = hashlib.sha256(data).hexdigest()[:16]
    return Path(_SHORT, f"stack-composer-{digest}", configured.name)


def is_short(path: Path) -> bool:
    """Whether a socket lies under a short name, in a folder that is there for it alone."""
    return path.parent.parent == Path(_SHORT)


def require_safe_folder(path: Path) -> None:
    """Stop where somebody else could take the place of the socket.

    Raises:
        ConfigError: Its folder belongs to others, or they may write to it.
        OSError: It can't be looked at.
    """
    status = path.parent.lstat()
    is_ours = status.st_uid in (0, os.geteuid())
    if stat.S_ISDIR(status.st_mode) and is_ours and not status.st_mode & 0o022:
        return
    raise ConfigError(
        f"cannot use the socket {path}: its folder is no folder, not yours, or others may write "
        f"to it (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o})",
        hint=f"chmod 700 {path.parent}, as the user of the service",
    )
