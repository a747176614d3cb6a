"""A release that is refused once its code is here blocks no lower one, and is remembered."""

from pathlib import Path

import pytest

from support.system import (
    PLUGIN_ID,
    CountedRegistry,
    Machine,
    Publisher,
    marked,
    opened,
    push_by_hand,
)

_MEMORY = """(memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))"""
_RUN = '(func (export "run") (param i32 i32) (result i64) (i64.const 0))'
_TEXT_HEALTH = '(func (export "health") (param i32 i32) (result i64) (i64.const 0))'
_HEALTH = '(func (export "health") (result i32) (i32.const 0))'
_RETRIEVAL = '["log", "retrieval"]'
_ASKS = f"""(module
  (import "stack_composer_v1" "host_retrieval_search"
    (func $search (param i32 i32 i32) (result i64)))
  {_MEMORY} {_RUN}
  (func (export "health") (result i32)
    (drop (call $search (i32.const 0) (i32.const 0) (i32.const 1))) (i32.const 0)))"""
BAD: dict[str, tuple[str | bytes, dict[str, str], int, str]] = {
    "no entry": (f"(module {_MEMORY} {_HEALTH})", {}, 3, "compile"),
    "no health": (f"(module {_MEMORY} {_RUN})", {}, 3, "compile"),
    "not wasm": (b"#!/bin/sh\nexit 0\n", {}, 6, "compile"),
    "broken wasm": (b"\0asm\x01\0\0\0\xff\xff", {}, 6, "compile"),
    "unknown import": (
        f'(module (import "stack_composer_v1" "host_launch" (func)) {_MEMORY} {_RUN} {_HEALTH})',
        {},
        8,
        "compile",
    ),
    "no alloc": (
        f'(module (memory (export "memory") 1) {_RUN} {_TEXT_HEALTH})',
        {'func = "health"': 'func = "health"\nargs = ["x"]'},
        3,
        "probe",
    ),
    "unfit arguments": (
        f"(module {_MEMORY} {_RUN} {_HEALTH})",
        {'func = "health"': 'func = "health"\nargs = ["x"]'},
        9,
        "probe",
    ),
    "capability": (_ASKS, {}, 8, "probe"),
    "unhealthy": (
        f'(module {_MEMORY} {_RUN} (func (export "health") (result i32) (i32.const 1)))',
        {},
        9,
        "probe",
    ),
}
bad = pytest.mark.parametrize("name", BAD)


def push_bad(machine: Machine, publisher: Publisher, name: str, version: str) -> str:
    """Push a validly signed version that can't be taken; returns its payload's digest."""
    code, edit, *_ = BAD[name]
    built = publisher.artifact(publisher.plugin(version, code=code, edit=edit))
    with opened(f"{machine.registry}/{PLUGIN_ID}", publisher.folder) as repository:
        push_by_hand(repository, built, tag=version)
    return built.layers[0].digest


@bad
def test_the_next_lower_one_is_taken_in_the_same_run(
    installed: Machine, publisher: Publisher, docker: CountedRegistry, name: str
) -> None:
    """The row says what was passed over and why; the next run does not look at it again."""
    publisher.release("0.2.0")
    push_bad(installed, publisher, name, "0.9.0")
    row = installed.json("update", PLUGIN_ID).row
    assert (row["to"], row["outcome"]) == ("0.2.0", "trial")
    assert "passed over 0.9.0: cannot " in row["detail"]
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out
    docker.requests()
    planned = installed.json("check").row
    assert planned["action"] == "wait"
    again = installed.json("update", PLUGIN_ID).row
    assert (again["outcome"], again["from"]) == ("current", "0.2.0")
    assert len([path for _, path in docker.requests() if "/manifests/" in path]) <= 3


@bad
def test_alone_it_is_refused_once_and_remembered(
    installed: Machine, publisher: Publisher, docker: CountedRegistry, name: str
) -> None:
    """Its own exit code and step; then an unchanged check is one request, and promises nothing."""
    push_bad(installed, publisher, name, "0.9.0")
    before = installed.json("list").document
    _, _, code, step = BAD[name]
    row = installed.json("update", expect=code).row
    assert (row["step"], row["from"]) == (step, "0.1.0")
    assert installed.json("list").document == before
    docker.requests()
    assert installed.json("update").row["outcome"] == "current"
    assert len(docker.requests()) == 1
    planned = installed.json("check", "--exit-code").row
    assert (planned["action"], planned["candidate"]) == ("none", "0.9.0")
    assert planned["reason"].startswith("0.9.0: re")
    assert len(docker.requests()) == 1
    installed.run("pull", f"{PLUGIN_ID}:0.9.0", expect=code)
    assert installed.json("list").document == before


def test_a_first_install_takes_the_next_lower_one(machine: Machine, publisher: Publisher) -> None:
    """Whatever kept the newest from being installed, at most three are tried in a run."""
    publisher.release("0.1.0")
    for version, name in (("0.5.0", "no health"), ("0.6.0", "unhealthy"), ("0.7.0", "not wasm")):
        push_bad(machine, publisher, name, version)
    row = machine.json("pull", PLUGIN_ID, expect=6).row
    assert (row["step"], row["to"]) == ("compile", "0.7.0")
    row = machine.json("pull", PLUGIN_ID).row
    assert (row["outcome"], row["to"]) == ("committed", "0.1.0")
    for version in ("0.5.0", "0.6.0", "0.7.0"):
        assert f"passed over {version}: re" in row["detail"]


