"""The audit log by the command line: which verb leaves which lines, and what the checks say."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.agent import installed_at
from support.system import PLUGIN_ID, STEM, Machine, Publisher

Line = dict[str, Any]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with the embedded registry: nothing here is about the network."""
    return Machine(tmp_path / "host")


def segment(machine: Machine) -> Path:
    """The log's only segment."""
    (path,) = machine.home.glob("**/audit/000001.jsonl")
    return path


def lines(machine: Machine) -> list[Line]:
    """The whole log, as it lies on the disk."""
    return [json.loads(line) for line in segment(machine).read_bytes().splitlines()]


def since(machine: Machine, count: int) -> list[tuple[str, str]]:
    """Who decided what after so many lines."""
    return [(line["by"], line["outcome"]) for line in lines(machine)[count:]]


def sha256_of(path: Path) -> str:
    """As ``sha256sum`` prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def unwritable(machine: Machine) -> Iterator[None]:
    """The log can be read and not written: its segment is a link, which no writer follows."""
    path = segment(machine)
    kept = path.with_name("kept")
    path.rename(kept)
    path.symlink_to(kept)
    try:
        yield
    finally:
        path.unlink()
        kept.rename(path)


# -- which verb leaves which lines


def test_trust_and_a_first_install(installed: Machine, publisher: Publisher) -> None:
    """Pushing and making keys leave none; the line of a release names it and its three files."""
    assert since(installed, 0) == [
        ("trust add", "trusted"),
        ("pull", "activating"),
        ("pull", "committed"),
    ]
    trusted, activating, _ = lines(installed)
    assert trusted["key_id"] == publisher.key_id
    assert "org.example.*" in trusted["reason"]

    row = installed.json("info", PLUGIN_ID).document
    assert (activating["plugin"], activating["version"]) == (PLUGIN_ID, "0.1.0")
    assert activating["release"] in json.dumps(row)
    (folder,) = installed.plugins.rglob(f"0.1.0-{activating['release'][:12]}")
    for name in ("wasm", "sig", "toml"):
        assert activating[f"{name}_sha256"] == sha256_of(folder / f"{STEM}.{name}")
    assert activating["key_id"] == publisher.key_id
    assert activating["digest"].startswith("sha256:")
    assert activating["capabilities"] == ["log"]
    assert activating["findings"]
    assert all(finding["ok"] for finding in activating["findings"])
    assert (activating["uid"], activating["previous"]) == (os.geteuid(), chained(installed, 1))


def chained(machine: Machine, number: int) -> str:
    """The SHA-256 of a line, its line feed included."""
    raw = segment(machine).read_bytes().splitlines(keepends=True)
    return hashlib.sha256(raw[number - 1]).hexdigest()


def test_an_update_and_a_way_back(installed: Machine, publisher: Publisher) -> None:
    """On trial, then left: both releases' lines tell which one they are about."""
    publisher.release("0.2.0")
    before = len(lines(installed))
    installed.run("update")
    assert since(installed, before) == [("update", "activating"), ("update", "trial")]
    installed.run("rollback", PLUGIN_ID)
    assert since(installed, before + 2) == [("rollback", "rolled_back")]
    last = lines(installed)[-1]
    assert (last["version"], installed.version()) == ("0.2.0", "0.1.0")
    assert "0.1.0 serves" in last["reason"]


def test_an_update_without_probation_is_committed(installed: Machine, publisher: Publisher) -> None:
    """No trial, no line of one."""
    installed.configure(probation="0s")
    publisher.release("0.2.0")
    before = len(lines(installed))
    installed.run("update")
    assert since(installed, before) == [("update", "activating"), ("update", "committed")]


def test_staging_without_going_live(installed: Machine, publisher: Publisher) -> None:
    """``pull --no-activate`` leaves ``staged``, and nothing of going live."""
    publisher.release("0.2.0")
    before = len(lines(installed))
    installed.run("pull", PLUGIN_ID, "--no-activate")
    assert since(installed, before) == [("pull", "staged")]
    assert lines(installed)[-1]["version"] == "0.2.0"


def test_a_refusal_is_written_once_with_its_findings(installed: Machine, tmp_path: Path) -> None:
    """A stranger's release: who signed it, which check failed; the second run adds nothing."""
    stranger = Publisher(installed, tmp_path / "stranger", "stranger")
    stranger.release("0.2.0")
    before = len(lines(installed))
    installed.run("update", expect=7)
    assert since(installed, before) == [("update", "refused")]
    last = lines(installed)[-1]
    assert (last["plugin"], last["version"]) == (PLUGIN_ID, "0.2.0")
    assert not all(finding["ok"] for finding in last["findings"])
    installed.run("update")
    installed.run("pull", f"{PLUGIN_ID}:0.2.0", expect=None)
    assert since(installed, before).count(("update", "refused")) == 1
    assert installed.version() == "0.1.0"


