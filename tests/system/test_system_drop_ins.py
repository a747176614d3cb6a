"""Drop-ins: files that somebody copied into the plugin folder, by the command line and a host."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.context import Context, Options
from agent.files import Files
from agent.host import PluginHost
from agent.pipeline.dropins import DropIns
from agent.telemetry import Telemetry
from agent.tree.flat import Examined, FlatSets
from support.states import CODES
from support.system import PLUGIN_ID, STEM, Machine, Publisher
from trust import load_private

OTHER_ID, OTHER_STEM = "org.example.other", "other-plugin"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose registry holds 0.1.0."""
    return Machine(tmp_path / "home", f"oci:{tmp_path / 'offers'}")


@pytest.fixture
def publisher(machine: Machine, tmp_path: Path) -> Publisher:
    """Whom the machine believes."""
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    publisher.release("0.1.0")
    return publisher


def signed(publisher: Publisher, version: str, **settings: Any) -> Path:
    """A signed folder of a plugin."""
    folder = publisher.plugin(version, **settings)
    publisher.machine.run("sign", folder, "--key", publisher.key)
    return folder


def drop(machine: Machine, folder: Path, stem: str = STEM, parts: str = "wasm sig toml") -> None:
    """Copy a set into the plugin folder, as people do."""
    machine.plugins.mkdir(parents=True, exist_ok=True)
    for part in parts.split():
        shutil.copy(folder / f"{stem}.{part}", machine.plugins)


def flat(machine: Machine, stem: str = STEM) -> dict[str, bytes]:
    """The flat files of a stem."""
    return {path.name: path.read_bytes() for path in sorted(machine.plugins.glob(f"{stem}.*"))}


def audited(machine: Machine) -> list[str]:
    """The outcomes in the audit log."""
    lines = machine.json("audit", "show").document["lines"]
    return [line["outcome"] for line in lines]


def test_a_drop_in_of_a_new_id_is_a_first_install(machine: Machine, publisher: Publisher) -> None:
    """It commits at once, is sealed, answers, and says what is not granted."""
    drop(machine, signed(publisher, "0.1.0", edit={'["log"]': '["log", "network"]'}))
    planned = machine.json("check").row
    assert (planned["current"], planned["candidate"], planned["action"]) == (
        None,
        "0.1.0",
        "update",
    )
    assert not machine.json("list").document["plugins"]
    ran = machine.json("update")
    assert (ran.row["outcome"], ran.row["from"], ran.row["to"]) == ("committed", None, "0.1.0")
    assert ran.row["digest"] is None
    assert "requests network, which nobody has granted" in ran.err
    (listed,) = machine.json("list").document["plugins"]
    assert (listed["state"], listed["digest"], listed["source"]) == ("active", None, "files")
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out
    assert machine.json("check").row["action"] == "none"
    assert machine.json("update").row["outcome"] == "current"


