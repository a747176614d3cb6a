"""Every cause becomes one of the agent's errors, with the exit code of contract §7."""

import contextlib
import errno
import inspect
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest

import agent.errors
import registry.errors
import sandbox.errors
import trust.errors
from agent.errors import (
    AgentError,
    FormatError,
    GuestError,
    NotFoundError,
    PolicyError,
    TrustError,
    in_words,
    of_code,
    translated,
)
from agent.ledger.ledger import Ledger

# The codes of contract §7, "Exit codes".
CODES: dict[type[Exception], tuple[int, str]] = {
    registry.errors.RegistryError: (1, "failed"),
    registry.errors.ReferenceFormatError: (2, "usage"),
    registry.errors.SettingsError: (2, "usage"),
    registry.errors.NotFoundError: (3, "not-found"),
    registry.errors.AuthenticationError: (4, "authentication"),
    registry.errors.NetworkError: (5, "network"),
    registry.errors.ContentError: (6, "format"),
    registry.errors.UnsignedError: (7, "trust"),
    registry.errors.TagMovedError: (8, "policy"),
    registry.errors.BusyError: (11, "busy"),
    trust.errors.TrustError: (2, "usage"),
    trust.errors.KeyFormatError: (2, "usage"),
    trust.errors.WeakKeyError: (2, "usage"),
    trust.errors.StoreError: (2, "usage"),
    trust.errors.StoreBusyError: (11, "busy"),
    trust.errors.SignatureFormatError: (7, "trust"),
    sandbox.errors.SandboxError: (1, "failed"),
    sandbox.errors.PluginNotFoundError: (3, "not-found"),
    sandbox.errors.ManifestError: (6, "format"),
    sandbox.errors.IncompatibleError: (8, "policy"),
    sandbox.errors.BadModule: (6, "format"),
    sandbox.errors.MissingExport: (3, "not-found"),
    sandbox.errors.ArgumentError: (2, "usage"),
    sandbox.errors.RegistrationError: (2, "usage"),
    sandbox.errors.UnhealthyError: (9, "unhealthy"),
    sandbox.errors.CallError: (1, "guest"),
    sandbox.errors.FuelExhausted: (1, "guest"),
    sandbox.errors.MemoryExceeded: (1, "guest"),
    sandbox.errors.DeadlineExceeded: (124, "deadline"),
    sandbox.errors.GuestTrap: (1, "guest"),
    sandbox.errors.PluginPanic: (1, "guest"),
    sandbox.errors.CrashLoopError: (8, "policy"),
    sandbox.errors.TokenError: (1, "failed"),
    sandbox.errors.CapabilityDenied: (8, "policy"),
    sandbox.errors.GuestExit: (1, "guest"),
}
OWN = {
    "AgentError": 1,
    "UsageError": 2,
    "ConfigError": 2,
    "NotFoundError": 3,
    "AuthenticationError": 4,
    "NetworkError": 5,
    "FormatError": 6,
    "TrustError": 7,
    "PolicyError": 8,
    "UnhealthyError": 9,
    "RollbackError": 10,
    "BusyError": 11,
    "LedgerError": 1,
    "GuestError": 1,
    "DeadlineError": 124,
}


def errors_of(module: ModuleType) -> set[type[Exception]]:
    """The error classes that a module defines."""
    return {
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    }


def made(kind: type[Exception]) -> Exception:
    """An error of this kind that says "cannot x"."""
    extra: dict[str, object] = {}
    if kind is sandbox.errors.GuestTrap:
        extra = {"code": "UNREACHABLE"}
    elif kind is sandbox.errors.GuestExit:
        extra = {"code": 3}
    elif kind is sandbox.errors.PluginPanic:
        extra = {"signal": 11}
    elif kind is sandbox.errors.CrashLoopError:
        extra = {"retry_after_s": None}
    elif kind is sandbox.errors.CapabilityDenied:
        extra = {"capability": "network"}
    return kind("cannot x", **extra)


def test_the_table_names_every_error_of_every_room() -> None:
    """A new error class needs a code."""
    rooms = (registry.errors, trust.errors, sandbox.errors)
    assert set(CODES) == set().union(*map(errors_of, rooms))
    own = {kind.__name__ for kind in errors_of(agent.errors) if issubclass(kind, AgentError)}
    assert own == set(OWN)


def test_a_damaged_ledger_says_what_mends_it() -> None:
    """The file is named in the message; the next command in the hint."""
    cause = translated(agent.errors.DamagedError("cannot use /x/state.db: it is damaged"))
    assert isinstance(cause, agent.errors.LedgerError)
    assert (cause.exit_code, cause.hint) == (1, "agent doctor --fix")


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_a_rooms_error_gets_its_code(kind: type[Exception]) -> None:
    """The exit code, the word for programs, and the message as it was."""
    cause = translated(made(kind))
    assert cause is not None
    assert (cause.exit_code, cause.code) == CODES[kind]
    assert str(cause) == cause.message == "cannot x"


