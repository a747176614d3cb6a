"""What is kept of old releases, and what a failed staging takes back."""

import errno
from pathlib import Path

import pytest

from agent.context import Context
from agent.errors import AgentError, FormatError, PolicyError, UnhealthyError
from agent.model import Decision, Kind, Outcome
from agent.pipeline.staging import Stage
from agent.pipeline.steps import Progress, Steps
from agent.telemetry import Telemetry
from agent.tree.pruning import prunable, prune
from sandbox.errors import SandboxError
from support.agent import NOW, PLUGIN_ID, generation, installed_at, plugin_set

FIVE = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0")


def kept(context: Context) -> list[str]:
    """The versions that the ledger and the tree both hold, oldest first."""
    home = context.tree.named(PLUGIN_ID, "0").parent
    folders = {path.name for path in home.iterdir() if path.is_dir() and not path.is_symlink()}
    rows = context.ledger.generations(PLUGIN_ID)
    assert folders == {row.folder_name for row in rows}
    return sorted(row.version for row in rows)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    """``update.keep`` beside what serves, three unless it is set; a second time nothing goes."""
    with installed_at(tmp_path, "0.0.1", *FIVE) as context:
        assert [g.version for g in prunable(context, PLUGIN_ID)] == ["0.1.0", "0.0.1"]
        assert [g.version for g in prune(context, PLUGIN_ID)] == ["0.1.0", "0.0.1"]
        assert kept(context) == ["0.2.0", "0.3.0", "0.4.0", "0.5.0"]
        assert prune(context, PLUGIN_ID) == ()


def test_the_rejected_go_and_do_not_count(tmp_path: Path) -> None:
    """A release that failed is not kept in a good one's stead."""
    with installed_at(tmp_path, "0.0.1", *FIVE) as context:
        for version in ("0.4.0", "0.3.0"):
            release = generation(version).release
            context.ledger.reject(PLUGIN_ID, release, version, reason="bad", at=NOW)
        prune(context, PLUGIN_ID)
        assert kept(context) == ["0.0.1", "0.1.0", "0.2.0", "0.5.0"]


def test_what_is_in_use_is_kept(tmp_path: Path) -> None:
    """What serves and what a trial goes back to, whatever their age; the newest beside them."""
    with installed_at(tmp_path, "0.0.1", *FIVE) as context:
        old = context.ledger.generation(PLUGIN_ID, generation("0.1.0").release)
        assert old is not None
        context.activation.activate(old, probation_s=600, channel=None)
        prune(context, PLUGIN_ID)
        assert kept(context) == ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"]


def stage(context: Context, folder: Path, version: str) -> Stage:
    """A staging of a version."""
    steps = Steps(Telemetry(""), Progress.silent())
    return Stage(context, generation(version), plugin_set(folder, version), steps)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0"])
def test_a_failed_staging_takes_back_what_is_new(tmp_path: Path, version: str) -> None:
    """What serves on trial, and what it would go back to, stay; another release goes again."""
    with installed_at(tmp_path, "0.1.0", "0.2.0", probation_s=600) as context:
        assert context.ledger.trial(PLUGIN_ID) is not None
        staging = stage(context, tmp_path, version)
        # These bytes are no plugin: they are sealed, and refused when they are loaded.
        with pytest.raises(SandboxError) as caught:
            staging.seal_and_probe()
        assert version in kept(context)
        staging.fail(caught.value)
        assert kept(context) == ["0.1.0", "0.2.0"]


def test_what_went_live_meanwhile_is_not_taken_back(tmp_path: Path) -> None:
    """A release that is in use when the staging fails stays, new as it was."""
    with installed_at(tmp_path, "0.1.0") as context:
        staging = stage(context, tmp_path, "0.2.0")
        with pytest.raises(SandboxError):
            staging.seal_and_probe()
        staging.activate(channel=None)
        staging.fail(OSError(errno.EIO, "Input/output error"))
        assert kept(context) == ["0.1.0", "0.2.0"]


def test_disk_and_network_never_count_against_a_release(tmp_path: Path) -> None:
    """A full disk rejects nothing."""
    with installed_at(tmp_path) as context:
        stage(context, tmp_path, "0.2.0").fail(OSError(errno.ENOSPC, "No space left"))
        assert context.ledger.rejections(PLUGIN_ID) == {}


def test_an_unhealthy_release_is_rejected(tmp_path: Path) -> None:
    """By release, with the reason."""
    with installed_at(tmp_path) as context:
        stage(context, tmp_path, "0.2.0").fail(UnhealthyError("its probe failed"))
        (rejection,) = context.ledger.rejections(PLUGIN_ID).values()
        assert (rejection.version, rejection.reason) == ("0.2.0", "its probe failed")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, ""),
        (PolicyError("cannot take it", reason="floor"), "floor"),
        (FormatError("cannot use it"), "format"),
    ],
)
def test_a_decision_keeps_the_reason(error: AgentError | None, reason: str) -> None:
    """The rule of a policy, else the word of the error, else nothing."""
    outcome = Outcome(PLUGIN_ID, Kind.REFUSED, "plan", "why", after="0.2.0", error=error)
    assert Decision.of(outcome, at=NOW) == Decision(
        PLUGIN_ID, NOW, "0.2.0", "refused", "plan", reason, "why"
    )
