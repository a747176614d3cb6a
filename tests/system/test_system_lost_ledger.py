"""The ledger is lost, damaged, or another state's: nothing is changed until a person says so."""

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.context import Context, Options
from agent.doctor.examination import examine
from agent.host import PluginHost
from support.system import PLUGIN_ID, STEM, Machine, Publisher, taken


@pytest.fixture
def published(tmp_path: Path) -> Publisher:
    """Who published two versions in the embedded registry of a host that took both."""
    return taken(tmp_path, "0.1.0", "0.2.0")


@pytest.fixture
def offline(published: Publisher) -> Machine:
    """That host; 0.2.0 serves."""
    return published.machine


def state(machine: Machine) -> Path:
    """Where the ledger lies."""
    return machine.home / "state" / "state.db"


def lose(machine: Machine) -> None:
    """Remove the ledger as ``rm state.db*`` does."""
    for path in state(machine).parent.glob("state.db*"):
        path.unlink()


def finding(machine: Machine, check: str, *arguments: str, expect: int | None) -> dict[str, Any]:
    """What the doctor says of one check."""
    found = machine.json("doctor", *arguments, expect=expect).document["findings"]
    (row,) = (row for row in found if row["check"] == check)
    assert isinstance(row, dict)
    return row


# -- lost


@pytest.mark.parametrize(
    "arguments",
    [
        ("update",),
        ("update", PLUGIN_ID),
        ("pull", PLUGIN_ID),
        ("rollback", PLUGIN_ID),
        ("prune",),
    ],
    ids=" ".join,
)
def test_without_its_ledger_a_tree_is_not_changed(
    offline: Machine, arguments: tuple[str, ...]
) -> None:
    """Every verb that changes something says what is lost, and what to do; not a byte moves."""
    lose(offline)
    offline.json("list")
    before = offline.snapshot()
    ran = offline.run(*arguments, expect=1)
    assert "is lost or was replaced" in ran.err
    assert "agent doctor --fix" in ran.err
    assert offline.snapshot() == before


