"""Several agents at one tree, several plugins in one run."""

import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent import context as agent_context
from agent.cli import prune
from agent.context import Context
from agent.files import Files
from agent.ledger.ledger import Ledger
from agent.model import Generation, Trial
from agent.pipeline.probation import Judgement
from agent.pipeline.staging import Stage
from agent.tree.activation import Activation
from agent.tree.sealed import require_loadable
from agent.verbs import rollback
from support.agent import NOW
from support.system import (
    PLUGIN_ID,
    CountedRegistry,
    Machine,
    Publisher,
)

RETRIEVAL = {'["log"]': '["log", "retrieval"]'}
OTHER_ID = "org.example.other"


def test_two_agents_at_once_are_both_fine(installed: Machine, publisher: Publisher) -> None:
    """Two processes update the same plugin: one takes it, both end with 0, one release serves."""
    publisher.release("0.2.0")
    command = installed.command("update", "--format", "json")
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outcomes = set()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        outcomes.add(json.loads(out)["plugins"][0]["outcome"])
    assert "trial" in outcomes
    assert outcomes <= {"trial", "current", "pending"}
    assert installed.version() == "0.2.0"
    assert installed.json("list").row["state"] == "trial"
    events = installed.json("history", PLUGIN_ID).document["events"]
    assert [e["event"] for e in events] == ["activated", "committed", "activated"]