def test_an_operators_decisions(installed: Machine, publisher: Publisher) -> None:
    """Grant, deny and revoke: what exactly, and about whom."""
    before = len(lines(installed))
    installed.run("grant", PLUGIN_ID, "retrieval")
    installed.run("deny", PLUGIN_ID, "retrieval")
    installed.run("trust", "revoke", publisher.key_id, "--reason", "laptop stolen")
    assert since(installed, before) == [
        ("grant", "granted"),
        ("deny", "denied"),
        ("trust revoke", "revoked"),
    ]
    granted, denied, revoked = lines(installed)[before:]
    for line in (granted, denied):
        assert (line["plugin"], line["capabilities"]) == (PLUGIN_ID, ["retrieval"])
    assert revoked["key_id"] == publisher.key_id
    assert revoked["reason"].endswith("laptop stolen")


def test_a_decision_that_fails_is_followed_by_failed(machine: Machine, tmp_path: Path) -> None:
    """The disk refuses the store: the intention is there, and so is that it came to nothing."""
    key = tmp_path / "key.pem"
    machine.run("keygen", key)
    (machine.home / "config" / "trusted_keys.lock").mkdir()
    scope = ("--owner", "acme", "--scope", "org.example.*")
    machine.run("trust", "add", f"{key}.pub", *scope, expect=1)
    assert since(machine, 0) == [("trust add", "trusted"), ("trust add", "failed")]


def test_what_is_refused_was_never_decided(installed: Machine, publisher: Publisher) -> None:
    """A key that is trusted already, a scope that is none, a reason of two lines: no line.

    A dry run ends as the command would: with 2.
    """
    other = Publisher(installed, publisher.folder, "other")
    before = len(lines(installed))
    store = installed.home / "config" / "trusted_keys.toml"
    bytes_before = store.read_bytes()
    scope = ("--owner", "again", "--scope", "org.example.*")
    for command in (
        ("trust", "add", publisher.public, *scope),
        ("trust", "add", other.public, "--owner", "x", "--scope", "b..c"),
        ("trust", "revoke", publisher.key_id, "--reason", "two\nlines"),
    ):
        refused = installed.run(*command, expect=2)
        assert refused.err.startswith("agent: cannot ")
        assert refused == installed.run(*command, "--dry-run", expect=2)
    assert since(installed, before) == []
    assert store.read_bytes() == bytes_before


def test_looking_leaves_no_line(installed: Machine, publisher: Publisher) -> None:
    """Reading verbs, dry runs, and a run that finds nothing new."""
    before = segment(installed).read_bytes()
    for verb in ("list", "outdated", "update", "grants", "history", "why", "check"):
        more = (PLUGIN_ID,) if verb in ("grants", "history", "why") else ()
        installed.run(verb, *more)
    installed.run("audit", "verify")
    installed.run("audit", "show")
    installed.run("grant", PLUGIN_ID, "retrieval", "--dry-run")
    installed.run("trust", "revoke", publisher.key_id, "--reason", "x", "--dry-run")
    publisher.release("0.2.0")
    installed.run("update", "--dry-run")
    assert segment(installed).read_bytes() == before


# -- audit verify, audit show


def test_verify_says_sound(installed: Machine) -> None:
    """Exit 0, and how much was read."""
    assert installed.run("audit", "verify").out == "sound: 3 lines in 1 segments\n"
    document = installed.json("audit", "verify").document
    assert (document["sound"], document["lines"], document["segments"]) == (True, 3, 1)
    assert (document["problems"], document["remarks"]) == ([], [])


def test_verify_of_a_log_that_was_never_written(machine: Machine) -> None:
    """Nothing decided: sound, and said so."""
    assert machine.run("audit", "verify").out == "sound: 0 lines in 0 segments\n"
    shown = machine.run("audit", "show")
    assert "nothing was decided yet" in shown.out + shown.err


@pytest.mark.parametrize("case", ["edited", "cut", "removed"])
def test_verify_after_tampering(installed: Machine, case: str) -> None:
    """Exit 6 with segment, line and what; also after later decisions."""
    path = segment(installed)
    raw = path.read_bytes().splitlines(keepends=True)
    if case == "edited":
        path.write_bytes(b"".join(raw).replace(b'"outcome":"trusted"', b'"outcome":"revoked"'))
    elif case == "cut":
        path.write_bytes(b"".join(raw[:-1]))
    else:
        path.unlink()
    expected = {"edited": 2, "cut": 0, "removed": 0}[case]
    document = installed.json("audit", "verify", expect=6).document
    assert document["sound"] is False
    problem = document["problems"][0]
    assert (problem["segment"], problem["line"]) == ("000001.jsonl", expected)
    said = installed.run("audit", "verify", expect=6).out
    assert problem["what"] in said
    assert said.splitlines()[-1].startswith("broken: ")
    installed.run("grant", PLUGIN_ID, "retrieval")
    installed.run("audit", "verify", expect=6)


