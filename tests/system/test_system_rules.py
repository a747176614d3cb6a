"""The rules of an update run, over a docker-registry that counts what it is asked."""

import errno
import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import context as agent_context
from agent.cli import change
from agent.context import Context
from agent.files import Files
from agent.host import PluginHost
from agent.ledger import Ledger
from agent.model import Samples
from agent.staging import Stage
from sandbox import GuestTrap
from support.system import (
    PLUGIN_ID,
    STEM,
    CountedRegistry,
    Machine,
    Publisher,
    opened,
    push_by_hand,
)

RETRIEVAL = {'["log"]': '["log", "retrieval"]'}
OTHER_ID = "org.example.other"


@pytest.fixture
def installed(machine: Machine, publisher: Publisher) -> Machine:
    """A host with 0.1.0 installed."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    return machine


def push_forged(machine: Machine, folder: Path, version: str) -> str:
    """Push a version signed by a key that nobody trusts; returns its payload's digest."""
    stranger = Publisher(machine, folder / f"stranger-{version}", "stranger")
    built = stranger.artifact(stranger.plugin(version))
    with opened(f"{machine.registry}/{PLUGIN_ID}", folder) as repository:
        push_by_hand(repository, built, tag=version)
    return built.layers[0].digest


# -- who is passed over


