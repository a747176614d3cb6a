"""Who could have written a file: owner, mode and group (contract, section 5)."""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable

_ROOT_UID = 0


def is_private_group(gid: int, uid: int) -> bool:
    """Say whether a group is a user's own: their primary group, with nobody else in it.

    Asks the system's user database.
    """
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return is_private_to(uid, group, pwd.getpwall())


def is_private_to(uid: int, group: grp.struct_group, users: Iterable[pwd.struct_passwd]) -> bool:
    """Say whether a group is a user's own, given everybody on the system."""
    everybody = list(users)
    names = {user.pw_name for user in everybody if user.pw_uid == uid}
    members = {user.pw_uid for user in everybody if user.pw_gid == group.gr_gid}
    return members == {uid} and names.issuperset(group.gr_mem)


def problem_with(
    status: os.stat_result,
    *,
    uid: int,
    is_private: Callable[[int, int], bool] = is_private_group,
) -> str | None:
    """Say who else could have written a file or folder.

    Args:
        status: What ``stat`` says of it.
        uid: The user who relies on it.
        is_private: Says whether a group (gid) is a user's (uid) own.

    Returns:
        What was got and expected, and a command still lacking its last word, the path; None
        where only the user and root could write it.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (_ROOT_UID, uid):
        return f"got the owner {status.st_uid}, expected {uid} or root; run `chown {uid}"
    if mode & stat.S_IWOTH:
        return f"got mode {mode:04o}, which everyone may write, expected less; run `chmod go-w"
    if mode & stat.S_IWGRP and not is_private(status.st_gid, status.st_uid):
        return (
            f"got mode {mode:04o}, which the group {status.st_gid} may write, expected less; "
            "run `chmod go-w"
        )
    return None
