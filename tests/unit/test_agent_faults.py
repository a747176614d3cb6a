"""Whose fault a refusal is: what is remembered, what is passed over, what ends the run."""

import errno
import sqlite3

import pytest

import registry
from agent.errors import BusyError, FormatError, PolicyError, TrustError, UnhealthyError
from agent.pipeline.faults import blocks_nobody, is_lasting
from sandbox import BadModule, CapabilityDenied, IncompatibleError, MissingExport


@pytest.mark.parametrize(
    "error",
    [
        BadModule("not wasm"),
        IncompatibleError("an unknown import"),
        MissingExport("no health"),
        CapabilityDenied("not granted", capability="retrieval"),
        registry.ContentError("another digest"),
        FormatError("oversize"),
        TrustError("forged"),
        PolicyError("moved", reason="moved-tag"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_its_own_is_remembered_and_passed_over(error: Exception) -> None:
    """The next run does not look at it, this one tries the next lower."""
    assert is_lasting(error)
    assert blocks_nobody(error)


@pytest.mark.parametrize(
    "error",
    [
        UnhealthyError("its probe failed"),
        registry.NotFoundError("404"),
        PolicyError("not its stem", reason="stem-taken"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_some_are_passed_over_and_not_refused(error: Exception) -> None:
    """What is rejected instead, and what depends on others than the candidate."""
    assert not is_lasting(error)
    assert blocks_nobody(error)


@pytest.mark.parametrize(
    "error",
    [
        BusyError("another agent"),
        OSError(errno.ENOSPC, "No space left"),
        FileNotFoundError(errno.ENOENT, "gone"),
        TimeoutError("the lock"),
        registry.NetworkError("reset"),
        registry.AuthenticationError("401"),
        sqlite3.OperationalError("disk I/O error"),
        PolicyError("held", reason="held"),
        PolicyError("below the floor", reason="floor"),
        KeyError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_this_hosts_fault_ends_the_run(error: Exception) -> None:
    """Busy, disk and network never count against a release, and no lower one is taken for them."""
    assert not is_lasting(error)
    assert not blocks_nobody(error)