def test_without_its_ledger_a_tree_is_served_and_nothing_is_recorded(
    offline: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """A host verifies what serves anew and calls it; it says once that it records nothing."""
    lose(offline)
    with PluginHost(home=offline.home) as host:
        assert host.load_installed(PLUGIN_ID) == PLUGIN_ID
        for _ in range(3):
            assert host.call_plugin("run", ["Jane"]) == "Hello again, Jane"
    with PluginHost(home=offline.home) as host:
        assert host.load_plugin(f"{STEM}.wasm") == PLUGIN_ID
    told = [record for record in caplog.records if "nothing is recorded" in record.message]
    assert len(told) == 1
    with contextlib.closing(sqlite3.connect(state(offline))) as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone() == (0,)


def test_reading_verbs_say_what_they_can(offline: Machine) -> None:
    """``list`` names what serves, and where to learn more."""
    lose(offline)
    ran = offline.run("list")
    assert f"{PLUGIN_ID} serves 0.2.0-" in ran.err
    assert "is lost or was replaced" in ran.err
    assert "agent doctor --fix" in ran.err
    assert "no plugins are installed" not in ran.err


FORESEEING = [("check",), ("check", PLUGIN_ID), ("outdated",), ("update", "--dry-run")]


@pytest.mark.parametrize("arguments", FORESEEING, ids=" ".join)
def test_what_a_run_would_do_without_its_ledger_is_nothing(
    offline: Machine, arguments: tuple[str, ...]
) -> None:
    """As ``update`` says (1), with the hint; our own copies are never taken for a drop-in."""
    lose(offline)
    ran = offline.json(*arguments, expect=1)
    assert "is lost or was replaced" in ran.err
    assert "put there as files" not in ran.out
    if arguments[0] == "check":
        assert (ran.row["current"], ran.row["candidate"]) == ("0.2.0", None)
        assert ran.row["action"] == "skip"
        assert "agent doctor --fix" in ran.err


DECIDING = [
    ("grant", PLUGIN_ID, "fs_read"),
    ("deny", PLUGIN_ID, "fs_read"),
    ("deny", PLUGIN_ID, "fs_read", "--dry-run"),
    ("hold", PLUGIN_ID, "--dry-run"),
    ("disable", PLUGIN_ID, "--dry-run"),
    ("disable", "--all"),
    ("enable", PLUGIN_ID),
    ("remove", PLUGIN_ID, "--dry-run"),
    ("info", PLUGIN_ID),
    ("why", PLUGIN_ID),
    ("history", PLUGIN_ID),
    ("grants", PLUGIN_ID),
]


@pytest.mark.parametrize("arguments", DECIDING, ids=" ".join)
def test_without_its_ledger_nothing_is_decided_or_denied_to_be_there(
    offline: Machine, arguments: tuple[str, ...]
) -> None:
    """A new ledger takes no operator's word, and does not say that the plugin is not there."""
    lose(offline)
    ran = offline.run(*arguments, expect=1)
    assert "is lost or was replaced" in ran.err
    assert "agent doctor --fix" in ran.err
    with contextlib.closing(sqlite3.connect(state(offline))) as db:
        assert db.execute("SELECT count(*) FROM grants").fetchone() == (0,)


def test_a_ledger_that_is_put_back_goes_on_with_its_log(offline: Machine) -> None:
    """What was refused meanwhile was written into no book: the log ends as the ledger says."""
    away = offline.home / "away"
    shutil.copytree(offline.home / "state", away)
    lose(offline)
    for arguments in (("update",), ("pull", PLUGIN_ID), ("grant", PLUGIN_ID, "network")):
        offline.run(*arguments, expect=1)
    lose(offline)
    for path in away.glob("state.db*"):
        shutil.copy(path, offline.home / "state")
    offline.run("audit", "verify")
    offline.run("doctor")


def test_a_lost_ledger_is_made_anew_from_the_sealed_releases(offline: Machine) -> None:
    """What serves goes on, with its floor, its way back and its source; and it can be updated."""
    before = offline.json("info", PLUGIN_ID).row
    lose(offline)
    row = finding(offline, "owner", expect=1)
    assert not row["ok"]
    assert "--fix" in row["fix"]
    mended = finding(offline, "owner", "--fix", expect=0)
    assert mended["mended"]
    assert any("agent grant allowed" in line for line in mended["told"])
    after = offline.json("info", PLUGIN_ID).row
    same = ("version", "release", "digest", "state", "source", "key_id", "floor", "kept")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert finding(offline, "owner", expect=0)["ok"]
    offline.run("rollback", PLUGIN_ID)
    assert offline.version() == "0.1.0"


def test_the_floor_and_the_rejections_outlive_the_ledger(
    offline: Machine, published: Publisher
) -> None:
    """A release that was left is not taken again after the ledger was lost; nor a lower one."""
    offline.run("rollback", PLUGIN_ID)
    lose(offline)
    offline.run("doctor", "--fix")
    row = offline.json("info", PLUGIN_ID).row
    assert (row["version"], row["floor"]) == ("0.1.0", "0.2.0")
    assert row["rejected"] == ["0.2.0: rolled back to 0.1.0 by hand"]
    assert offline.json("update").row["outcome"] == "current"
    assert offline.version() == "0.1.0"
    published.release("0.1.5")
    offline.run("update", PLUGIN_ID)
    assert offline.version() == "0.1.0"
    published.release("0.4.0")
    offline.run("update")
    assert offline.version() == "0.4.0"


def test_the_audit_log_goes_on(offline: Machine) -> None:
    """Its chain is taken up where the segments end, and the loss is a line of its own."""
    lines = offline.json("audit", "verify").document["lines"]
    lose(offline)
    offline.run("doctor", "--fix")
    report = offline.json("audit", "verify").document
    assert report["sound"]
    assert report["lines"] > lines
    outcomes = [line["outcome"] for line in offline.json("audit", "show").document["lines"]]
    assert outcomes[lines : lines + 2] == ["adopted", "rebuilt"]


def test_what_is_no_longer_believed_does_not_become_good(offline: Machine) -> None:
    """Bytes that were changed are not taken; the other releases are, and the doctor says so."""
    folder = offline.plugins / ".store" / PLUGIN_ID / "current"
    code = folder / f"{STEM}.wasm"
    code.chmod(0o644)
    code.write_bytes(code.read_bytes() + b"\0")
    lose(offline)
    told = finding(offline, "owner", "--fix", expect=None)["told"]
    assert any("serves, and is not believed" in line for line in told)
    with contextlib.closing(sqlite3.connect(state(offline))) as db:
        assert db.execute("SELECT version FROM generations").fetchall() == [("0.1.0",)]
        assert db.execute("SELECT good FROM plugins").fetchall() == [(None,)]


def test_without_a_trust_store_nothing_is_rebuilt(offline: Machine) -> None:
    """Where nobody is trusted nothing can be verified: the tree is left for a later try."""
    store = offline.home / "config" / "trusted_keys.toml"
    kept = store.read_bytes()
    store.unlink()
    lose(offline)
    row = finding(offline, "owner", "--fix", expect=1)
    assert "trusts nobody" in row["detail"]
    store.write_bytes(kept)
    offline.run("doctor", "--fix")
    assert offline.version() == "0.2.0"


def test_a_rejected_release_that_still_served_is_left(offline: Machine) -> None:
    """The ledger was lost between a rejection and the flip back: the way back is taken."""
    home = offline.plugins / ".store" / PLUGIN_ID
    memory = json.loads((home / ".memory").read_text())
    newest = memory["committed"][-1]
    memory["rejected"] = [
        {"release": newest["release"], "version": "0.2.0", "reason": "bad", "at": 1.0}
    ]
    (home / ".memory").write_text(json.dumps(memory))
    lose(offline)
    offline.run("doctor", "--fix")
    assert offline.version() == "0.1.0"
    assert (offline.plugins / f"{STEM}.toml").read_bytes() == (
        home / "current" / f"{STEM}.toml"
    ).read_bytes()


def test_a_dry_run_changes_nothing(offline: Machine) -> None:
    """``--fix --dry-run`` says what it would do, and ends as without ``--fix``."""
    lose(offline)
    offline.json("list")
    before = offline.snapshot()
    ran = offline.run("doctor", "--fix", "--dry-run", expect=1)
    assert "would:" in ran.out
    assert offline.snapshot() == before


# -- damaged


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _garble(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))  # noqa: S311 - no secret