def test_a_drop_in_of_an_installed_id_is_an_update_on_trial(
    machine: Machine, publisher: Publisher
) -> None:
    """Old → new, on trial; the remembered repository stays; it ends as any trial."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(publisher, "0.2.0"))
    row = machine.json("update", PLUGIN_ID).row
    assert (row["outcome"], row["from"], row["to"]) == ("trial", "0.1.0", "0.2.0")
    publisher.release("0.4.0")
    assert machine.json("update", PLUGIN_ID).row["to"] == "0.4.0"
    machine.run("rollback", PLUGIN_ID)
    assert machine.version() == "0.1.0"
    held = machine.plugins / ".store" / PLUGIN_ID / "current" / f"{STEM}.toml"
    assert flat(machine)[f"{STEM}.toml"] == held.read_bytes()


@pytest.mark.parametrize("verb", ["pull", "update", "rollback", "prune", "call"])
def test_every_verb_that_changes_something_looks_first(
    machine: Machine, publisher: Publisher, verb: str
) -> None:
    """The drop-in was on trial before the verb did its own work."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(publisher, "0.2.0"))
    machine.run(verb, PLUGIN_ID, *(["run", "Jane"] if verb == "call" else []))
    events = machine.json("history", PLUGIN_ID).document["events"]
    assert ("activated", "0.2.0") in [(event["event"], event["version"]) for event in events]


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [(["check"], 0), (["list"], 0), (["why", PLUGIN_ID], 0), (["update", "--dry-run"], 0)],
)
def test_looking_never_takes(
    machine: Machine, publisher: Publisher, arguments: list[str], verb: int
) -> None:
    """Read-only verbs and dry runs change nothing at all."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(publisher, "0.2.0"))
    before = machine.snapshot()
    machine.run(*arguments, expect=verb)
    assert machine.snapshot() == before


@pytest.mark.usefixtures("publisher")
def test_a_refused_drop_in_stays_untouched_and_is_told_once(
    machine: Machine, tmp_path: Path
) -> None:
    """Forged: the old one serves, the files stay, one line is written; trust makes it good."""
    machine.run("pull", PLUGIN_ID)
    stranger = Publisher(machine, tmp_path / "stranger", name="stranger")
    drop(machine, signed(stranger, "0.2.0"))
    lying = flat(machine)
    told = machine.json("update")
    assert "drop-in refused" in told.err
    assert (told.row["outcome"], machine.version()) == ("current", "0.1.0")
    assert "drop-in" not in machine.json("update").err
    assert flat(machine) == lying
    assert audited(machine).count("refused") == 1
    row = machine.json("check").row
    assert row["action"] == "none"
    assert "drop-in 0.2.0: cannot trust" in row["reason"]
    stranger.trusted_by(machine)
    assert machine.json("update").row["to"] == "0.2.0"


def test_what_changes_while_it_is_judged_is_told_of_once_it_rests(
    machine: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are still being copied are looked at again, and would be refused twice."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, publisher.plugin("0.9.0"), parts="wasm toml")
    changes = [machine.plugins / f"{STEM}.toml"]
    examine = FlatSets.examine

    def copied_meanwhile(sets: FlatSets, stem: str) -> Examined | None:
        examined = examine(sets, stem)
        while changes:
            os.utime(changes.pop())
        return examined

    monkeypatch.setattr(FlatSets, "examine", copied_meanwhile)
    with contextlib.closing(Context(Options(home=machine.home), {})) as context:
        drop_ins = DropIns(context, Telemetry(""))
        assert [len(drop_ins.adopt()) for _ in range(3)] == [0, 1, 0]


def test_the_next_activation_refreshes_what_was_refused(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Refused files are other hosts' problem only until then."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(Publisher(machine, tmp_path / "s", name="stranger"), "0.3.0"))
    publisher.release("0.2.0")
    assert machine.json("update").row["to"] == "0.2.0"
    held = machine.plugins / ".store" / PLUGIN_ID / "current" / f"{STEM}.wasm"
    assert flat(machine)[f"{STEM}.wasm"] == held.read_bytes()


def test_a_half_copied_set_waits_for_the_rest(machine: Machine, publisher: Publisher) -> None:
    """Until the third file is there the old one serves, and nothing is overwritten."""
    machine.run("pull", PLUGIN_ID)
    folder = signed(publisher, "0.2.0")
    drop(machine, folder, parts="wasm sig")
    lying = flat(machine)
    assert "drop-in refused" in machine.json("update").err
    assert flat(machine) == lying
    assert machine.version() == "0.1.0"
    drop(machine, folder, parts="toml")
    assert machine.json("update").row["to"] == "0.2.0"


def test_a_stale_copy_is_refreshed_and_never_taken(machine: Machine, publisher: Publisher) -> None:
    """An old set that was copied back is no downgrade, one that was left no update."""
    machine.run("pull", PLUGIN_ID)
    old = flat(machine)
    publisher.release("0.2.0")
    machine.configure(probation="0s")
    machine.run("update")
    new = flat(machine)
    for name, data in old.items():
        (machine.plugins / name).write_bytes(data)
    assert machine.json("update").row["outcome"] == "current"
    assert (flat(machine), machine.version()) == (new, "0.2.0")
    machine.run("rollback", PLUGIN_ID)
    for name, data in new.items():
        (machine.plugins / name).write_bytes(data)
    machine.run("update")
    assert (flat(machine), machine.version()) == (old, "0.1.0")


@pytest.mark.parametrize("parts", ["wasm sig toml", "sig", "wasm toml"])
@pytest.mark.usefixtures("publisher")
def test_copies_that_somebody_removed_are_made_again(machine: Machine, parts: str) -> None:
    """What is left of ours is ours: the rest is put back."""
    machine.run("pull", PLUGIN_ID)
    before = flat(machine)
    for part in parts.split():
        (machine.plugins / f"{STEM}.{part}").unlink()
    machine.run("update")
    assert flat(machine) == before


def test_floor_and_rejection_bind_a_drop_in(machine: Machine, publisher: Publisher) -> None:
    """Below the highest committed version, or rejected here: 8, and untouched."""
    machine.configure(probation="0s")
    below = signed(publisher, "0.1.5")
    machine.run("pull", PLUGIN_ID)
    left = signed(publisher, "0.3.0", code=CODES["good"])
    publisher.push(left)
    publisher.release("0.2.0")
    machine.run("pull", f"{PLUGIN_ID}:0.2.0")
    drop(machine, below)
    assert "below the floor 0.2.0" in machine.json("update", PLUGIN_ID).err
    machine.run("pull", f"{PLUGIN_ID}:0.3.0")
    machine.run("rollback", PLUGIN_ID)
    machine.run("prune")
    drop(machine, left)
    assert "rejected here" in machine.json("update", PLUGIN_ID).err
    assert machine.version() == "0.2.0"


def test_consent_is_asked_for_a_drop_in(machine: Machine, publisher: Publisher) -> None:
    """Pending, untouched, shown as waiting; a grant lets it in."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(publisher, "0.2.0", edit={'["log"]': '["log", "network"]'}))
    lying = flat(machine)
    assert "drop-in pending" in machine.json("update").err
    assert "drop-in" not in machine.json("update").err
    assert flat(machine) == lying
    assert "consent" in machine.json("check").row["reason"]
    machine.run("deny", PLUGIN_ID, "network")
    assert machine.json("update").row["outcome"] == "trial"


