"""``agent doctor``: each inconsistency is found, explained, and mended where it safely can be."""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.doctor.bundle import redact
from support.agent import NOW
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher, taken

SECRETS = {
    "setting": "s3cr3t-setting",
    "quoted": 'with "quotes" \\ and more',
    "proxy": "pr0xy-passw0rd",
    "webhook": "w3bh00k-path",
    "query": "t0ken-in-a-query",
    "docker": "ZG9ja2VyOmRvY2tlcg==",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """A host where two versions went live, and 0.2.0 serves."""
    return taken(tmp_path_factory.mktemp("doctor"), "0.1.0", "0.2.0")


@pytest.fixture
def host(template: Publisher, tmp_path: Path) -> Machine:
    """A copy of it."""
    shutil.copytree(template.machine.home, tmp_path / "host", symlinks=True)
    machine = Machine(tmp_path / "host")
    machine.configure(probation="0s")
    return machine


def home_of(machine: Machine) -> Path:
    """Where the plugin's releases lie."""
    return machine.plugins / ".store" / PLUGIN_ID


def release(machine: Machine, version: str) -> Path:
    """The sealed folder of a version."""
    (folder,) = home_of(machine).glob(f"{version}-*")
    return folder


def write(path: Path, data: bytes) -> None:
    """Write over a sealed file."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def remove(folder: Path) -> None:
    """Remove a sealed folder."""
    folder.chmod(0o755)
    shutil.rmtree(folder)


def sql(machine: Machine, statement: str, *values: object) -> None:
    """Change the ledger by hand."""
    path = machine.home / "state" / "state.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement, values)


def wrong(machine: Machine, *arguments: str, expect: int) -> list[dict[str, Any]]:
    """What the doctor finds that is not well."""
    document = machine.json("doctor", *arguments, expect=expect).document
    return [row for row in document["findings"] if not row["ok"]]


def aged(path: Path) -> Path:
    """Make a file look as if it was left some time ago."""
    os.utime(path, (NOW - 1e9, NOW - 1e9), follow_symlinks=False)
    return path


def test_a_sound_installation_has_nothing_wrong(host: Machine) -> None:
    """Every check says that all is well, in words and for programs; nothing is changed."""
    host.run("doctor")
    before = host.snapshot()
    document = host.json("doctor").document
    checks = [row["check"] for row in document["findings"]]
    assert checks == [
        *("config", "folders", "space", "socket", "ledger", "owner", "trust", "clock", "memory"),
        *("serving", "releases", "copies", "drop-ins", "stops", "trial", "leftovers", "audit"),
    ]
    assert all(set(row) == {"check", "ok", "detail", "fix"} for row in document["findings"])
    assert host.snapshot() == before


def test_a_machine_without_anything_is_sound_and_stays_empty(tmp_path: Path) -> None:
    """A first look makes no ledger and no folder."""
    machine = Machine(tmp_path / "new")
    machine.run("doctor")
    assert [path.name for path in machine.home.iterdir()] == ["config"]


@pytest.mark.parametrize("name", [".lock", ".owner"])
def test_a_folder_where_the_trees_own_file_should_be_is_told(host: Machine, name: str) -> None:
    """Nothing can be changed, nor be stopped: who tries is told where, and so does the doctor."""
    path = host.plugins / ".store" / name
    path.unlink()
    path.mkdir()
    assert f"cannot use {path}: Is a directory" in host.run("disable", PLUGIN_ID, expect=1).err
    (found,) = wrong(host, "--fix", expect=1)
    assert found["detail"].startswith(
        f"{path} is a folder, expected a file: nothing can be changed"
    )
    assert f"move {path} away" in found["fix"]
    path.rmdir()
    host.run("doctor")
    host.run("disable", PLUGIN_ID)


def _tear(machine: Machine) -> None:
    shutil.copy(release(machine, "0.1.0") / f"{STEM}.wasm", machine.plugins / f"{STEM}.wasm")


def _no_copies(machine: Machine) -> None:
    for path in machine.plugins.glob(f"{STEM}.*"):
        path.unlink()


def _due(machine: Machine) -> None:
    sql(machine, "UPDATE plugins SET projection_due = 1")


def _dangling(machine: Machine) -> None:
    remove(release(machine, "0.2.0"))


def _broken(machine: Machine) -> None:
    write(release(machine, "0.2.0") / f"{STEM}.wasm", b"\0asm other")


def _broken_old(machine: Machine) -> None:
    write(release(machine, "0.1.0") / f"{STEM}.wasm", b"\0asm other")


def _missing_old(machine: Machine) -> None:
    remove(release(machine, "0.1.0"))


def _unsealed(machine: Machine) -> None:
    release(machine, "0.1.0").chmod(0o755)
    (release(machine, "0.2.0") / f"{STEM}.toml").chmod(0o644)


def _unknown(machine: Machine) -> None:
    sql(machine, "DELETE FROM generations WHERE version = '0.2.0'")
    sql(machine, "UPDATE plugins SET good = NULL")


def _unfinished(machine: Machine) -> None:
    link = home_of(machine) / "current"
    link.unlink()
    link.symlink_to(release(machine, "0.1.0").name)


def _stale_memory(machine: Machine) -> None:
    sql(machine, "INSERT INTO rejected VALUES ('org.example.hello', 'ff', '0.3.0', 'bad', 1)")


def _no_memory(machine: Machine) -> None:
    (home_of(machine) / ".memory").write_bytes(b"\xff not ours")


def _leftovers(machine: Machine) -> None:
    staging = home_of(machine) / ".staging-0.3.0-0123456789ab"
    staging.mkdir()
    incoming = machine.home / "cache" / "incoming" / "tmpabc"
    incoming.mkdir(parents=True, exist_ok=True)
    for path in (staging, incoming):
        aged(path)
    (machine.plugins / ".tmp-left").touch()
    aged(machine.plugins / ".tmp-left")


def _trial(machine: Machine, *, begins_in_s: int) -> None:
    sql(
        machine,
        "INSERT INTO trials SELECT plugin_id, good, NULL, unixepoch() + ?1, "
        "unixepoch() + ?1 + 600 FROM plugins",
        begins_in_s,
    )


def _due_trial(machine: Machine) -> None:
    _trial(machine, begins_in_s=-3600)


def _trial_to_come(machine: Machine) -> None:
    _trial(machine, begins_in_s=86_400)


def _open_state(machine: Machine) -> None:
    (machine.home / "state").chmod(0o755)


def _open_tree(machine: Machine) -> None:
    machine.plugins.chmod(0o777)


MENDED: dict[str, tuple[Callable[[Machine], None], str, str]] = {
    "torn copies": (_tear, "copies", "0.2.0"),
    "no copies": (_no_copies, "copies", "0.2.0"),
    "projection due": (_due, "serving", "0.2.0"),
    "current dangles": (_dangling, "serving", "0.1.0"),
    "what serves is broken": (_broken, "serving", "0.1.0"),
    "a kept release is broken": (_broken_old, "releases", "0.2.0"),
    "a kept release is gone": (_missing_old, "releases", "0.2.0"),
    "not sealed": (_unsealed, "releases", "0.2.0"),
    "not in the ledger": (_unknown, "serving", "0.2.0"),
    "another release serves": (_unfinished, "serving", "0.2.0"),
    "memory stale": (_stale_memory, "memory", "0.2.0"),
    "memory garbled": (_no_memory, "memory", "0.2.0"),
    "leftovers": (_leftovers, "leftovers", "0.2.0"),
    "a trial is due": (_due_trial, "trial", "0.2.0"),
    "others read the state": (_open_state, "folders", "0.2.0"),
    "others write the tree": (_open_tree, "folders", "0.2.0"),
}


@pytest.mark.parametrize(("spoil", "check", "serves"), MENDED.values(), ids=MENDED)
def test_what_can_be_mended_is_found_explained_and_mended(
    host: Machine, spoil: Callable[[Machine], None], check: str, serves: str
) -> None:
    """Found without ``--fix``, with its cause and cure; mended with it; then all is well."""
    spoil(host)
    found = wrong(host, expect=1)
    assert check in {row["check"] for row in found}
    assert all(row["fix"] for row in found)
    host.run("doctor", "--fix", "--dry-run", expect=1)
    assert wrong(host, expect=1) == found
    assert wrong(host, "--fix", expect=0) == []
    assert wrong(host, expect=0) == []
    assert host.version() == serves
    host.run("update", PLUGIN_ID)


def test_a_trial_from_the_future_begins_anew(host: Machine) -> None:
    """A clock that was ahead: the trial ends as long after now as it would have."""
    _trial_to_come(host)
    assert {row["check"] for row in wrong(host, expect=1)} == {"trial"}
    host.run("doctor", "--fix")
    host.run("doctor")
    assert host.json("list").row["state"] == "trial"


def _foreign_copy(machine: Machine) -> None:
    (machine.plugins / f"{STEM}.wasm").write_bytes(b"\0asm somebody's")


def _revoked(machine: Machine) -> None:
    key_id = machine.json("trust", "list").document["keys"][0]["id"]
    machine.run("trust", "revoke", key_id, "--reason", "lost")


def _no_store(machine: Machine) -> None:
    (machine.home / "config" / "trusted_keys.toml").unlink()


def _old_store(machine: Machine) -> None:
    store = machine.home / "config" / "trusted_keys.toml"
    sql(machine, "INSERT OR REPLACE INTO trust_serials VALUES (?, 99)", str(store))


def _open_store(machine: Machine) -> None:
    (machine.home / "config" / "trusted_keys.toml").chmod(0o666)


def _edited_audit(machine: Machine) -> None:
    path = machine.home / "state" / "audit" / "000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"committed"', b'"commixted"', 1))


def test_a_folder_that_its_owner_may_not_write_is_told(host: Machine) -> None:
    """Also where others may read it: both are wrong, and a verb that writes names the folder."""
    state = host.home / "state"
    state.chmod(0o555)
    # Root may write whatever the mode says, unless it lets go of that.
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    as_owner = [] if os.geteuid() else bound

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_owner, *host.command(*arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_WAIT_S,
        )

    found = json.loads(run("doctor", "--format", "json").stdout)["findings"]
    told = [row["detail"] for row in found if row["check"] == "folders" and not row["ok"]]
    assert [f"the state folder {state}" in detail for detail in told] == [True, True]
    assert "can't be written" in told[1]
    for arguments in (("grant", PLUGIN_ID, "fs_read"), ("disable", PLUGIN_ID), ("pull", PLUGIN_ID)):
        ran = run(*arguments)
        assert ran.returncode == 1
        assert str(state) in ran.stderr
        assert "agent doctor" in ran.stderr
        assert "Errno" not in ran.stderr
        assert ".tmp-" not in ran.stderr
    state.chmod(0o700)
    # The stop holds by the tree's word, and comes into the ledger now.
    host.run("doctor", "--fix")
    assert host.json("list").row["state"] == "disabled"
    host.run("doctor")


def test_times_that_are_yet_to_come_are_told_and_not_wrong(host: Machine) -> None:
    """A clock that was ahead and is right now: nothing is to be done, and nothing is rewritten."""
    sql(host, "UPDATE history SET at = unixepoch() + 86400")
    for arguments in (("doctor",), ("doctor", "--fix")):
        found = host.json(*arguments).document["findings"]
        (row,) = (row for row in found if row["check"] == "clock")
        assert row["ok"]
        assert "one of the two was or is wrong" in row["detail"]
        assert "timedatectl" in row["fix"]


def test_a_drop_in_of_a_disabled_plugin_waits_by_its_operators_word(
    host: Machine, template: Publisher
) -> None:
    """All is well; what is to be typed for it works."""
    folder = template.plugin("0.4.0")
    host.run("sign", folder, "--key", template.key)
    files = [path for path in folder.iterdir() if path.stem == STEM]
    host.run("disable", PLUGIN_ID)
    for path in files:
        shutil.copy(path, host.plugins)
    for _ in range(2):
        found = host.json("doctor").document["findings"]
        (row,) = (row for row in found if row["check"] == "drop-ins")
        assert "0.4.0 was put there as files, and waits: the plugin is disabled" in row["detail"]
        assert f"agent enable {PLUGIN_ID}" in row["fix"]
        host.run("update")
    host.run("enable", PLUGIN_ID)
    for path in files:
        shutil.copy(path, host.plugins)
    host.run("update")
    assert host.version() == "0.4.0"


def _no_link(machine: Machine) -> None:
    link = home_of(machine) / "current"
    link.unlink()
    link.mkdir()


def _bad_base(machine: Machine) -> None:
    machine.configure('[registry]\ndefault = "not a base"\n')


def _no_socket(machine: Machine) -> None:
    (machine.home / "run").mkdir()
    (machine.home / "run" / "agent.sock").touch()


LEFT: dict[str, tuple[Callable[[Machine], None], str]] = {
    "somebody's file beside our copies": (_foreign_copy, "drop-ins"),
    "key revoked": (_revoked, "serving"),
    "no trust store": (_no_store, "trust"),
    "an older trust store": (_old_store, "trust"),
    "a trust store that others write": (_open_store, "trust"),
    "audit log edited": (_edited_audit, "audit"),
    "current is a folder": (_no_link, "serving"),
    "a registry base that is none": (_bad_base, "config"),
    "no socket": (_no_socket, "socket"),
}


@pytest.mark.parametrize(("spoil", "check"), LEFT.values(), ids=LEFT)
def test_what_a_person_must_decide_is_told_and_left_alone(
    host: Machine, spoil: Callable[[Machine], None], check: str
) -> None:
    """``--fix`` mends nothing there, and still ends with 1; the finding says what to do."""
    spoil(host)
    before = {path: path.lstat().st_mtime_ns for path in host.plugins.rglob("*")}
    found = [row for row in wrong(host, expect=1) if row["check"] == check]
    assert found
    assert all(row["detail"] and row["fix"] for row in found)
    assert check in {row["check"] for row in wrong(host, "--fix", expect=1)}
    assert {path: path.lstat().st_mtime_ns for path in host.plugins.rglob("*")} == before


def test_a_release_that_nobody_knows_is_told(host: Machine) -> None:
    """It is in nobody's way: all is well, and the finding says what removes it."""
    (home_of(host) / "0.0.9-0123456789ab").mkdir()
    found = host.json("doctor", "--fix").document["findings"]
    (row,) = (row for row in found if row["check"] == "releases")
    assert "0.0.9-0123456789ab" in row["detail"]
    assert row["fix"] == f"agent prune {PLUGIN_ID} removes it"
    host.run("prune")
    assert not (home_of(host) / "0.0.9-0123456789ab").exists()


def test_a_config_that_cannot_be_read_is_a_finding(host: Machine) -> None:
    """Not an error that hides the rest of the answer: file and key are named, exit 1."""
    host.config_file.write_text("[update]\nkeep = 'many'\n", encoding="utf-8")
    (row,) = wrong(host, expect=1)
    assert (row["check"], row["fix"]) == ("config", "agent config check")
    assert "update.keep" in row["detail"]


def test_the_text_can_be_read_at_night(host: Machine) -> None:
    """What is wrong stands in capitals, what to type below it; no line is too long."""
    _tear(host)
    lines = host.run("doctor", expect=1).out.splitlines()
    (index,) = (n for n, line in enumerate(lines) if line.startswith("WRONG"))
    assert lines[index].startswith("WRONG   copies")
    assert "                   try: agent doctor --fix copies them anew" in lines[index + 1 :]
    assert all(len(line) <= 100 or "/" in line for line in lines)


def test_fix_waits_for_the_lock(host: Machine) -> None:
    """Mending is a change like any other: under the tree's lock."""
    _tear(host)
    lock = home_of(host).parent / ".lock"
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.doctor.examination.LOCK_TIMEOUT_S", 0.0)
            host.run("doctor", "--fix", expect=11)
    finally:
        os.close(descriptor)
    host.run("doctor", "--fix")


# -- the bundle


def _plant(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quoted = json.dumps(SECRETS["quoted"])
    machine.configure(
        f'[network]\nproxy = "http://jane:{SECRETS["proxy"]}@proxy.example:3128"\n'
        f'[hooks]\nwebhook = "https://chat.example/in/{SECRETS["webhook"]}"\n'
        f'[telemetry]\nendpoint = "https://otel.example/v1?key={SECRETS["query"]}"\n'
        f'[plugins."{PLUGIN_ID}".settings]\n'
        f'api_key = "{SECRETS["setting"]}"\nphrase = {quoted}\n'
        "pin = 42\n",
        probation="0s",
    )
    docker = tmp_path / "docker"
    docker.mkdir(exist_ok=True)
    auths = {"auths": {"registry.example": {"auth": SECRETS["docker"]}}}
    (docker / "config.json").write_text(json.dumps(auths), encoding="utf-8")
    monkeypatch.setenv("DOCKER_CONFIG", str(docker))
    for name, secret in SECRETS.items():
        said = f"it said {secret}"
        if name not in ("setting", "quoted"):
            said = f"asked https://jane:{secret}@host/x?key={secret}"
        sql(
            machine,
            "INSERT INTO history (at, plugin_id, kind, detail) VALUES (1, ?, 'note', ?)",
            PLUGIN_ID,
            said,
        )


def _read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in members.items() if file is not None}


def test_a_bundle_holds_what_helps_and_no_secret(
    host: Machine, template: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, proxy passwords, tokens in URLs, docker credentials and keys: none is in it."""
    _plant(host, monkeypatch, tmp_path)
    key = template.key.read_bytes()
    aot = (host.home / "cache" / "aot" / "key").read_bytes()
    path = tmp_path / "support.tar.gz"
    host.run("doctor", "--bundle", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    parts = _read(path)
    assert {name.removeprefix("agent-doctor/") for name in parts} == {
        *("versions.json", "findings.json", "config.json", "list.json", "tree.txt"),
        *("history.json", "schema.sql", "audit.json"),
    }
    everything = b"\n".join(parts.values())
    for secret in SECRETS.values():
        assert secret.encode() not in everything
        assert json.dumps(secret)[1:-1].encode() not in everything
    for line in (*key.splitlines()[1:-1], aot, aot.hex().encode()):
        assert line not in everything
    assert b"http://***@proxy.example:3128" in everything
    assert b'"api_key": "***"' in everything
    assert b'"pin": "***"' in everything
    listed = json.loads(parts["agent-doctor/list.json"])
    assert [row["version"] for row in listed] == ["0.2.0"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://jane:pass@proxy:3128", "http://***@proxy:3128"),
        ("http://jane:p@ss@proxy:3128", "http://***@proxy:3128"),
        ("https://token@host/x", "https://***@host/x"),
        ("jane:pass@proxy:3128", "***@proxy:3128"),
        ("https://host/v1?key=abc&x=1#top", "https://host/v1?***#top"),
        ("org.example.hello:0.2.0@sha256:ab", "org.example.hello:0.2.0@sha256:ab"),
        ("registry.example:5000/p/org.example.hello", "registry.example:5000/p/org.example.hello"),
        ("it said s3cr3t and s3cr3t-more", "it said *** and ***-more"),
    ],
)
def test_what_is_hidden_in_a_text(text: str, shown: str) -> None:
    """Secrets of URLs and the values of settings, and nothing that tells what happened."""
    assert redact(text, ["s3cr3t"]) == shown


def test_a_bundle_can_be_made_when_nothing_works(host: Machine, tmp_path: Path) -> None:
    """A damaged ledger, then a config that quotes a secret in its error: what there is is told."""
    (host.home / "state" / "state.db").write_bytes(b"no ledger" * 1000)
    host.run("doctor", "--bundle", tmp_path / "one.tar.gz", expect=1)
    parts = _read(tmp_path / "one.tar.gz")
    assert b"it is damaged" in parts["agent-doctor/findings.json"]
    host.config_file.write_text(
        f'[plugins."{PLUGIN_ID}"]\nsettings = ["{SECRETS["setting"]}"]\n', encoding="utf-8"
    )
    host.run("doctor", "--bundle", tmp_path / "two.tar.gz", expect=1)
    parts = _read(tmp_path / "two.tar.gz")
    assert SECRETS["setting"].encode() not in b"".join(parts.values())
    assert b"settings is ***, expected" in parts["agent-doctor/findings.json"]


def test_a_bundle_replaces_no_file(host: Machine, tmp_path: Path) -> None:
    """It is there already: nothing is written."""
    path = tmp_path / "mine.tar.gz"
    path.write_text("mine")
    ran = host.run("doctor", "--bundle", path, expect=2)
    assert "it is there already" in ran.err
    assert path.read_text() == "mine"


def test_what_is_not_taken_is_told_with_its_reason(template: Publisher, host: Machine) -> None:
    """A release that serves, unknown to the ledger, of a key that was revoked: still wrong."""
    _unknown(host)
    _broken_old(host)
    host.run("trust", "revoke", template.key_id, "--reason", "stolen")
    for _ in range(2):
        serving = [row for row in wrong(host, "--fix", expect=1) if row["check"] == "serving"]
        assert len(serving) == 1
        assert "the ledger does not know it" in serving[0]["detail"]
        assert any("revoked" in line and "0.2.0" in line for line in serving[0]["told"])


def test_what_is_still_wrong_is_told_beside_what_was_mended(
    template: Publisher, host: Machine
) -> None:
    """One check that mends one plugin and not another: the other's line stays, and exit 1."""
    other = "org.example.other"
    template.release("0.1.0", plugin_id=other, stem="other")
    host.run("pull", f"oci:{template.machine.home / 'registry'}/{other}")
    (folder,) = (host.plugins / ".store" / other).glob("0.1.0-*")
    sql(host, "UPDATE plugins SET projection_due = 1 WHERE plugin_id = ?", other)
    _unknown(host)
    write(release(host, "0.2.0") / f"{STEM}.wasm", b"\0asm other")
    assert folder.is_dir()
    left = wrong(host, "--fix", expect=1)
    assert [row["detail"].partition(":")[0] for row in left if row["check"] == "serving"] == [
        PLUGIN_ID
    ]


@pytest.mark.parametrize("what", [".memory", "current"])
def test_what_prune_would_leave_has_a_hint_that_can_be_followed(host: Machine, what: str) -> None:
    """A folder of nobody's that a ledger could take up: ``agent prune ID`` does not know it."""
    home = host.plugins / ".store" / "org.example.lost"
    (home / "0.0.9-0123456789ab").mkdir(parents=True)
    if what == ".memory":
        (home / what).write_text("{}")
    else:
        (home / what).symlink_to("0.0.8-0123456789ab")
    rows = host.json("doctor", expect=None).document["findings"]
    (told,) = [row for row in rows if "the ledger does not know" in row["detail"] and row["ok"]]
    assert "agent prune" not in told["fix"]
    assert str(home) in told["fix"]
    home.rename(host.home / "away")
    host.run("doctor")
