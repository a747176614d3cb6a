"""The user's home folder."""

from pathlib import Path

_NOWHERE = Path("/nonexistent")


def user_home() -> Path:
    """The home folder; where the system knows none, as of a container's user, one that never is.

    Whoever says where everything is needs none: ``--home``, ``$STACK_COMPOSER_HOME``.
    """
    try:
        return Path.home()
    except RuntimeError:
        return _NOWHERE