def test_a_drop_in_never_takes_the_stem_of_another_id(
    machine: Machine, publisher: Publisher
) -> None:
    """8, stem-taken, before anything changes."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(publisher, "0.5.0", plugin_id=OTHER_ID))
    assert f"its stem {STEM} belongs to {PLUGIN_ID}" in machine.json("update").err
    assert [row["id"] for row in machine.json("list").document["plugins"]] == [PLUGIN_ID]
    assert not (machine.plugins / ".store" / OTHER_ID).exists()


def test_an_unhealthy_drop_in_is_rejected(machine: Machine, publisher: Publisher) -> None:
    """Its health call says no: the old one serves, and it is not tried again."""
    machine.run("pull", PLUGIN_ID)
    drop(
        machine,
        signed(publisher, "0.2.0", code=CODES["unhealthy"]),
    )
    assert "health returned 1" in machine.json("update").err
    assert machine.json("update").err == ""
    assert machine.version() == "0.1.0"
    assert machine.json("info", PLUGIN_ID).row["rejected"]


def put_bare(machine: Machine, folder: Path, key: Path) -> None:
    """Sign a plugin's code alone, and copy it into the plugin folder."""
    code = (folder / f"{OTHER_STEM}.wasm").read_bytes()
    signature = load_private(key).sign(code)
    (folder / f"{OTHER_STEM}.sig").write_text(signature.hex())
    drop(machine, folder, stem=OTHER_STEM)


def test_a_bare_drop_in_is_taken_and_never_updates_by_itself(
    machine: Machine, tmp_path: Path
) -> None:
    """Signed over its code alone, by a key that may; a version in the registry is left alone."""
    bare = Publisher(machine, tmp_path / "bare", name="bare")
    bare.trusted_by(machine, "org.bare.*", "--accept-bare", "--max-capability", "log")
    put_bare(machine, bare.plugin("0.1.0", plugin_id="org.bare.hello", stem=OTHER_STEM), bare.key)
    row = machine.json("update").row
    assert (row["id"], row["outcome"]) == ("org.bare.hello", "committed")
    assert machine.json("list").row["binding"] == "bare"
    assert "(binding: bare)" in machine.run("list").out
    assert "binding        bare" in machine.run("info", "org.bare.hello").out
    bare.release("0.2.0", plugin_id="org.bare.hello", stem=OTHER_STEM)
    assert machine.json("update").row["outcome"] == "current"
    assert "bare" in machine.json("check").row["reason"]
    assert machine.json("update", "org.bare.hello").row["to"] == "0.2.0"
    assert machine.json("list").row["binding"] == "v1"
    machine.run("trust", "revoke", bare.key_id, "--reason", "lost")
    assert machine.json("list").row["binding"] is None


