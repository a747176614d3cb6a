"""``agent prune``: what it removes it lists, before and after, and writes down."""

from pathlib import Path

import pytest

from support.system import PLUGIN_ID, Machine, taken

UNKNOWN = "0.0.9-0123456789ab"
TORN = ".staging-0.4.0-0123456789ab"
LOST = "org.example.lost"


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    """0.2.0 serves; an old release, and folders that no ledger knows, lie beside it."""
    machine = taken(tmp_path, "0.1.0", "0.2.0").machine
    machine.configure(probation="0s", update="keep = 1")
    for name in (UNKNOWN, TORN):
        (store(machine) / PLUGIN_ID / name).mkdir()
    (store(machine) / LOST / UNKNOWN).mkdir(parents=True)
    return machine


def store(machine: Machine) -> Path:
    """Where the sealed releases lie."""
    return machine.plugins / ".store"


def removed(machine: Machine, *arguments: str) -> list[tuple[str, str, str | None]]:
    """What ``prune`` says it removed: plugin, name, version."""
    rows = machine.json("prune", *arguments).document["removed"]
    return [(row["id"], row["name"], row["version"]) for row in rows]


def audited(machine: Machine) -> list[tuple[str, str]]:
    """Which plugin and why, of every line that something was pruned."""
    lines = machine.json("audit", "show").document["lines"]
    return [(line["plugin"], line["reason"]) for line in lines if line["outcome"] == "pruned"]


def test_everything_that_goes_is_listed_and_written_down(host: Machine) -> None:
    """A dry run says the same and changes nothing; what serves and what is kept stays."""
    before = host.snapshot()
    unknown = [(PLUGIN_ID, TORN), (PLUGIN_ID, UNKNOWN), (LOST, UNKNOWN)]
    planned = removed(host, "--dry-run")
    assert planned == [(plugin, name, None) for plugin, name in unknown]
    lines = host.run("prune", "--dry-run").out.splitlines()
    assert lines[0] == f"would remove {PLUGIN_ID} {TORN}, which the ledger does not know"
    assert host.snapshot() == before
    assert audited(host) == []
    assert removed(host) == planned
    assert audited(host) == [
        (plugin, f"{name}: the ledger does not know it") for plugin, name in unknown
    ]
    assert host.version() == "0.2.0"
    assert removed(host) == []
    assert host.run("prune").err == "nothing to remove\n"
    host.run("rollback", PLUGIN_ID)


def test_one_that_can_not_be_pruned_has_a_row_and_keeps_no_other(host: Machine) -> None:
    """Whatever is at fault; what was removed is told all the same."""
    kept = (host.home / "state" / "state.db").read_bytes()
    host.run("deny", PLUGIN_ID, "llm")
    for path in (host.home / "state").glob("state.db*"):
        path.unlink()
    (host.home / "state" / "state.db").write_bytes(kept)
    for arguments in (("prune", "--dry-run"), ("prune",)):
        ran = host.json(*arguments, expect=12)
        (failed,) = ran.document["failed"]
        assert (failed["id"], failed["outcome"]) == (PLUGIN_ID, "failed")
        assert "the plugin tree knows more" in failed["detail"]
        assert [row["id"] for row in ran.document["removed"]] == [LOST]
    assert host.json("doctor", "--fix", expect=None).document["findings"]
    assert host.json("prune").document["failed"] == []


def test_a_plugin_that_no_ledger_knows_can_be_named(host: Machine) -> None:
    """As the doctor says: ``agent prune ID``; another that was never there is 3."""
    assert removed(host, LOST) == [(LOST, UNKNOWN, None)]
    host.run("prune", "org.example.never", expect=3)
    assert removed(host, PLUGIN_ID) == [(PLUGIN_ID, TORN, None), (PLUGIN_ID, UNKNOWN, None)]


def test_what_a_ledger_could_take_up_again_is_left(host: Machine) -> None:
    """Nothing of it serves and no row speaks of it, but its memory lies there: a person decides."""
    (store(host) / LOST / ".memory").write_text("{}")
    host.run("prune", LOST, expect=3)
    assert LOST not in {plugin for plugin, _, _ in removed(host)}
    assert (store(host) / LOST / UNKNOWN).is_dir()


def test_a_log_that_can_not_be_written_keeps_no_room_from_being_freed(
    host: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is what it is called for: it goes on, and says once that nothing is noted."""
    (segment,) = (host.home / "state" / "audit").glob("*.jsonl")
    segment.rename(segment.with_name("kept"))
    segment.symlink_to("kept")
    assert len(removed(host)) == 3
    (told,) = (m for m in caplog.messages if "cannot write the audit log" in m)
    assert str(segment) in told
    assert "Errno" not in told


def test_a_name_that_is_no_text_is_listed_all_the_same(host: Machine) -> None:
    """Bytes that are no UTF-8, and control characters, are escaped wherever they are shown."""
    home = bytes(store(host) / PLUGIN_ID)
    Path((home + b"/\xff\x1b[2J").decode(errors="surrogateescape")).mkdir()
    ran = host.run("prune")
    assert "\x1b" not in ran.out
    assert len(audited(host)) == ran.out.count("removed ") == 4
    assert "\x1b" not in host.run("audit", "show").out
    host.run("audit", "verify")


def test_only_folders_of_plugins_are_the_trees(host: Machine, tmp_path: Path) -> None:
    """Links are never followed, at no level, and other folders are left; the doctor names them."""
    precious = tmp_path / "precious"
    (precious / "sub").mkdir(parents=True)
    (precious / "sub" / "f").write_text("keep")
    precious.chmod(0o700)
    left = [
        store(host) / "my-backup",
        store(host) / "org.example.linked",
        store(host) / "saved",
        store(host) / PLUGIN_ID / "0.0.8-0123456789ab",
    ]
    for path in left:
        if path.name == "saved":
            (path / "0.0.9-0123456789ab").mkdir(parents=True)
        else:
            path.symlink_to(precious)
    names = {(plugin, name) for plugin, name, _ in removed(host)}
    assert names == {(PLUGIN_ID, TORN), (PLUGIN_ID, UNKNOWN), (LOST, UNKNOWN)}
    host.run("prune", "org.example.linked", expect=3)
    told = host.run("doctor", "--fix").out
    for path in left:
        assert path.is_dir()
        assert f"{path} is not the plugin tree's" in " ".join(told.split())
    host.run("remove", PLUGIN_ID)
    assert (precious / "sub" / "f").read_text() == "keep"
    assert precious.stat().st_mode & 0o777 == 0o700
    assert all(path.exists() for path in left)


@pytest.mark.parametrize("what", ["the plugin", "its release"])
def test_a_plugin_behind_a_link_is_left_alone(host: Machine, tmp_path: Path, what: str) -> None:
    """Whoever laid a link where a folder should be: nothing behind it serves or is changed."""
    (release,) = (store(host) / PLUGIN_ID).glob("0.2.0-*")
    path = store(host) / PLUGIN_ID if what == "the plugin" else release
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    before = sorted((p, p.lstat().st_mode) for p in moved.rglob("*"))
    host.run("call", PLUGIN_ID, expect=3)
    host.run("doctor", "--fix", expect=1)
    host.run("prune", PLUGIN_ID, expect=None)
    host.run("disable", PLUGIN_ID, expect=None)
    host.run("remove", PLUGIN_ID, expect=None)
    assert path.is_symlink()
    assert sorted((p, p.lstat().st_mode) for p in moved.rglob("*")) == before
