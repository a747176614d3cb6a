"""Down, aside and by name: downgrades, dry runs, channels, digests, the system's plugins."""

import shutil
from pathlib import Path

import pytest

from support.system import (
    PLUGIN_ID,
    STEM,
    CountedRegistry,
    Machine,
    Publisher,
)

RETRIEVAL = {'["log"]': '["log", "retrieval"]'}
OTHER_ID = "org.example.other"


def name_of(machine: Machine, plugin_id: str = PLUGIN_ID) -> str:
    """The repository's name at the registry."""
    assert machine.registry is not None
    return f"{machine.registry.partition('/')[2]}/{plugin_id}"


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


@pytest.mark.parametrize("part", ["wasm", "toml"])
def test_a_rollback_to_broken_bytes_says_so(
    installed: Machine, publisher: Publisher, part: str
) -> None:
    """Not whom to trust, but what broke, and how it is fetched anew: 10, what serves stays."""
    publisher.release("0.2.0")
    installed.configure(probation="0s")
    installed.run("update")
    (old,) = (installed.plugins / ".store" / PLUGIN_ID).glob("0.1.0-*")
    broken = old / f"{STEM}.{part}"
    broken.chmod(0o644)
    broken.write_bytes(broken.read_bytes() + b"\n")
    before = installed.snapshot()
    ran = installed.json("rollback", PLUGIN_ID, expect=10)
    assert f"the files in {old} were changed" in ran.err
    assert "trust" not in ran.err
    assert f"agent pull {PLUGIN_ID}:0.1.0 --allow-downgrade" in ran.err
    assert installed.snapshot() == before
    assert installed.json("pull", f"{PLUGIN_ID}:0.1.0", "--allow-downgrade").row["to"] == "0.1.0"
    assert installed.json("list").row["state"] == "active"


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


def test_a_probe_that_fails_never_rejects_what_a_trial_goes_back_to(
    installed: Machine, publisher: Publisher
) -> None:
    """The release before is named, and its health call fails now: it stays a way back."""
    publisher.release("0.2.0")
    installed.run("update")
    installed.configure("[limits]\nfuel_units = 1\n")
    installed.run("pull", f"{PLUGIN_ID}:0.1.0", expect=9)
    assert installed.json("info", PLUGIN_ID).row["rejected"] == []
    installed.configure()
    assert installed.json("rollback", PLUGIN_ID).row["to"] == "0.1.0"