@pytest.mark.parametrize("spoil", ["cut", "gone"])
def test_code_that_the_registry_lost_blocks_nobody(
    installed: Machine, publisher: Publisher, docker: CountedRegistry, spoil: str
) -> None:
    """Its disk has other bytes than were signed, or none."""
    good = publisher.plugin("0.2.0")
    code = marked((good / "hello-plugin.wasm").read_bytes())
    pushed = publisher.artifact(publisher.plugin("0.9.0", sample="0.2.0", code=code))
    with opened(f"{installed.registry}/{PLUGIN_ID}", publisher.folder) as repository:
        push_by_hand(repository, pushed, tag="0.9.0")
    publisher.push(good)
    blob = docker.blob(pushed.layers[0].digest)
    if spoil == "cut":
        blob.write_bytes(code[:-1])
    else:
        blob.unlink()
    row = installed.json("update").row
    assert (row["to"], row["outcome"]) == ("0.2.0", "trial")
    assert "passed over 0.9.0: cannot " in row["detail"]


def test_a_grant_has_it_looked_at_anew(installed: Machine, publisher: Publisher) -> None:
    """A health function that needs what nobody granted is 8; granted, it is taken."""
    wish = {'["log"]': _RETRIEVAL}
    publisher.release("0.2.0", edit=wish)
    installed.run("grant", PLUGIN_ID, "retrieval")
    installed.configure(probation="0s")
    assert installed.json("update").row["outcome"] == "committed"
    installed.run("deny", PLUGIN_ID, "retrieval")
    publisher.release("0.3.0", code=_ASKS, edit=wish, sample="0.2.0")
    row = installed.json("update", expect=8).row
    assert (row["step"], row["outcome"]) == ("probe", "refused")
    assert installed.json("update").row["outcome"] == "current"
    installed.run("grant", PLUGIN_ID, "retrieval")
    row = installed.json("update").row
    assert (row["to"], row["outcome"]) == ("0.3.0", "committed")


def test_a_full_disk_is_never_remembered(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """What this host lacks costs no release anything: nothing lower is taken for it."""
    publisher.release("0.2.0")
    publisher.release("0.3.0", sample="0.2.0")
    incoming = installed.home / "cache" / "incoming"
    kept = tmp_path / "kept"
    incoming.rename(kept)
    incoming.write_bytes(b"in the way")
    row = installed.json("update", expect=1).row
    assert (row["outcome"], row["to"]) == ("failed", "0.3.0")
    incoming.unlink()
    assert installed.json("update").row["to"] == "0.3.0"


def test_an_output_that_cannot_be_written_says_so(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """It failed while the files were brought, not while they were verified."""
    publisher.release("0.1.0")
    (tmp_path / "file").write_bytes(b"")
    row = machine.json("pull", PLUGIN_ID, "--output", tmp_path / "file" / "folder", expect=None).row
    assert (row["outcome"], row["step"]) == ("failed", "fetch")


def test_an_output_is_not_bound_by_what_is_installed(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The newest is fetched where it serves, was rejected, or can't be run here."""
    machine.configure(probation="0s")
    for version in ("0.1.0", "0.2.0"):
        publisher.release(version)
        machine.run("pull", PLUGIN_ID)
    fetch = ("pull", PLUGIN_ID, "--output", tmp_path / "fetched")
    assert machine.json(*fetch).row["to"] == "0.2.0"
    machine.run("rollback", PLUGIN_ID)
    assert machine.json(*fetch).row["to"] == "0.2.0"
    push_bad(machine, publisher, "no health", "0.9.0")
    machine.run("update", expect=3)
    assert machine.json(*fetch).row["to"] == "0.9.0"
    assert machine.version() == "0.1.0"


def test_an_output_passes_over_what_was_refused_before(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Three forged ones are tried in one run; the next one goes below them."""
    publisher.release("0.1.0")
    stranger = Publisher(machine, tmp_path / "stranger", "stranger")
    for version in ("0.7.0", "0.8.0", "0.9.0"):
        stranger.release(version)
    fetch = ("pull", PLUGIN_ID, "--output", tmp_path / "fetched")
    machine.run(*fetch, expect=7)
    assert machine.json(*fetch).row["to"] == "0.1.0"


@pytest.mark.parametrize("name", ["no entry", "no health", "broken wasm", "unknown import"])
def test_its_publisher_is_warned(machine: Machine, publisher: Publisher, name: str) -> None:
    """What a host would refuse is said at the push, which goes on: other hosts may take it."""
    code, edit, *_ = BAD[name]
    folder = publisher.plugin("0.1.0", code=code, edit=edit)
    for more in (("--dry-run",), ()):
        ran = machine.json("push", folder, "--key", publisher.key, *more)
        assert "a host like this one will refuse it" in ran.err
        assert "why: cannot load " in ran.err
        assert ran.document["digest"]
    good = publisher.plugin("0.2.0")
    assert machine.run("push", good, "--key", publisher.key).err == ""


def test_its_publisher_learns_what_is_requested_for_nothing(
    machine: Machine, publisher: Publisher
) -> None:
    """A capability that the code can't use is told at the push, which goes on, and later."""
    folder = publisher.plugin("0.1.0", edit={'["log"]': '["log", "plan"]'})
    ran = machine.json("push", folder, "--key", publisher.key)
    assert "it requests 'plan' and imports nothing of it" in ran.err
    assert ran.document["digest"]
    inspected = machine.json("inspect", PLUGIN_ID).document
    assert inspected["notes"] == ["it requests 'plan' and imports nothing of it"]
    good = publisher.plugin("0.2.0")
    machine.run("push", good, "--key", publisher.key)
    assert machine.json("inspect", PLUGIN_ID).document["notes"] == []