def test_verify_tells_what_a_crash_left(installed: Machine) -> None:
    """The first part of a line is remarked on, and no problem."""
    with segment(installed).open("ab") as file:
        file.write(b'{"number":4,')
    assert "a write was cut short" in installed.run("audit", "verify").out
    assert installed.json("audit", "verify").document["remarks"]


def test_show_prints_the_latest_last(installed: Machine) -> None:
    """A table of everything; as JSON the lines as they were written."""
    table = installed.run("audit", "show").out.splitlines()
    assert table[0].split() == ["AT", "USER", "BY", "OUTCOME", "PLUGIN", "VERSION", "REASON"]
    assert len(table) == 4
    assert "trusted" in table[1]
    assert "committed" in table[3]
    assert installed.json("audit", "show").document["lines"] == lines(installed)


def test_show_of_one_plugin(installed: Machine) -> None:
    """Only its lines; of a plugin that nothing was decided about, none."""
    shown = installed.json("audit", "show", PLUGIN_ID).document["lines"]
    assert [line["outcome"] for line in shown] == ["activating", "committed"]
    assert installed.json("audit", "show", "org.example.other").document["lines"] == []


# -- a log that can't be written


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was told of the log."""
    return [r.getMessage() for r in caplog.records if r.name == "stack_composer.audit"]


def test_without_the_log_nothing_goes_live(
    installed: Machine, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """The update stops before the flip with exit 1; once the log is back, it goes through."""
    publisher.release("0.2.0")
    raw = segment(installed).read_bytes()
    with unwritable(installed):
        ran = installed.run("update", expect=1)
        assert installed.version() == "0.1.0"
        assert "000001.jsonl" in ran.err
        (said,) = told(caplog)
        assert said.startswith("cannot write the audit log: ")
    assert segment(installed).read_bytes() == raw
    installed.run("update")
    assert installed.version() == "0.2.0"
    installed.run("audit", "verify")


def test_without_the_log_an_operators_decision_is_not_carried_out(
    installed: Machine, publisher: Publisher
) -> None:
    """Grant, revoke, rollback, hold and remove are refused by the disk, and nothing has changed."""
    publisher.release("0.2.0")
    installed.run("update")
    before = installed.snapshot()
    grants = installed.json("grants", PLUGIN_ID).out
    with unwritable(installed):
        installed.run("grant", PLUGIN_ID, "retrieval", expect=1)
        installed.run("trust", "revoke", publisher.key_id, "--reason", "x", expect=1)
        installed.run("rollback", PLUGIN_ID, expect=1)
        installed.run("hold", PLUGIN_ID, expect=1)
        installed.run("remove", PLUGIN_ID, expect=1)
        assert installed.snapshot() == before
        assert installed.json("info", PLUGIN_ID).row["held_until"] is None
        assert installed.json("grants", PLUGIN_ID).out == grants
        assert installed.json("trust", "list").document["keys"][0]["status"] == "active"


def test_without_the_log_a_stop_still_stops(
    installed: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """``disable`` goes on and says so once; ``enable`` waits for the log."""
    with unwritable(installed):
        installed.run("disable", PLUGIN_ID)
        assert len(told(caplog)) == 1
        before = installed.snapshot()
        installed.run("enable", PLUGIN_ID, expect=1)
        assert installed.snapshot() == before
    installed.run("enable", PLUGIN_ID)
    assert installed.version() == "0.1.0"
    installed.run("audit", "verify")


def test_without_the_log_a_trial_still_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the agent does by itself to a release that serves goes on; that is told once."""
    machine = Machine(tmp_path)
    with installed_at(tmp_path, "0.1.0", "0.2.0", probation_s=600) as context:
        trial = context.ledger.trial(PLUGIN_ID)
        assert trial is not None
        new = context.ledger.generation(PLUGIN_ID, trial.release)
        assert new is not None
        with unwritable(machine):
            context.activation.commit(trial)
            context.activation.turn_back(new, None, kind="rolled back", reason="calls failed")
        assert len(told(caplog)) == 1
        assert [r.version for r in context.ledger.rejections(PLUGIN_ID).values()] == ["0.2.0"]
        assert context.audit.log.verify().is_sound


def test_foreign_code_in_the_cache_leaves_a_line(installed: Machine) -> None:
    """Compiled code that was tampered with is named with its plugin; the call works as before."""
    (entry,) = installed.home.glob("cache/**/*.aot")
    data = bytearray(entry.read_bytes())
    data[100] ^= 1
    entry.write_bytes(data)
    before = len(lines(installed))
    assert installed.run("call", "-q", PLUGIN_ID, "run", "Jane").out.strip() == "Hello, Jane"
    assert since(installed, before) == [("call", "foreign")]
    (line,) = lines(installed)[before:]
    assert (line["plugin"], line["version"]) == (PLUGIN_ID, "0.1.0")
    assert str(entry) in line["reason"]
    installed.run("call", "-q", PLUGIN_ID, "run", "Jane")
    assert len(lines(installed)) == before + 1