def _garble_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": _truncate,
    "garbled": _garble,
    "a page is gone": _garble_a_page,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_ledger_is_told_set_aside_and_made_anew(
    offline: Machine, damage: Callable[[Path], None]
) -> None:
    """Every writer says what is damaged and what to do; the file is kept, never deleted."""
    damage(state(offline))
    size = state(offline).stat().st_size
    ran = offline.json("update", PLUGIN_ID, expect=1)
    assert "state.db: it is damaged" in ran.err
    assert "agent doctor --fix" in ran.err
    assert "Traceback" not in ran.err
    row = finding(offline, "ledger", expect=1)
    assert "it is damaged" in row["detail"]
    assert finding(offline, "ledger", "--fix", expect=0)["mended"]
    aside = state(offline).with_name("state.db.damaged-1")
    assert aside.stat().st_size == size
    assert offline.version() == "0.2.0"
    offline.run("update", PLUGIN_ID)


def test_a_second_damaged_ledger_does_not_replace_the_first(offline: Machine) -> None:
    """Each is kept under a number of its own."""
    for _ in range(2):
        _garble(state(offline))
        offline.run("doctor", "--fix")
    names = sorted(p.name for p in state(offline).parent.glob("state.db.damaged-?"))
    assert names == ["state.db.damaged-1", "state.db.damaged-2"]


def test_a_ledger_that_breaks_under_an_open_host_does_not_stop_its_calls(
    offline: Machine,
) -> None:
    """What is loaded serves on; the next writer tells."""
    with PluginHost(home=offline.home) as host:
        host.load_installed(PLUGIN_ID)
        _garble(state(offline))
        for suffix in ("-wal", "-shm"):
            state(offline).with_name(f"state.db{suffix}").unlink(missing_ok=True)
        for _ in range(3):
            assert host.call_plugin("run", ["Jane"]) == "Hello again, Jane"


def test_two_doctors_replace_a_damaged_ledger_once(offline: Machine) -> None:
    """The second had it open, waits for the lock, finds a whole one, and leaves that."""
    with contextlib.closing(Context(Options(home=offline.home), environ={})) as second:
        assert second.ledger.plugin_ids() == (PLUGIN_ID,)
        _garble(state(offline))
        for suffix in ("-wal", "-shm"):
            state(offline).with_name(f"state.db{suffix}").unlink(missing_ok=True)
        assert not next(one for one in examine(second) if one.check == "ledger").ok
        offline.run("doctor", "--fix")
        found = list(examine(second, fix=True))
        assert [one.detail for one in found if not one.ok] == []
    assert len(list(state(offline).parent.glob("state.db.damaged-?"))) == 1
    assert offline.version() == "0.2.0"


# -- shared


