"""The agent's one family of errors; each carries its exit code (contract §7).

Rooms below raise their own families; ``translated`` turns those into this one, so that the
command line, the outcomes and the host speak of causes in one vocabulary.
"""

import errno
import os
import sqlite3
from pathlib import Path
from typing import ClassVar

_TEMPORARY = (".tmp-", ".staging-", ".lock")


class AgentError(Exception):
    """Something that could not be done.

    Args:
        message: One sentence: "cannot …", what was got, what was expected.
        hint: The next command to try, or what to change; shown on its own line.

    Attributes:
        code: A kebab-case word for programs (JSON ``error.code``).
        exit_code: The process exit code of contract §7.
        is_rule: Whether a rule of ours said no (``refused``), not a fault (``failed``).
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    is_rule: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AgentError):
    """Wrong arguments, a broken config or trust store."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A config file or variable that cannot be used; names file and key."""

    code = "config"


class NotFoundError(AgentError):
    """No such plugin, tag, function, or nothing to roll back to."""

    code = "not-found"
    exit_code = 3


class AuthenticationError(AgentError):
    """The registry wants other credentials."""

    code = "authentication"
    exit_code = 4


class NetworkError(AgentError):
    """The registry could not be reached, or answered that it is unwell; worth a retry."""

    code = "network"
    exit_code = 5


class FormatError(AgentError):
    """Bytes that are not what they should be: digest, size, format, titles, id or version."""

    code = "format"
    exit_code = 6
    is_rule = True


class TrustError(AgentError):
    """Signature or trust says no."""

    code = "trust"
    exit_code = 7
    is_rule = True


class PolicyError(AgentError):
    """A rule of the operator's or of ours says no.

    Args:
        message: See ``AgentError``.
        reason: The rule: capability, consent, held, cooldown, floor, rejected, incompatible,
            stem-taken, moved-tag, constraint, trial, disabled, system, shared-tree, vetoed,
            window, notify, rights.
        hint: See ``AgentError``.
    """

    code = "policy"
    exit_code = 8
    is_rule = True

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class UnhealthyError(AgentError):
    """A release failed its probe, or was reverted without anyone asking."""

    code = "unhealthy"
    exit_code = 9
    is_rule = True


class RollbackError(AgentError):
    """There is a release to go back to, but it can no longer be run."""

    code = "rollback-failed"
    exit_code = 10


class BusyError(AgentError):
    """Another process holds the lock."""

    code = "busy"
    exit_code = 11


class LedgerError(AgentError):
    """The ledger is damaged, or lost: the one that is there does not know the tree."""

    code = "ledger"


class DamagedError(sqlite3.DatabaseError):
    """The ledger's file is none any more: its bytes were cut, overwritten or lost."""


class GuestError(AgentError):
    """A plugin's call ended badly: trap, fuel, memory, or a command's non-zero exit."""

    code = "guest"


class DeadlineError(GuestError):
    """A plugin's call passed its wall-clock limit."""

    code = "deadline"
    exit_code = 124


def of_code(code: str, message: str, *, reason: str, hint: str | None = None) -> AgentError:
    """The error of a family that was remembered by its code.

    Args:
        code: An ``AgentError.code``.
        message: See ``AgentError``.
        reason: For a ``PolicyError``.
        hint: See ``AgentError``.
    """
    for family in (TrustError, FormatError, NotFoundError, UnhealthyError):
        if family.code == code:
            return family(message, hint=hint)
    return PolicyError(message, reason=reason, hint=hint)


def translated(error: Exception) -> AgentError | None:
    """The agent's error for a room's; None for a bug, which must stay a traceback."""
    if isinstance(error, AgentError):
        return error
    for kind, family, reason in _families():
        if isinstance(error, kind):
            if family is PolicyError:
                return PolicyError(str(error), reason=reason, hint=_granting(error))
            return family(str(error))
    if isinstance(error, TimeoutError):
        return BusyError(str(error), hint="try again when the other agent command has ended")
    if isinstance(error, OSError):
        return _from_system(error)
    if isinstance(error, DamagedError):
        return LedgerError(str(error), hint="agent doctor --fix")
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return AgentError(f"cannot use the ledger: {error}", hint=_LEDGER_HINTS.get(code))
    return None


