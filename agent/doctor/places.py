"""Folders: whose they are, who may write there, how much room is left."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.context import Context
from agent.doctor.finding import Finding

_LEAST_FREE_BYTES = 100 << 20
_LEAST_FREE_FILES = 1000
_LONGEST_SOCKET_BYTES = 107
_OTHERS = 0o077
_WRITABLE_BY_OTHERS = 0o022


def check_folders(context: Context) -> Iterator[Finding]:
    """Whether each folder is the user's own, and nobody else writes there."""
    places = context.places
    found = [
        *_check_folder(context, "state", places.state, forbidden=_OTHERS),
        *_check_folder(context, "cache", places.cache / "aot", forbidden=_OTHERS),
        *_check_folder(context, "plugins", context.plugins_folder, forbidden=_WRITABLE_BY_OTHERS),
    ]
    yield from found
    if not found:
        folders = f"{context.plugins_folder}, {places.state}, {places.cache}"
        yield Finding("folders", ok=True, detail=f"nobody else writes to {folders}")


def check_space(context: Context) -> Iterator[Finding]:
    """Whether there is room for the next release, and for the next line of the ledger."""
    is_short = False
    for folder in (context.plugins_folder, context.places.state, context.places.cache):
        if not folder.is_dir():
            continue
        room = os.statvfs(folder)
        free_bytes = room.f_bavail * room.f_frsize
        full = free_bytes < _LEAST_FREE_BYTES
        # Where a file system counts no files, there is no bound on them.
        full |= room.f_files > 0 and room.f_favail < _LEAST_FREE_FILES
        if full:
            is_short = True
            yield Finding(
                "space",
                ok=False,
                detail=f"{folder} has room for {free_bytes >> 20} MiB and {room.f_favail} files: "
                "an update may not fit",
                fix="free some space; agent prune removes old releases",
            )
    if not is_short:
        yield Finding("space", ok=True, detail="there is room for updates")


def check_socket(context: Context) -> Iterator[Finding]:
    """Whether the service can open its socket."""
    path = context.places.socket
    length = len(os.fsencode(path))
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        yield Finding(
            "socket",
            ok=False,
            detail=f"{path} is no socket: the service can't begin to listen there",
            fix=f"move {path} away",
        )
        return
    detail = (
        f"{path}"
        if length <= _LONGEST_SOCKET_BYTES
        else f"{path} is too long: a short name is used"
    )
    yield Finding("socket", ok=True, detail=detail)


def _check_folder(context: Context, name: str, path: Path, *, forbidden: int) -> Iterator[Finding]:
    if not path.is_dir():
        if os.path.lexists(path):
            yield Finding(
                "folders", ok=False, detail=f"{path} is no folder", fix=f"move {path} away"
            )
        return
    status, uid = path.stat(), os.geteuid()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != uid:
        yield Finding(
            "folders",
            ok=False,
            detail=f"the {name} folder {path} belongs to the user {status.st_uid}, and the agent "
            f"runs as {uid}",
            fix=f"run the agent as {status.st_uid}, or chown {path}",
        )
    elif mode & forbidden:
        word = "read or write" if forbidden == _OTHERS else "write to"
        wanted = mode & ~forbidden

        def mend() -> Sequence[str]:
            context.files.seal_folder(path, mode=wanted)
            return ()

        yield Finding(
            "folders",
            ok=False,
            detail=f"others may {word} the {name} folder {path} (mode {mode:04o})",
            fix=f"agent doctor --fix sets mode {wanted:04o}",
            mend=mend,
        )
    if status.st_uid == uid and not os.access(path, os.W_OK):
        yield Finding(
            "folders",
            ok=False,
            detail=f"the {name} folder {path} can't be written (mode {mode:04o}, or a read-only "
            "disk): nothing can be updated",
            fix=f"see to the disk, or chmod u+rwx {path}",
        )