@contextlib.contextmanager
def second_state(machine: Machine, folder: Path) -> Iterator[Machine]:
    """Another home whose plugin folder is the first one's."""
    other = Machine(folder)
    text = f'[paths]\nuser_dir = "{machine.plugins}"\n'
    other.configure(text, probation="0s")
    shutil.copy(machine.home / "config" / "trusted_keys.toml", folder / "config")
    yield other


def test_a_tree_is_changed_by_one_state_only(offline: Machine, tmp_path: Path) -> None:
    """The second is told whose the tree is, and changes nothing; the first goes on."""
    with second_state(offline, tmp_path / "second") as other:
        before = offline.snapshot()
        for arguments in (*FORESEEING, *DECIDING):
            told = other.run(*arguments, expect=8)
            assert f"it belongs to the state in {offline.home / 'state'}" in told.err
        ran = other.run("pull", PLUGIN_ID, "--registry", f"oci:{offline.home}/registry", expect=8)
        assert f"it belongs to the state in {offline.home / 'state'}" in ran.err
        assert offline.snapshot() == before
        assert not finding(other, "owner", expect=1)["ok"]
        assert not finding(other, "owner", "--fix", expect=1)["ok"]
        assert offline.snapshot() == before
    offline.run("rollback", PLUGIN_ID)


def test_a_tree_can_be_taken_over(offline: Machine, tmp_path: Path) -> None:
    """An explicit act: then the second state knows the tree, and the first is refused."""
    with second_state(offline, tmp_path / "second") as other:
        assert finding(other, "owner", "--fix", "--take-over", expect=0)["mended"]
        assert other.version() == "0.2.0"
        other.run("rollback", PLUGIN_ID)
        ran = offline.run("rollback", PLUGIN_ID, expect=8)
        assert f"it belongs to the state in {tmp_path / 'second' / 'state'}" in ran.err


def test_a_copied_state_is_another_state(offline: Machine, tmp_path: Path) -> None:
    """``cp -r`` of a state folder copies the ledger's id: the copy may not write all the same."""
    with second_state(offline, tmp_path / "second") as other:
        shutil.copytree(offline.home / "state", tmp_path / "second" / "state")
        other.run("rollback", PLUGIN_ID, expect=8)
    assert offline.version() == "0.2.0"


def test_a_state_that_was_moved_is_still_the_owner(offline: Machine, tmp_path: Path) -> None:
    """``mv`` of a state folder: the tree learns the new place."""
    with second_state(offline, tmp_path / "second") as other:
        shutil.move(offline.home / "state", tmp_path / "second" / "state")
        other.run("rollback", PLUGIN_ID)
        assert other.version() == "0.1.0"
        owner = json.loads((offline.plugins / ".store" / ".owner").read_text())
        assert owner["state"] == str(tmp_path / "second" / "state" / "state.db")


def test_a_state_that_was_moved_behind_a_link_is_still_the_owner(offline: Machine) -> None:
    """A full disk: the state went to another one, and a link leads there from its old place."""
    here = offline.home / "state"
    here.rename(offline.home / "elsewhere")
    here.symlink_to(offline.home / "elsewhere")
    assert offline.json("update").row["outcome"] == "current"
    offline.run("hold", PLUGIN_ID)
    assert offline.json("update").row["outcome"] == "current"


def test_two_states_that_begin_at_once_do_not_both_own_the_tree(tmp_path: Path) -> None:
    """Whoever has the lock first owns it; the other is refused, and installs nothing."""
    first = Machine(tmp_path / "first")
    publisher = Publisher(first, tmp_path / "publisher")
    publisher.trusted_by(first)
    publisher.release("0.1.0")
    with second_state(first, tmp_path / "second") as second:
        processes = [
            machine.command("pull", PLUGIN_ID, "--registry", f"oci:{first.home}/registry")
            for machine in (first, second)
        ]
        codes = _run_at_once(processes)
    assert sorted(codes) == [0, 8]


def _run_at_once(commands: list[list[str]]) -> list[int]:
    running = [
        subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands
    ]
    return [process.wait(timeout=60) for process in running]


# -- from before


def test_a_tree_from_before_there_were_owners_is_adopted(offline: Machine) -> None:
    """A ledger that knows the tree's plugins goes on without a word, and signs."""
    (offline.plugins / ".store" / ".owner").unlink()
    offline.run("rollback", PLUGIN_ID)
    assert (offline.plugins / ".store" / ".owner").exists()


