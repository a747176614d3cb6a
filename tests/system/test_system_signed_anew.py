"""The same release once more: signed by another key, or its broken bytes made whole."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from agent.host import PluginHost
from support.system import PLUGIN_ID, STEM, Machine, Publisher, opened, push_by_hand


class Rotation:
    """A release signed by one key, that serves, and the same release signed by another."""

    def __init__(self, folder: Path) -> None:
        self.offers = f"oci:{folder / 'offers'}"
        self.machine = Machine(folder / "home", self.offers)
        self.old = Publisher(self.machine, folder / "old", name="old")
        self.new = Publisher(self.machine, folder / "new", name="new")
        for publisher in (self.old, self.new):
            publisher.trusted_by(self.machine)
        self.plugin = self.old.plugin("0.1.0")
        self.repository = opened(f"{self.offers}/{PLUGIN_ID}", folder)
        self.push(self.old)
        self.machine.run("pull", PLUGIN_ID)

    def push(self, publisher: Publisher) -> str:
        """Let the version's tag name the release as this publisher signs it."""
        artifact = publisher.artifact(self.plugin)
        return push_by_hand(self.repository, artifact, tag="0.1.0").digest

    def sealed(self, part: str) -> Path:
        """A file of what serves."""
        return self.machine.plugins / ".store" / PLUGIN_ID / "current" / f"{STEM}.{part}"

    def spoil(self, part: str) -> None:
        """Break a sealed file, as a disk does."""
        path = self.sealed(part)
        path.chmod(0o644)
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    def check_whole(self) -> None:
        """What serves is active, sealed, and copied."""
        assert self.machine.json("list").row["state"] == "active"
        for part in ("wasm", "sig", "toml"):
            flat = self.machine.plugins / f"{STEM}.{part}"
            assert flat.read_bytes() == self.sealed(part).read_bytes()
            assert stat.S_IMODE(self.sealed(part).stat().st_mode) == 0o444
        assert stat.S_IMODE(self.sealed("wasm").parent.stat().st_mode) == 0o555
        assert self.machine.run("call", PLUGIN_ID, "run", "Jane").out

    def check_rotated(self, detail: str) -> None:
        """The other key signs what serves, and that was written down; no trial was opened."""
        assert detail == f"signature replaced: key {self.old.key_id} → {self.new.key_id}"
        row = self.machine.json("info", PLUGIN_ID).row
        assert (row["key_id"], row["trial_ends_at"]) == (self.new.key_id, None)
        lines = self.machine.json("audit", "show").document["lines"]
        assert [line["outcome"] for line in lines][-2:] == ["resealing", "resealed"]
        assert lines[-1]["key_id"] == self.new.key_id
        self.check_whole()


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    """The old signature serves."""
    return Rotation(tmp_path)


@pytest.mark.parametrize(
    "arguments", [("pull", PLUGIN_ID), ("pull", f"{PLUGIN_ID}:0.1.0")], ids=["id", "version"]
)
def test_a_release_signed_anew_is_sealed_anew(
    rotation: Rotation, arguments: tuple[str, ...]
) -> None:
    """By the version's tag, moved to the same release: no update, and no trial."""
    digest = rotation.push(rotation.new)
    row = rotation.machine.json(*arguments).row
    assert (row["outcome"], row["digest"]) == ("current", digest)
    rotation.check_rotated(row["detail"])
    assert rotation.machine.json("list").row["digest"] == digest
    again = rotation.machine.json(*arguments).row
    assert (again["outcome"], "replaced" in again["detail"]) == ("current", False)


@pytest.mark.parametrize("verb", ["pull", "update"])
def test_what_a_revoked_key_signed_comes_back_under_the_new_one(
    rotation: Rotation, verb: str
) -> None:
    """Nothing newer is there, and yet both verbs find the re-signed one; an open host serves it."""
    machine = rotation.machine
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        machine.run("trust", "revoke", rotation.old.key_id, "--reason", "lost")
        assert machine.json("list").row["state"] == "broken"
        rotation.push(rotation.new)
        row = machine.json(verb, PLUGIN_ID).row
        rotation.check_rotated(row["detail"])
        host.load_installed(PLUGIN_ID)
        assert host.call("run", ["Jane"], plugin=PLUGIN_ID).value


class TestOnTrial:
    """0.2.0 is on trial, and the key that signed it was revoked: hosts refuse it."""

    @pytest.fixture
    def trial(self, rotation: Rotation) -> Rotation:
        """The old key signed both releases."""
        rotation.plugin = rotation.old.plugin("0.2.0")
        push_by_hand(rotation.repository, rotation.old.artifact(rotation.plugin), tag="0.2.0")
        assert rotation.machine.json("update").row["outcome"] == "trial"
        rotation.machine.run("trust", "revoke", rotation.old.key_id, "--reason", "lost")
        assert rotation.machine.json("list").row["state"] == "broken"
        return rotation

    def test_it_is_signed_anew_by_an_update_run(self, trial: Rotation) -> None:
        """The trial keeps nobody from what puts it right, and goes on; ``check`` foresees it."""
        machine = trial.machine
        push_by_hand(trial.repository, trial.new.artifact(trial.plugin), tag="0.2.0")
        planned = machine.json("check").row
        assert planned["action"] == "update"
        assert "its signature would be replaced" in planned["reason"]
        ends_at = machine.json("info", PLUGIN_ID).row["trial_ends_at"]
        row = machine.json("update").row
        assert row["detail"].startswith("signature replaced")
        info = machine.json("info", PLUGIN_ID).row
        assert (info["state"], info["trial_ends_at"]) == ("trial", ends_at)
        # Believed, it is left alone again.
        row = machine.json("update").row
        assert (row["outcome"], row["step"]) == ("pending", "trial")

    def test_a_newer_release_takes_its_place(self, trial: Rotation) -> None:
        """One that is believed, by an update run that names nothing."""
        machine = trial.machine
        newer = trial.new.plugin("0.4.0")
        push_by_hand(trial.repository, trial.new.artifact(newer), tag="0.4.0")
        assert machine.json("check").row["candidate"] == "0.4.0"
        row = machine.json("update").row
        assert (row["to"], row["outcome"]) == ("0.4.0", "trial")

    def test_without_anything_better_the_trial_waits_on(self, trial: Rotation) -> None:
        """The registry does not have the release any more: it ends as any other does."""
        index = Path(trial.offers.removeprefix("oci:")) / PLUGIN_ID / "index.json"
        document = json.loads(index.read_bytes())
        document["manifests"] = document["manifests"][:1]
        index.write_text(json.dumps(document), encoding="utf-8")
        assert trial.repository.tags() == ("0.1.0",)
        row = trial.machine.json("update").row
        assert (row["outcome"], row["step"]) == ("pending", "trial")
        assert trial.machine.json("check").row["reason"].startswith("trial: ")