def interposed(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen once, when a release is fetched and the lock is not yet taken."""
    compile_release = Stage.compile

    def compile_later(stage: Stage) -> None:
        monkeypatch.setattr(Stage, "compile", compile_release)
        act()
        compile_release(stage)

    monkeypatch.setattr(Stage, "compile", compile_later)


def test_the_plan_is_checked_again_under_the_lock(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent takes the same release meanwhile: it goes live once, and both are fine."""
    publisher.release("0.2.0")
    interposed(monkeypatch, lambda: installed.run("update"))
    row = installed.json("update").row
    assert (row["outcome"], row["to"]) == ("current", "0.2.0")
    events = installed.json("history", PLUGIN_ID).document["events"]
    assert [e["event"] for e in events] == ["activated", "committed", "activated"]


def test_a_plan_made_beside_another_release_is_given_up(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent takes a newer release meanwhile: 11, and the newer one stays."""
    publisher.release("0.2.0")
    publisher.release("0.2.1", sample="0.2.0")
    interposed(monkeypatch, lambda: installed.run("update"))
    row = installed.json("pull", f"{PLUGIN_ID}:0.2.0", expect=11).row
    assert row["outcome"] == "failed"
    assert installed.version() == "0.2.1"


def test_the_rules_are_asked_again_under_the_lock(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held meanwhile: an update run that did not see it goes no further; 8 where it was named."""
    publisher.release("0.2.0")
    interposed(monkeypatch, lambda: installed.run("hold", PLUGIN_ID))
    row = installed.json("update", PLUGIN_ID, expect=8).row
    assert (row["outcome"], row["step"]) == ("refused", "plan")
    assert installed.version() == "0.1.0"
    installed.run("unhold", PLUGIN_ID)
    assert installed.json("update").row["outcome"] == "trial"


def test_what_a_crash_left_meanwhile_is_finished_under_the_lock(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent rejected what serves and died before its flip: it is left, the plan given up.

    What was planned beside the rejected release must not go live over it.
    """
    for version in ("0.2.0", "0.2.1"):
        publisher.release(version, sample="0.2.0")
    installed.run("pull", f"{PLUGIN_ID}:0.2.0")

    def reject_and_die() -> None:
        with closing(Ledger(installed.home / "state" / "state.db")) as ledger:
            new, old = ledger.generations(PLUGIN_ID)
            ledger.turn_back(new, target=old.release, reason="it traps", at=time.time())

    interposed(monkeypatch, reject_and_die)
    row = installed.json("pull", f"{PLUGIN_ID}:0.2.1", expect=11).row
    assert (row["outcome"], row["step"]) == ("failed", "plan")
    assert installed.version() == "0.1.0"


def test_a_rollback_planned_beside_another_release_is_given_up(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent takes a newer release while the target is verified: 11, and that one stays."""
    for version in ("0.2.0", "0.2.1"):
        publisher.release(version, sample="0.2.0")
    installed.run("pull", f"{PLUGIN_ID}:0.2.0")

    def take_meanwhile(context: Context, target: Generation) -> None:
        monkeypatch.setattr(rollback, "require_loadable", require_loadable)
        installed.run("pull", f"{PLUGIN_ID}:0.2.1")
        require_loadable(context, target)

    monkeypatch.setattr(rollback, "require_loadable", take_meanwhile)
    ran = installed.run("rollback", PLUGIN_ID, expect=11)
    assert "another agent changed it just now" in ran.err
    assert installed.version() == "0.2.1"
    assert installed.json("why", PLUGIN_ID).document["rejected"] == []


def test_a_full_disk_costs_nothing_that_was_kept(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space while a kept release is taken again: 1 with a hint, and it is still kept."""
    installed.configure(probation="0s")
    publisher.release("0.2.0")
    installed.run("update")

    def fill_the_disk() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/aot")

    interposed(monkeypatch, fill_the_disk)
    before = installed.snapshot()
    ran = installed.json("pull", f"{PLUGIN_ID}:0.1.0", "--allow-downgrade", expect=1)
    assert ran.row["outcome"] == "failed"
    assert "agent prune" in ran.err
    assert installed.snapshot() == before
    assert installed.json("rollback", PLUGIN_ID).row["to"] == "0.1.0"


@contextmanager
def tree_locked(machine: Machine) -> Iterator[None]:
    """Hold the tree's lock as another agent would."""
    with Files().lock(machine.plugins / ".store" / ".lock", timeout_s=5):
        yield


def test_a_tree_that_stays_locked_is_busy(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the wait: 11, nothing changed, and the next run goes on as if nothing had been."""
    import agent.pipeline.settling
    import agent.pipeline.taking
    import agent.verbs.rollback

    publisher.release("0.2.0")
    before = installed.snapshot()
    waiting = (agent.pipeline.settling, agent.pipeline.taking, agent.verbs.rollback)
    for module in (agent_context, *waiting, prune):
        monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.05)
    with tree_locked(installed):
        for verb in ("update", "pull"):
            arguments = (PLUGIN_ID,) if verb == "pull" else ()
            row = installed.json(verb, *arguments, expect=11).row
            assert row["outcome"] == "failed"
        installed.run("rollback", PLUGIN_ID, expect=11)
        installed.run("prune", expect=11)
        assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
        installed.run("check")
    assert installed.snapshot() == before
    assert installed.json("update").row["outcome"] == "trial"


def test_one_broken_registry_does_not_keep_the_others_back(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The others are updated; mixed results are 12, and each plugin has its row."""
    layouts = f"oci:{tmp_path}/layouts"
    publisher.push(
        publisher.plugin("0.1.0", plugin_id="org.example.aaa", stem="aaa"), "--registry", layouts
    )
    installed.run("pull", "org.example.aaa", "--registry", layouts)
    shutil.rmtree(tmp_path / "layouts")
    publisher.release("0.2.0")
    ran = installed.json("update", expect=12)
    rows = {row["id"]: row for row in ran.document["plugins"]}
    assert rows["org.example.aaa"]["outcome"] == "failed"
    assert rows["org.example.aaa"]["from"] == "0.1.0"
    assert (rows[PLUGIN_ID]["outcome"], rows[PLUGIN_ID]["to"]) == ("trial", "0.2.0")
    assert installed.json("check", expect=12).document["plugins"][0]["action"] == "skip"
    # Both fail in the same way: that way's code.
    publisher.push(
        publisher.plugin("0.1.0", plugin_id="org.example.bbb", stem="bbb"), "--registry", layouts
    )
    installed.run("pull", "org.example.bbb", "--registry", layouts)
    shutil.rmtree(tmp_path / "layouts")
    installed.run("update", "org.example.aaa", "org.example.bbb", expect=3)


def test_one_that_can_not_be_put_right_keeps_no_other_back(
    installed: Machine, publisher: Publisher
) -> None:
    """A folder where its link should be: it is told, and the others are updated and pruned."""
    for version in ("0.1.0", "0.2.0"):
        publisher.release(version, plugin_id=OTHER_ID, stem="other-plugin")
    installed.run("pull", f"{OTHER_ID}:0.1.0")
    current = installed.plugins / ".store" / PLUGIN_ID / "current"
    current.unlink()
    (current / "in the way").mkdir(parents=True)
    why = f"cannot use {current}: Is a directory"
    ran = installed.json("update", expect=12)
    rows = {row["id"]: row for row in ran.document["plugins"]}
    assert (rows[OTHER_ID]["to"], rows[PLUGIN_ID]["outcome"]) == ("0.2.0", "failed")
    assert why in ran.err
    (installed.plugins / "hello-plugin.toml").touch()
    ran = installed.json("prune", expect=12)
    assert [row["id"] for row in ran.document["failed"]] == [PLUGIN_ID]
    assert f"{PLUGIN_ID}: flat files failed: {why}" in ran.err


@pytest.mark.parametrize("verb", [("update",), ("disable", "--all")])
def test_one_whose_link_is_gone_is_not_forgotten(installed: Machine, verb: tuple[str, ...]) -> None:
    """Somebody removed it, or an ``enable`` died before its flip: it has its turn all the same."""
    current = installed.plugins / ".store" / PLUGIN_ID / "current"
    current.unlink()
    assert f"{PLUGIN_ID} serves nothing\n  try: agent doctor" in installed.run("list").err
    installed.json("check")
    assert installed.json(*verb).row["id"] == PLUGIN_ID
    assert current.is_symlink() == (verb == ("update",))
    installed.run("call", PLUGIN_ID, "run", "Jane", expect=0 if verb == ("update",) else 8)


def test_a_plugin_that_is_not_installed_is_not_updated(installed: Machine) -> None:
    """Naming it is 3, beside another 12."""
    assert installed.json("update", OTHER_ID, expect=3).row["outcome"] == "failed"
    installed.run("update", OTHER_ID, PLUGIN_ID, expect=12)


def test_old_releases_are_pruned(installed: Machine, publisher: Publisher) -> None:
    """``update.keep`` releases stay beside what serves."""
    installed.configure(probation="0s", update="keep = 2")
    for version in ("0.1.1", "0.1.2", "0.1.3"):
        publisher.release(version)
        installed.run("update")
    assert installed.json("info", PLUGIN_ID).row["kept"] == ["0.1.3", "0.1.2", "0.1.1"]
    assert installed.json("prune").document["removed"] == []
    installed.run("rollback", PLUGIN_ID)
    assert installed.version() == "0.1.2"


def test_offline_nothing_is_asked(installed: Machine, docker: CountedRegistry) -> None:
    """``--offline``: 5, no request; what is installed runs."""
    docker.requests()
    ran = installed.json("update", "--offline", expect=5)
    assert "offline" in ran.err
    assert docker.requests() == []
    assert installed.run("call", PLUGIN_ID, "run", "Jane", "--offline").out == "Hello, Jane"


def test_many_are_looked_up_with_one_request_each(
    installed: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """Ahead of their turn, and nobody in vain: not the disabled, the one on trial, a channel.

    What one registry does not have fails alone, and the rows keep their order.
    """
    ids = [f"org.example.p{number}" for number in range(6)]
    for number, plugin_id in enumerate(ids):
        folder = publisher.plugin("0.1.0", plugin_id=plugin_id, stem=f"p{number}-plugin")
        installed.run("push", folder, "--key", publisher.key, "--tag", "stable")
        installed.run("pull", plugin_id)
    installed.run("disable", ids[0])
    publisher.release("0.2.0", plugin_id=ids[1], stem="p1-plugin")
    installed.run("update", ids[1])
    prefix = str(installed.registry).partition("/")[2]
    shutil.rmtree(docker.storage / "docker/registry/v2/repositories" / prefix / ids[2])
    installed.configure(f'[plugins."{ids[3]}"]\nchannel = "stable"\n')
    docker.requests()
    done = installed.json("update", expect=12)
    rows = {row["id"]: row["outcome"] for row in done.document["plugins"]}
    assert list(rows) == sorted([PLUGIN_ID, *ids])
    assert rows == {
        PLUGIN_ID: "current",
        ids[0]: "pending",
        ids[1]: "pending",
        ids[2]: "failed",
        ids[3]: "current",
        ids[4]: "current",
        ids[5]: "current",
    }
    asked = [path.partition("?")[0] for _, path in docker.requests()]
    listed = [f"/v2/{prefix}/{one}/tags/list" for one in (PLUGIN_ID, ids[2], ids[4], ids[5])]
    assert sorted(asked) == sorted([*listed, f"/v2/{prefix}/{ids[3]}/manifests/stable"])


def test_who_waits_for_a_trial_waits_for_the_flip_back(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent rejected the release and has yet to flip: rolled back (9), not committed."""
    publisher.release("0.2.0")
    judgement = Activation.judgement

    def reject_first(self: Activation, trial: Trial) -> Judgement:
        monkeypatch.setattr(Activation, "judgement", judgement)
        looked = judgement(self, trial)
        with closing(Ledger(installed.home / "state" / "state.db")) as ledger:
            leaving = ledger.generation(PLUGIN_ID, trial.release)
            assert leaving is not None
            ledger.turn_back(leaving, target=trial.previous, reason="3 of 3 failed", at=NOW)
        return looked

    monkeypatch.setattr(Activation, "judgement", reject_first)
    row = installed.json("pull", PLUGIN_ID, "--wait", expect=9).row
    assert (row["outcome"], row["to"]) == ("rolled_back", "0.1.0")
    assert "3 of 3 failed" in row["detail"]
    assert installed.version() == "0.1.0"