@pytest.mark.parametrize("ceiling", [(), ("--max-capability", "log")], ids=["none", "log"])
def test_a_bare_drop_in_gets_only_what_its_keys_ceiling_lists(
    machine: Machine, tmp_path: Path, ceiling: tuple[str, ...]
) -> None:
    """Its manifest is not signed: what that asks for is not granted, whoever grants it."""
    bare = Publisher(machine, tmp_path / "bare", name="bare")
    bare.trusted_by(machine, "org.bare.*", "--accept-bare", *ceiling)
    machine.configure('[plugins."org.bare.hello"]\ngrants = ["fs_read"]\n')
    asking = bare.plugin(
        "0.1.0",
        plugin_id="org.bare.hello",
        stem=OTHER_STEM,
        edit={'["log"]': '["log", "fs_read"]'},
    )
    put_bare(machine, asking, bare.key)
    assert machine.json("update").row["outcome"] == "committed"
    with PluginHost(home=machine.home) as host:
        host.load_installed("org.bare.hello")
        effective = host._loaded.find("org.bare.hello").slot.current.effective
    assert set(effective) == {"log"}


def test_a_drop_in_that_no_registry_has_is_no_failed_update(
    machine: Machine, tmp_path: Path
) -> None:
    """Nobody remembers a repository for it: it is current."""
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    drop(machine, signed(publisher, "0.1.0"))
    machine.run("update")
    row = machine.json("update").row
    assert (row["outcome"], "came as files" in row["detail"]) == ("current", True)


class BusyFiles(Files):
    """A tree that another process holds, or that can't be written.

    Args:
        error: What taking its lock comes to.
    """

    def __init__(self, error: OSError) -> None:
        self._error = error

    @contextlib.contextmanager
    def lock(self, path: Path, *, timeout_s: float) -> Iterator[None]:
        """Wait for a bounded time, and give up."""
        assert path.name == ".lock"
        assert timeout_s < 1
        raise self._error
        yield


@pytest.mark.parametrize(
    "error", [TimeoutError("held"), OSError(errno.EROFS, "read-only")], ids=["busy", "read-only"]
)
def test_a_host_that_cannot_take_a_drop_in_serves_what_is_there(
    machine: Machine, publisher: Publisher, error: OSError
) -> None:
    """A bounded wait, no error: the drop-in waits for somebody who can."""
    machine.run("pull", PLUGIN_ID)
    drop(machine, signed(publisher, "0.2.0"))
    context = Context(Options(home=machine.home), environ={}, files=BusyFiles(error))
    with contextlib.closing(context), PluginHost(context=context) as host:
        assert host.discover() == (PLUGIN_ID,)
        assert host.call("run", ["Jane"], plugin=PLUGIN_ID).value
    assert machine.version() == "0.1.0"
    assert machine.json("update").row["to"] == "0.2.0"


def test_a_host_takes_drop_ins_when_it_discovers(machine: Machine, publisher: Publisher) -> None:
    """``discover()`` all, ``load_plugin`` the one of that stem."""
    drop(machine, signed(publisher, "0.1.0"))
    other = signed(publisher, "0.1.0", plugin_id=OTHER_ID, stem=OTHER_STEM)
    drop(machine, other, stem=OTHER_STEM)
    with PluginHost(home=machine.home) as host:
        assert host.load_plugin(f"{STEM}.wasm") == PLUGIN_ID
        assert [row["id"] for row in machine.json("list").document["plugins"]] == [PLUGIN_ID]
        assert host.discover() == (PLUGIN_ID, OTHER_ID)
        drop(machine, signed(publisher, "0.2.0"))
        host.discover()
        assert host.call("run", ["Jane"], plugin=PLUGIN_ID).value
    assert machine.version() == "0.2.0"