def test_a_signature_replaced_by_hand_is_sealed_anew(rotation: Rotation, tmp_path: Path) -> None:
    """Only the flat ``.sig`` is another, and valid; one that is not stays and is told."""
    machine = rotation.machine
    flat = machine.plugins / f"{STEM}.sig"
    stranger = Publisher(machine, tmp_path / "stranger", name="stranger")
    shutil.copytree(rotation.plugin, tmp_path / "copy")
    machine.run("sign", tmp_path / "copy", "--key", stranger.key)
    shutil.copy(tmp_path / "copy" / flat.name, flat)
    assert "cannot trust" in machine.json("update").err
    assert machine.json("info", PLUGIN_ID).row["key_id"] == rotation.old.key_id
    machine.run("sign", tmp_path / "copy", "--key", rotation.new.key)
    shutil.copy(tmp_path / "copy" / flat.name, flat)
    told = machine.json("update").err
    rotation.check_rotated(told.partition("drop-in current: ")[2].strip())


def test_a_tag_moved_to_other_bytes_is_refused_still(rotation: Rotation) -> None:
    """Another release at the version's tag is no rotation: 8, and what serves stays."""
    other = rotation.new.plugin("0.1.0", extra="# other bytes\n")
    push_by_hand(rotation.repository, rotation.new.artifact(other), tag="0.1.0")
    ran = rotation.machine.json("pull", f"{PLUGIN_ID}:0.1.0", expect=8)
    assert "the tag was moved" in ran.err
    assert rotation.machine.json("info", PLUGIN_ID).row["key_id"] == rotation.old.key_id


def test_a_channel_follows_a_rotation(rotation: Rotation) -> None:
    """The channel names another manifest of the release that serves: its signature is taken."""
    machine = rotation.machine
    push_by_hand(rotation.repository, rotation.old.artifact(rotation.plugin), tag="stable")
    machine.configure(f'[plugins."{PLUGIN_ID}"]\nchannel = "stable"\n')
    assert machine.json("update").row["outcome"] == "current"
    push_by_hand(rotation.repository, rotation.new.artifact(rotation.plugin), tag="stable")
    rotation.check_rotated(machine.json("update").row["detail"])


@pytest.mark.parametrize("part", ["wasm", "sig", "toml"])
def test_broken_bytes_are_mended_by_pulling_again(rotation: Rotation, part: str) -> None:
    """``list`` says broken; the files that differ are replaced, and a host takes it up again."""
    rotation.spoil(part)
    machine = rotation.machine
    assert machine.json("list").row["state"] == "broken"
    row = machine.json("pull", PLUGIN_ID).row
    assert (row["outcome"], row["detail"]) == ("current", f"mended: {STEM}.{part}")
    rotation.check_whole()
    assert machine.json("pull", PLUGIN_ID).row["detail"] != row["detail"]


def test_a_dry_run_mends_nothing(rotation: Rotation) -> None:
    """It says what would be done."""
    rotation.spoil("wasm")
    machine = rotation.machine
    before = machine.snapshot()
    row = machine.json("pull", PLUGIN_ID, "--dry-run").row
    assert (row["outcome"], row["detail"]) == ("planned", "would be mended")
    assert machine.snapshot() == before


def test_whole_flat_copies_mend_what_is_sealed(rotation: Rotation) -> None:
    """A good copy of the release that serves is put there again: the sealed file is mended."""
    rotation.spoil("wasm")
    flat = rotation.machine.plugins / f"{STEM}.wasm"
    shutil.copy(rotation.plugin / flat.name, flat)
    assert f"mended: {STEM}.wasm" in rotation.machine.json("update").err
    rotation.check_whole()


def test_a_release_that_was_never_taken_may_be_signed_anew(
    rotation: Rotation,
) -> None:
    """It was believed while it waited: what its tag named is known by the release."""
    plugin = rotation.old.plugin("0.2.0", edit={'["log"]': '["log", "retrieval"]'})
    for publisher in (rotation.old, rotation.new):
        artifact = publisher.artifact(plugin)
        push_by_hand(rotation.repository, artifact, tag="0.2.0")
        rotation.machine.run("pull", PLUGIN_ID, expect=8)
    rotation.machine.run("grant", PLUGIN_ID, "retrieval")
    assert rotation.machine.json("update").row["to"] == "0.2.0"
    assert rotation.machine.json("info", PLUGIN_ID).row["key_id"] == rotation.new.key_id