def test_a_forged_version_blocks_nobody(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Above a forged 99.0.0 the next lower version is taken in the same run."""
    publisher.release("0.2.0")
    push_forged(installed, tmp_path, "99.0.0")
    row = installed.json("update").row
    assert (row["to"], row["outcome"]) == ("0.2.0", "trial")
    assert "99.0.0" in row["detail"]


def test_a_forged_version_alone_is_refused_once_and_remembered(
    installed: Machine, docker: CountedRegistry, tmp_path: Path
) -> None:
    """The refusal is exit 7; the next run remembers it by digest and asks for the tags only."""
    push_forged(installed, tmp_path, "0.5.0")
    before = installed.snapshot()
    row = installed.json("update", expect=7).row
    assert (row["outcome"], row["step"]) == ("refused", "verify")
    docker.requests()
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "0.5.0" in again["detail"]
    assert [path for _, path in docker.requests()] == [tags_of(installed)]
    assert installed.snapshot() == before


def test_a_new_trust_store_judges_a_refused_version_anew(
    installed: Machine, tmp_path: Path
) -> None:
    """What was refused is tried again when the operator has come to trust its key."""
    stranger = Publisher(installed, tmp_path / "stranger", "stranger")
    stranger.push(stranger.plugin("0.2.0"))
    installed.run("update", expect=7)
    assert installed.json("update").row["outcome"] == "current"
    stranger.trusted_by(installed)
    assert installed.json("update").row["outcome"] == "trial"


def test_the_payload_of_a_refused_version_is_never_asked_for(
    installed: Machine, publisher: Publisher, docker: CountedRegistry, tmp_path: Path
) -> None:
    """Signature before code: only of what is believed the payload's blob is fetched."""
    digest = push_forged(installed, tmp_path, "0.4.0")
    docker.requests()
    installed.run("update", expect=7)
    assert not [path for _, path in docker.requests() if digest in path]
    pushed = publisher.release("0.4.1", sample="0.4.0")
    assert installed.json("resolve", f"{PLUGIN_ID}:0.4.1").document["digest"] == pushed["digest"]
    docker.requests()
    installed.run("update")
    asked = docker.requests()
    assert [(method, path) for method, path in asked if digest in path] == [
        ("GET", f"/v2/{name_of(installed)}/blobs/{digest}")
    ]


def name_of(machine: Machine, plugin_id: str = PLUGIN_ID) -> str:
    """The repository's name at the registry."""
    assert machine.registry is not None
    return f"{machine.registry.partition('/')[2]}/{plugin_id}"


def tags_of(machine: Machine, plugin_id: str = PLUGIN_ID) -> str:
    """The path that lists a plugin's tags."""
    return f"/v2/{name_of(machine, plugin_id)}/tags/list?n=1000"


# -- one request


def test_an_unchanged_check_is_one_request_for_each_plugin(
    installed: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """Versions: the list of tags. A channel: one HEAD. Nothing else, by ``check`` or ``update``."""
    publisher.release("0.1.0", plugin_id=OTHER_ID, stem="other")
    installed.run("pull", OTHER_ID)
    third = "org.example.third"
    publisher.release("0.1.0", "--tag", "stable", plugin_id=third, stem="third")
    installed.run("pull", f"{third}:stable")
    docker.requests()
    expected = [
        ("GET", tags_of(installed)),
        ("GET", tags_of(installed, OTHER_ID)),
        ("HEAD", f"/v2/{name_of(installed, third)}/manifests/stable"),
    ]
    for verb in ("check", "update"):
        rows = installed.json(verb).document["plugins"]
        assert len(rows) == 3
        assert docker.requests() == expected


# -- bad releases, found out at different times


def test_a_release_that_fails_its_probe_is_rejected_and_not_tried_again(
    installed: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """0.3.0's health function says no: exit 9, nothing changed; the next run leaves it alone."""
    publisher.release("0.3.0")
    before = installed.snapshot()
    row = installed.json("update", expect=9).row
    assert (row["outcome"], row["step"], row["from"]) == ("refused", "probe", "0.1.0")
    assert installed.snapshot() == before
    docker.requests()
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "0.3.0: rejected" in again["detail"]
    assert len(docker.requests()) == 1
    planned = installed.json("check").row
    assert (planned["action"], planned["candidate"]) == ("none", None)
    (rejected,) = installed.json("why", PLUGIN_ID).document["rejected"]
    assert rejected["version"] == "0.3.0"
    installed.run("pull", f"{PLUGIN_ID}:0.3.0", expect=9)
    assert installed.snapshot() == before


def test_a_release_that_traps_once_live_is_rolled_back_by_an_open_host(
    installed: Machine, publisher: Publisher
) -> None:
    """0.4.0 passes its probe, traps three times in a host on trial: back at once, and rejected."""
    publisher.release("0.4.0")
    with PluginHost(home=installed.home) as host:
        host.load_plugin(f"{STEM}.wasm")
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
        assert installed.json("update").row["outcome"] == "trial"
        host_sees(host, installed, "0.4.0")
        for _ in range(3):
            with pytest.raises(GuestTrap):
                host.call_plugin("run", ["Jane"], plugin=PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
        assert installed.version() == "0.1.0"
    events = [event["event"] for event in installed.json("history", PLUGIN_ID).document["events"]]
    assert events == ["activated", "committed", "activated", "rolled back"]
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "rejected" in again["detail"]
    named = installed.json("pull", f"{PLUGIN_ID}:0.4.0").row
    assert named["outcome"] == "trial"


def host_sees(host: PluginHost, machine: Machine, version: str) -> None:
    """Have a host look at ``current`` now, and not when its last look is 100 ms old."""
    assert machine.version() == version
    host._served[PLUGIN_ID].follow(now=True)


def test_failures_of_single_calls_end_a_trial_too(installed: Machine, publisher: Publisher) -> None:
    """Each ``agent call`` records its failure and judges: the third one turns back."""
    publisher.release("0.4.0")
    installed.run("update")
    for _ in range(2):
        installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
        assert installed.version() == "0.4.0"
    installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
    assert installed.version() == "0.1.0"
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


def test_waiting_for_a_bad_release_ends_with_9(installed: Machine, publisher: Publisher) -> None:
    """``pull --wait``: reverted by others' failing calls, it says rolled_back and why, exit 9."""
    publisher.release("0.4.0")
    with installed.popen("pull", PLUGIN_ID, "--wait", "--format", "json") as waiting:
        assert waiting.stderr is not None
        assert "waiting for its probation" in waiting.stderr.readline()
        for _ in range(3):
            installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 9
    (row,) = json.loads(out)["plugins"]
    assert (row["outcome"], row["to"]) == ("rolled_back", "0.4.0")


# -- what waits


def test_an_update_that_asks_for_more_waits_for_consent(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` reports it pending with 0, naming it is 8, ``pull`` is 8; granted, it is taken."""
    publisher.release("0.2.0", edit=RETRIEVAL)
    before = installed.snapshot()
    row = installed.json("update").row
    assert (row["outcome"], row["step"], row["to"]) == ("pending", "consent", "0.2.0")
    assert "retrieval" in row["detail"]
    planned = installed.json("check").row
    assert (planned["action"], planned["candidate"]) == ("wait", "0.2.0")
    named = installed.json("update", PLUGIN_ID, expect=8)
    assert named.row["outcome"] == "pending"
    assert f"agent grant {PLUGIN_ID} retrieval" in named.err
    assert installed.json("pull", PLUGIN_ID, expect=8).row["outcome"] == "pending"
    assert installed.snapshot() == before
    installed.run("grant", PLUGIN_ID, "retrieval")
    assert installed.json("update").row["outcome"] == "trial"


def test_a_denial_is_a_decision_too(installed: Machine, publisher: Publisher) -> None:
    """An operator who has denied the capability takes the update without it."""
    publisher.release("0.2.0", edit=RETRIEVAL)
    installed.run("deny", PLUGIN_ID, "retrieval")
    assert installed.json("update").row["outcome"] == "trial"
    rows = {r["capability"]: r for r in installed.json("grants", PLUGIN_ID).document["grants"]}
    assert (rows["retrieval"]["requested"], rows["retrieval"]["granted"]) == (True, False)


def test_a_first_install_warns_of_what_is_not_granted(
    machine: Machine, publisher: Publisher
) -> None:
    """It proceeds with what is granted, and says what is not."""
    publisher.release("0.1.0", edit=RETRIEVAL)
    ran = machine.json("pull", PLUGIN_ID)
    assert ran.row["outcome"] == "committed"
    assert "retrieval" in ran.err


@pytest.mark.parametrize(
    ("update", "section", "reason"),
    [
        ("", 'hold_until = "forever"', "held"),
        ("", "hold_until = 2099-01-01T00:00:00Z", "held"),
        ('cooldown = "7d"', "", "cooldown"),
    ],
)
def test_held_and_cooling_updates_wait(
    installed: Machine, publisher: Publisher, update: str, section: str, reason: str
) -> None:
    """A hold and a cooldown bind ``update``: pending with 0, 8 where named; never ``pull``."""
    publisher.release("0.2.0")
    installed.configure(f'[plugins."{PLUGIN_ID}"]\n{section}\n', update=update)
    before = installed.snapshot()
    row = installed.json("update").row
    assert row["outcome"] == "pending"
    assert reason in row["detail"]
    planned = installed.json("check").row
    assert (planned["action"], planned["candidate"]) == ("wait", "0.2.0")
    assert planned["reason"].startswith(reason)
    assert installed.json("update", PLUGIN_ID, expect=8).row["outcome"] == "pending"
    assert installed.snapshot() == before
    assert installed.json("pull", f"{PLUGIN_ID}:0.2.0").row["outcome"] == "trial"


def test_a_constraint_bounds_what_is_taken(installed: Machine, publisher: Publisher) -> None:
    """The highest version that it admits; the others are named with the reason."""
    publisher.release("0.1.4")
    publisher.release("0.2.0")
    installed.configure(f'[plugins."{PLUGIN_ID}"]\nconstraint = "~0.1"\n', probation="0s")
    row = installed.json("update").row
    assert (row["to"], row["outcome"]) == ("0.1.4", "committed")
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "constraint" in again["detail"]


def test_pre_releases_are_taken_only_when_asked_for(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` passes 0.2.0-rc.1 over; naming it takes it."""
    publisher.release("0.2.0-rc.1", sample="0.2.0")
    assert installed.json("update").row["outcome"] == "current"
    row = installed.json("pull", f"{PLUGIN_ID}:0.2.0-rc.1").row
    assert (row["to"], row["outcome"]) == ("0.2.0-rc.1", "trial")


def test_a_plugin_on_trial_is_left_alone_unless_named(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` reports the trial as pending; named, it goes on past a trial that is over."""
    publisher.release("0.2.0")
    installed.run("update")
    publisher.release("0.2.1", sample="0.2.0")
    row = installed.json("update").row
    assert (row["outcome"], row["step"]) == ("pending", "trial")
    named = installed.json("update", PLUGIN_ID).row
    assert (named["from"], named["to"], named["outcome"]) == ("0.2.0", "0.2.1", "trial")
    assert installed.json("rollback", PLUGIN_ID).row["to"] == "0.1.0"


def hours_later(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Let the following verbs run so much later."""
    clock = functools.partial(_shifted, 3600 * hours)
    monkeypatch.setattr(agent_context, "Context", functools.partial(Context, clock=clock))


def _shifted(seconds: int) -> float:
    return time.time() + seconds


def test_an_update_run_ends_a_trial_whose_time_is_over(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``list`` says that it is due and changes nothing; ``update`` commits it and goes on."""
    publisher.release("0.2.0")
    installed.run("update")
    hours_later(monkeypatch, 1)
    row = installed.json("list").row
    assert (row["state"], row["due"]) == ("trial", True)
    assert "trial (due)" in installed.run("list").out
    assert installed.json("update", "--dry-run").row["outcome"] == "pending"
    assert installed.json("list").row["state"] == "trial"
    publisher.release("0.2.1", sample="0.2.0")
    row = installed.json("update").row
    assert (row["from"], row["to"], row["outcome"]) == ("0.2.0", "0.2.1", "trial")
    assert installed.json("info", PLUGIN_ID).row["floor"] == "0.2.0"


def test_an_update_run_ends_a_trial_that_went_badly(
    installed: Machine, publisher: Publisher
) -> None:
    """Failures that nobody has judged yet: the run goes back, says rolled_back, ends with 9."""
    release = publisher.release("0.4.0")["release"]
    installed.run("update")
    ledger = Ledger(installed.home / "state" / "state.db")
    ledger.add_samples([(PLUGIN_ID, release, int(time.time() // 60), Samples(calls=3, failures=3))])
    ledger.close()
    ran = installed.json("update", expect=9)
    assert (ran.row["from"], ran.row["to"]) == ("0.4.0", "0.1.0")
    assert (ran.row["outcome"], ran.row["step"]) == ("rolled_back", "rollback")
    assert "3 of 3 calls failed" in ran.err
    assert installed.version() == "0.1.0"


def test_a_cooldown_ends(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is taken once it has been seen for as long as the cooldown says."""
    publisher.release("0.2.0")
    installed.configure(update='cooldown = "2h"')
    assert installed.json("update").row["outcome"] == "pending"
    hours_later(monkeypatch, 1)
    assert installed.json("update").row["outcome"] == "pending"
    hours_later(monkeypatch, 2)
    assert installed.json("update").row["outcome"] == "trial"


def test_a_namespace_rule_moves_where_updates_come_from(
    installed: Machine, publisher: Publisher
) -> None:
    """Remembered is where a plugin came from, unless a rule of the operator's says otherwise."""
    publisher.release("0.2.0")
    mirror = f"{installed.registry}/mirror"
    publisher.push(publisher.plugin("0.3.1", sample="0.2.0"), "--registry", mirror)
    installed.configure(probation="0s")
    assert installed.json("update").row["to"] == "0.2.0"
    installed.configure(f'[registry.namespaces]\n"org.example" = "{mirror}"\n', probation="0s")
    assert installed.json("update").row["to"] == "0.3.1"
    assert installed.json("list").row["source"] == f"{mirror}/{PLUGIN_ID}"


# -- going down, and looking without touching


def test_going_below_the_floor_is_asked_for_by_name(
    installed: Machine, publisher: Publisher
) -> None:
    """Below the highest committed version: 8, unless by rollback or ``--allow-downgrade``."""
    installed.configure(probation="0s")
    publisher.release("0.2.0")
    installed.run("update")
    refused = installed.json("pull", f"{PLUGIN_ID}:0.1.0", expect=8)
    assert "--allow-downgrade" in refused.err
    row = installed.json("pull", f"{PLUGIN_ID}:0.1.0", "--allow-downgrade").row
    assert (row["from"], row["to"], row["outcome"]) == ("0.2.0", "0.1.0", "committed")
    assert installed.json("info", PLUGIN_ID).row["floor"] == "0.2.0"
    back = installed.json("rollback", PLUGIN_ID, "--to", "0.2.0").row
    assert (back["from"], back["to"], back["outcome"]) == ("0.1.0", "0.2.0", "rolled_back")


def test_there_is_nothing_to_roll_back_to(installed: Machine) -> None:
    """After a first install, and of a plugin that is not there: 3."""
    before = installed.snapshot()
    assert installed.json("rollback", PLUGIN_ID, expect=3).row["outcome"] == "failed"
    installed.run("rollback", PLUGIN_ID, "--to", "0.0.1", expect=3)
    installed.run("rollback", OTHER_ID, expect=3)
    assert installed.snapshot() == before


def test_a_rollback_to_what_is_no_longer_trusted_fails(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The release to go back to was signed by a key revoked since: 10, and what serves stays."""
    old = Publisher(machine, tmp_path / "old", "old")
    old.trusted_by(machine)
    old.push(old.plugin("0.1.0"))
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.2.0")
    machine.run("update")
    machine.run("trust", "revoke", old.key_id, "--reason", "stolen")
    before = machine.snapshot()
    ran = machine.json("rollback", PLUGIN_ID, expect=10)
    assert ran.row["outcome"] == "failed"
    assert "revoked" in ran.err
    assert machine.snapshot() == before


def test_dry_runs_change_nothing(installed: Machine, publisher: Publisher) -> None:
    """Of every verb that changes something, ``--dry-run`` says what it would do, and does not."""
    installed.configure(probation="0s")
    publisher.release("0.2.0")
    installed.run("update")
    publisher.release("0.2.1", sample="0.2.0")
    store = installed.home / "config" / "trusted_keys.toml"
    before, trusted = installed.snapshot(), store.read_bytes()
    grants = installed.json("grants", PLUGIN_ID).out
    assert installed.json("update", "--dry-run").row["outcome"] == "planned"
    assert installed.json("pull", PLUGIN_ID, "--dry-run").row["outcome"] == "planned"
    assert installed.json("rollback", PLUGIN_ID, "--dry-run").row["outcome"] == "planned"
    installed.run("prune", "--dry-run")
    installed.run("grant", PLUGIN_ID, "retrieval", "--dry-run")
    installed.run("deny", PLUGIN_ID, "log", "--dry-run")
    installed.run("trust", "revoke", publisher.key_id, "--reason", "x", "--dry-run")
    folder = publisher.plugin("0.3.0")
    installed.run("push", folder, "--key", publisher.key, "--dry-run")
    assert not (folder / f"{STEM}.sig").exists()
    assert installed.json("tags", PLUGIN_ID).document["versions"] == ["0.2.1", "0.2.0", "0.1.0"]
    assert installed.snapshot() == before
    assert store.read_bytes() == trusted
    assert installed.json("grants", PLUGIN_ID).out == grants


def test_a_release_is_staged_without_being_activated(
    installed: Machine, publisher: Publisher
) -> None:
    """``pull --no-activate``: probed and sealed, not serving; the next pull makes it serve."""
    publisher.release("0.2.0")
    row = installed.json("pull", PLUGIN_ID, "--no-activate").row
    assert (row["from"], row["to"], row["outcome"]) == ("0.1.0", "0.2.0", "staged")
    assert installed.version() == "0.1.0"
    assert installed.json("list").row["state"] == "active"
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "trial"
    assert installed.version() == "0.2.0"


def test_check_says_by_its_exit_code_whether_there_are_updates(
    installed: Machine, publisher: Publisher
) -> None:
    """``check --exit-code``: 0 without, 100 with; it changes nothing."""
    installed.run("check", "--exit-code")
    publisher.release("0.2.0")
    before = installed.snapshot()
    installed.run("check", "--exit-code", expect=100)
    installed.run("check")
    assert installed.snapshot() == before


# -- channels and digests


def test_a_channel_is_followed(installed: Machine, publisher: Publisher) -> None:
    """Pulled by channel, a plugin goes where the channel goes, not to the newest version."""
    installed.configure(probation="0s")
    publisher.release("0.1.1", "--tag", "stable", sample="0.1.0")
    publisher.release("0.2.0")
    row = installed.json("pull", f"{PLUGIN_ID}:stable").row
    assert (row["to"], row["outcome"]) == ("0.1.1", "committed")
    assert installed.json("update").row["outcome"] == "current"
    publisher.release("0.1.2", "--tag", "stable", sample="0.1.0")
    assert installed.json("check").row["candidate"] == "0.1.2"
    assert installed.json("update").row["to"] == "0.1.2"
    assert installed.json("info", PLUGIN_ID).row["channel"] == "stable"
    # A version pulled by name ends that.
    assert installed.json("pull", f"{PLUGIN_ID}:0.2.0").row["outcome"] == "committed"


def test_a_digest_is_fetched_by_itself(
    machine: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """``ID:VERSION@sha256:…`` fetches the digest only; the tag isn't asked."""
    pushed = publisher.release("0.1.0")
    docker.requests()
    row = machine.json("pull", f"{PLUGIN_ID}:0.1.0@{pushed['digest']}").row
    assert (row["to"], row["digest"]) == ("0.1.0", pushed["digest"])
    manifests = [path for _, path in docker.requests() if "/manifests/" in path]
    assert manifests == [f"/v2/{name_of(machine)}/manifests/{pushed['digest']}"]
    publisher.release("0.2.0")
    assert machine.json("update").row["to"] == "0.2.0"


def test_a_digest_that_differs_from_the_version_is_refused(
    machine: Machine, publisher: Publisher
) -> None:
    """``ID:0.2.0@DIGEST of 0.1.0``: 6."""
    pushed = publisher.release("0.1.0")
    machine.run("pull", f"{PLUGIN_ID}:0.2.0@{pushed['digest']}", expect=6)
    assert machine.version() is None


def test_a_moved_tag_of_the_installed_version_is_reported_by_check(
    installed: Machine, publisher: Publisher
) -> None:
    """Bytes that are named by hand are taken, as a moved tag's hint says."""
    moved = publisher.push(publisher.plugin("0.1.0", sample="0.2.0"), "--force")
    refused = installed.json("pull", f"{PLUGIN_ID}:0.1.0", expect=8)
    assert f"{PLUGIN_ID}@{moved['digest']}" in refused.err
    row = installed.json("pull", f"{PLUGIN_ID}@{moved['digest']}").row
    assert (row["outcome"], row["release"]) == ("trial", moved["release"])


# -- the system's plugins


def test_system_plugins_run_in_place_and_are_shadowed(
    machine: Machine, publisher: Publisher
) -> None:
    """A signed set in the system's folder runs there; the user's copy of its id shadows it."""
    system = machine.home / "system"
    system.mkdir()
    folder = publisher.plugin("0.1.0")
    machine.run("sign", folder, "--key", publisher.key)
    for file in folder.iterdir():
        shutil.copy(file, system)
    row = machine.json("list").row
    assert (row["source"], row["path"], row["version"]) == ("system", str(system), "0.1.0")
    planned = machine.json("check").row
    assert (planned["action"], planned["candidate"]) == ("system", None)
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    assert machine.json("update").document["plugins"] == []
    assert not machine.plugins.exists()
    publisher.release("0.2.0")
    machine.run("pull", PLUGIN_ID)
    own = machine.json("list").row
    assert (own["version"], own["shadows"]) == ("0.2.0", str(system))
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out != "Hello, Jane"


def test_a_system_plugin_that_is_not_believed_does_not_run(
    machine: Machine, publisher: Publisher
) -> None:
    """Without a ``.sig`` it is no plugin; signed by a stranger it is broken, and refused."""
    system = machine.home / "system"
    shutil.copytree(publisher.plugin("0.1.0"), system)
    machine.run("call", PLUGIN_ID, "run", "Jane", expect=3)
    assert machine.json("list").document["plugins"] == []
    stranger = Publisher(machine, publisher.folder.parent / "stranger", "stranger")
    machine.run("sign", system, "--key", stranger.key)
    assert machine.json("list").row["state"] == "broken"
    machine.run("call", PLUGIN_ID, "run", "Jane", expect=7)


# -- several at once


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
    import agent.rollback
    import agent.update

    publisher.release("0.2.0")
    before = installed.snapshot()
    for module in (agent_context, agent.update, agent.rollback, change):
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


def test_a_plugin_that_is_not_installed_is_not_updated(installed: Machine) -> None:
    """Naming it is 3, beside another 12."""
    assert installed.json("update", OTHER_ID, expect=3).row["outcome"] == "failed"
    installed.run("update", OTHER_ID, PLUGIN_ID, expect=12)


def test_old_releases_are_pruned(installed: Machine, publisher: Publisher) -> None:
    """``update.keep`` releases stay, what serves among them."""
    installed.configure(probation="0s", update="keep = 2")
    for version in ("0.1.1", "0.1.2", "0.1.3"):
        publisher.release(version)
        installed.run("update")
    assert installed.json("info", PLUGIN_ID).row["kept"] == ["0.1.3", "0.1.2"]
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
