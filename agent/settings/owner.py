"""Whose an installation is, and what that means for others.

``state`` is ``Places.state`` throughout: what everybody needs who changes anything.
"""

import os
import pwd
from pathlib import Path

from agent.errors import AgentError, UsageError


def require_own(state: Path, *, is_system: bool) -> None:
    """Stop root at the machine's installation where a service's user owns it.

    Args:
        state: See the module.
        is_system: ``--system``: elsewhere root knows best.

    Raises:
        UsageError: It is another user's.
    """
    if is_system and os.geteuid() == 0 and (owner := _owner(state)):
        name = _name(owner)
        raise UsageError(
            f"cannot use {state} as root: it belongs to {name or f'the user {owner}'}, who could "
            "not change what root leaves there",
            hint=f"runuser -u {name} -- agent --system …" if name else "run it as that user",
        )


def require_usable(state: Path, *, is_system: bool) -> None:
    """Stop who may not look into an installation, and root as ``require_own`` does.

    Raises:
        AgentError: It is another user's alone.
        UsageError: See ``require_own``.
    """
    require_own(state, is_system=is_system)
    if is_closed(state) and not os.access(state, os.R_OK | os.X_OK):
        raise AgentError(
            f"cannot use {state}: it is another user's, and closed to others",
            hint="sudo -u NAME agent … does it as that user; agent update, call and status ask "
            "its service, where your group may (control.group)",
        )


def is_closed(state: Path) -> bool:
    """Whether an installation is another user's, and not for this one to change."""
    try:
        return _owner(state) not in (None, os.geteuid()) and not os.access(state, os.W_OK)
    except PermissionError:
        return True  # one may not even look


def _owner(folder: Path) -> int | None:
    """Who owns it; None where it is not there."""
    try:
        return folder.stat().st_uid
    except FileNotFoundError:
        return None


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