def _granting(error: Exception) -> str | None:
    """What to type where a capability is missing."""
    from sandbox.errors import CapabilityDenied

    if isinstance(error, CapabilityDenied) and error.plugin_id is not None:
        return f"agent grant {error.plugin_id} {error.capability}"
    return None


def in_words(error: Exception) -> str:
    """What an error says to people: as it is told where it ends a command."""
    cause = translated(error)
    return str(error) if cause is None else cause.message


_FULL = "free some space (agent prune removes old releases), then run the command again"
_READ_ONLY = (
    "make it writable (a disk that failed is mounted read only), or name another folder "
    "(agent config show --effective); agent doctor looks at all of them"
)
_LEDGER_HINTS = {
    sqlite3.SQLITE_FULL: _FULL,
    # A ledger is opened to be read alone where its disk is full, too.
    sqlite3.SQLITE_READONLY: "agent doctor says why: its folder may not be written, or is full",
}


def _from_system(error: OSError) -> AgentError:
    what = error.strerror or str(error)
    hint = None
    if error.errno == errno.ENOSPC:
        hint = _FULL
    elif error.errno == errno.EROFS:
        hint = _READ_ONLY
    elif isinstance(error, PermissionError):
        hint = (
            "run it as the user whose file that is: sudo -u NAME agent …, with --system for the "
            "machine's own; agent doctor looks at who may write where"
        )
    is_missing = isinstance(error, FileNotFoundError)
    # Of a link or a renamed file the second is the one that was to be made.
    name = error.filename if is_missing else error.filename2 or error.filename
    if not name:
        return AgentError(f"cannot use a file: {what}", hint=hint)
    path = Path(os.fsdecode(name))
    folder = path.parent if error.errno == errno.EROFS else path
    while folder.name.startswith(_TEMPORARY) and error.errno != errno.EISDIR:
        folder = folder.parent
    if is_missing:
        return NotFoundError(f"cannot find {folder}: {what}")
    if folder != path:
        return AgentError(f"cannot write to {folder}: {what}", hint=hint)
    return AgentError(f"cannot use {path}: {what}", hint=hint)


def _families() -> tuple[tuple[type[Exception], type[AgentError], str], ...]:
    """The rooms' classes, most special first: the family each becomes, a policy's reason."""
    import registry.errors as r
    import sandbox.errors as s
    import trust.errors as t

    return (
        (r.ReferenceFormatError, UsageError, ""),
        (r.SettingsError, UsageError, ""),
        (r.NotFoundError, NotFoundError, ""),
        (r.AuthenticationError, AuthenticationError, ""),
        (r.NetworkError, NetworkError, ""),
        (r.UnsignedError, TrustError, ""),
        (r.ContentError, FormatError, ""),
        (r.TagMovedError, PolicyError, "moved-tag"),
        (r.BusyError, BusyError, ""),
        (r.RegistryError, AgentError, ""),
        (t.SignatureFormatError, TrustError, ""),
        (t.StoreBusyError, BusyError, ""),
        (t.StoreError, UsageError, ""),
        (t.TrustError, UsageError, ""),
        (s.ManifestError, FormatError, ""),
        (s.BadModule, FormatError, ""),
        (s.IncompatibleError, PolicyError, "incompatible"),
        (s.CapabilityDenied, PolicyError, "capability"),
        (s.CrashLoopError, PolicyError, "disabled"),
        (s.MissingExport, NotFoundError, ""),
        (s.PluginNotFoundError, NotFoundError, ""),
        (s.ArgumentError, UsageError, ""),
        (s.RegistrationError, UsageError, ""),
        (s.DeadlineExceeded, DeadlineError, ""),
        (s.UnhealthyError, UnhealthyError, ""),
        (s.CallError, GuestError, ""),
        (s.SandboxError, AgentError, ""),
    )
