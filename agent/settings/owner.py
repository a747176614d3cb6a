"""Whose an installation is: what others leave there its user could not change."""

import os
import pwd
from pathlib import Path

from agent.errors import UsageError


def require_own(state: Path, *, is_system: bool) -> None:
    """Stop root at the machine's installation where a service's user owns it.

    Args:
        state: ``Places.state``.
        is_system: ``--system``: elsewhere root knows best.

    Raises:
        UsageError: It is another user's.
    """
    owner = _owner(state)
    if is_system and os.geteuid() == 0 and owner:
        name = _name(owner)
        raise UsageError(
            f"cannot use {state} as root: it belongs to {name or f'the user {owner}'}, who could "
            "not change what root leaves there",
            hint=f"runuser -u {name} -- agent --system …" if name else "run it as that user",
        )


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