@pytest.mark.parametrize("name", OWN)
def test_our_own_errors_have_their_codes(name: str) -> None:
    """And are handed through as they are."""
    kind: type[AgentError] = getattr(agent.errors, name)
    extra = {"reason": "floor"} if kind is PolicyError else {}
    error = kind("cannot x", hint="agent list", **extra)
    assert translated(error) is error
    assert (error.exit_code, error.hint) == (OWN[name], "agent list")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (registry.errors.TagMovedError("x"), "moved-tag"),
        (sandbox.errors.IncompatibleError("x"), "incompatible"),
        (sandbox.errors.CapabilityDenied("x", capability="network"), "capability"),
    ],
)
def test_a_policy_says_which_rule(error: Exception, reason: str) -> None:
    """The word that machines branch on."""
    cause = translated(error)
    assert isinstance(cause, PolicyError)
    assert cause.reason == reason


def test_what_is_a_rule_and_what_a_fault() -> None:
    """A rule of ours refuses; everything else has failed and may go well the next time."""
    rules = {name for name in OWN if getattr(agent.errors, name).is_rule}
    assert rules == {"FormatError", "TrustError", "PolicyError", "UnhealthyError"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("trust", TrustError),
        ("format", FormatError),
        ("not-found", NotFoundError),
        ("policy", PolicyError),
        ("of a newer agent", PolicyError),
    ],
)
def test_a_remembered_refusal_keeps_its_family(code: str, kind: type[AgentError]) -> None:
    """And so its exit code; what no family claims is a policy, with its reason."""
    error = of_code(code, "cannot x", reason="refused", hint="agent list")
    assert type(error) is kind
    assert (error.message, error.hint) == ("cannot x", "agent list")
    if isinstance(error, PolicyError):
        assert error.reason == "refused"


@pytest.mark.parametrize(
    ("error", "exit_code", "message", "hint"),
    [
        (TimeoutError("cannot lock x"), 11, "cannot lock x", "try again"),
        (FileNotFoundError(errno.ENOENT, "No such", "/x"), 3, "cannot find /x: No such", None),
        (
            FileNotFoundError(errno.ENOENT, "No such", "/x/.tmp-1", None, "/x/y"),
            3,
            "cannot find /x: No such",
            None,
        ),
        (
            OSError(errno.ENOSPC, "No space left", "/x"),
            1,
            "cannot use /x: No space left",
            "agent prune",
        ),
        (
            PermissionError(errno.EACCES, "Denied", "/x"),
            1,
            "cannot use /x: Denied",
            "sudo -u NAME agent",
        ),
        (
            OSError(errno.EROFS, "Read-only", "/x/.lock"),
            1,
            "cannot write to /x: Read-only",
            "agent doctor",
        ),
        (
            OSError(errno.EROFS, "Read-only", "1-a", None, "/x/current"),
            1,
            "cannot write to /x: Read-only",
            "make it writable",
        ),
        (
            PermissionError(errno.EACCES, "Denied", "/x/.tmp-a1b2"),
            1,
            "cannot write to /x: Denied",
            "as the user",
        ),
        (
            OSError(errno.ENOSPC, "No space left", "/x/.tmp-a1b2/.tmp-c3d4"),
            1,
            "cannot write to /x: No space left",
            "agent prune",
        ),
        (
            OSError(errno.EIO, "I/O error", "/x/.staging-1", None, "/x/1"),
            1,
            "cannot use /x/1: I/O error",
            None,
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "/x/.lock"),
            1,
            "cannot use /x/.lock: Is a directory",
            None,
        ),
        (OSError("strange"), 1, "cannot use a file: strange", None),
        (sqlite3.OperationalError("disk full"), 1, "cannot use the ledger: disk full", None),
    ],
)
def test_the_systems_errors(
    error: Exception, exit_code: int, message: str, hint: str | None
) -> None:
    """A full disk, a missing file, a held lock, a broken ledger: each says what to do."""
    cause = translated(error)
    assert cause is not None
    assert (cause.exit_code, cause.message) == (exit_code, message)
    assert (cause.hint is None) if hint is None else (hint in str(cause.hint))


@pytest.mark.parametrize(
    ("bound", "what", "hint"),
    [
        ("query_only=ON", "attempt to write a readonly database", "agent doctor"),
        ("max_page_count=1", "database or disk is full", "free some space"),
    ],
)
def test_a_ledger_that_can_not_be_written_is_named(
    tmp_path: Path, bound: str, what: str, hint: str
) -> None:
    """SQLite says neither which file it is, nor what to do."""
    path = tmp_path / "state.db"
    with contextlib.closing(Ledger(path)) as ledger:
        ledger._run(f"PRAGMA {bound}")
        with pytest.raises(sqlite3.OperationalError) as caught:
            ledger.see_tags("oci:/x", [str(number) * 100 for number in range(999)], at=1.0)
    cause = translated(caught.value)
    assert cause is not None
    assert cause.message == f"cannot use the ledger: {path}: {what}"
    assert hint in str(cause.hint)


def test_what_is_logged_is_said_as_it_would_be_told() -> None:
    """No errno and no temporary name; a bug's text stays as it is."""
    assert (
        in_words(OSError(errno.EROFS, "Read-only", "/x/.lock")) == "cannot write to /x: Read-only"
    )
    assert in_words(ValueError("x")) == "x"


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x")])
def test_a_bug_stays_a_bug(error: Exception) -> None:
    """What no room raises on purpose is not dressed up as a cause."""
    assert translated(error) is None


def test_a_deadline_is_a_guests_error() -> None:
    """Whoever handles a guest's errors handles this one too."""
    cause = translated(sandbox.errors.DeadlineExceeded("x"))
    assert isinstance(cause, GuestError)