def test_a_tree_from_before_whose_ledger_is_lost_is_not_adopted(offline: Machine) -> None:
    """Neither owner nor memory: what serves is believed and good, and only that is committed."""
    (offline.plugins / ".store" / ".owner").unlink()
    (offline.plugins / ".store" / PLUGIN_ID / ".memory").unlink()
    lose(offline)
    assert "is lost" in offline.run("rollback", PLUGIN_ID, expect=1).err
    offline.run("doctor", "--fix")
    row = offline.json("info", PLUGIN_ID).row
    assert (row["version"], row["floor"]) == ("0.2.0", "0.2.0")
    offline.run("rollback", PLUGIN_ID, expect=3)


# -- an older ledger is put back


def test_an_older_copy_of_the_ledger_learns_from_the_tree(
    offline: Machine, published: Publisher
) -> None:
    """A backup from before brings no rejected release back, and forgets none that came since."""
    kept = state(offline).read_bytes()
    offline.run("rollback", PLUGIN_ID)
    published.release("0.4.0")
    offline.run("pull", PLUGIN_ID)
    offline.run("rollback", PLUGIN_ID)
    lose(offline)
    state(offline).write_bytes(kept)
    before = offline.snapshot()
    for verb in ("update", "prune", "rollback"):
        ran = offline.run(verb, *([PLUGIN_ID] if verb == "rollback" else []), expect=1)
        assert "an older copy was put back" in ran.err
    assert offline.version() == "0.1.0"
    assert offline.snapshot() == before
    assert finding(offline, "memory", "--fix", expect=0)["mended"]
    row = offline.json("info", PLUGIN_ID).row
    assert (row["version"], row["floor"]) == ("0.1.0", "0.4.0")
    assert sorted(text.partition(":")[0] for text in row["rejected"]) == ["0.2.0", "0.4.0"]
    assert offline.json("update").row["outcome"] == "current"


def test_the_audit_log_goes_on_after_an_older_ledger(offline: Machine) -> None:
    """Broken until a person answers for the lines beyond its head; a line says which, for ever."""
    kept = state(offline).read_bytes()
    known = offline.json("audit", "verify").document["lines"]
    for _ in range(2):
        offline.run("hold", PLUGIN_ID)
        offline.run("unhold", PLUGIN_ID)
    lose(offline)
    state(offline).write_bytes(kept)
    assert not offline.json("audit", "verify", expect=6).document["sound"]
    # Whatever is written meanwhile does not make it look right.
    offline.run("pull", f"{PLUGIN_ID}:9.9.9", expect=None)
    report = offline.json("audit", "verify", expect=6).document
    assert f"lines {known + 1} to {known + 4} of the log" in report["problems"][0]["what"]
    (told,) = finding(offline, "audit", "--fix", expect=0)["told"]
    assert f"lines {known + 1} to {known + 4} are taken as they are" in told
    assert offline.json("audit", "verify").document["sound"]
    lines = offline.json("audit", "show").document["lines"]
    (rejoined,) = (line for line in lines if line["outcome"] == "rejoined")
    assert (rejoined["reason"], rejoined["by"]) == (told, "doctor")
    assert lines[known + 4]["outcome"] == "broken"
    offline.run("hold", PLUGIN_ID)
    assert finding(offline, "audit", expect=0)["ok"]


def test_the_serial_of_a_lost_trust_store_is_passed(offline: Machine, tmp_path: Path) -> None:
    """A store that is made anew is newer than the one that is gone; no verb refuses it."""
    store = offline.home / "config" / "trusted_keys.toml"
    serial = offline.json("trust", "check").document["serial"]
    store.unlink()
    ran = offline.run(
        "trust",
        "add",
        tmp_path / "publisher" / "publisher.pem.pub",
        "--owner",
        "x",
        "--scope",
        "org.example.*",
    )
    assert f"it had serial {serial}" in ran.err
    assert offline.json("trust", "check").document["serial"] == serial + 1
    assert offline.json("list").row["state"] == "active"


def test_a_home_that_was_copied_whole_is_a_home_of_its_own(
    offline: Machine, tmp_path: Path
) -> None:
    """``cp -r`` of state and tree together: both go on, each with its own tree."""
    shutil.copytree(offline.home, tmp_path / "copy", symlinks=True)
    copy = Machine(tmp_path / "copy")
    copy.run("rollback", PLUGIN_ID)
    assert (copy.version(), offline.version()) == ("0.1.0", "0.2.0")
    offline.run("rollback", PLUGIN_ID)
