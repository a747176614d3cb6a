"""Edges of the verbs, on the embedded registry: exit codes, dry runs, and what they leave."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.files import Files
from support.system import (
    PLUGIN_ID,
    PROCESS_WAIT_S,
    SAMPLES,
    STEM,
    CountedRegistry,
    Machine,
    Publisher,
    opened,
    push_by_hand,
)

OTHER_ID = "org.example.other"
THIRD_ID = "org.example.third"
NO_WASM = b"#!/bin/sh\nexit 0\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with the embedded registry alone: a folder."""
    return Machine(tmp_path / "host")


def layout(machine: Machine, plugin_id: str = PLUGIN_ID) -> Path:
    """Where the embedded registry keeps a plugin."""
    return machine.home / "registry" / plugin_id


def everything_below(folder: Path) -> list[str]:
    """The names of all that lies in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def break_layout(machine: Machine, plugin_id: str) -> None:
    """Leave nothing of a plugin's repository."""
    shutil.rmtree(layout(machine, plugin_id))


def lose_network(machine: Machine, plugin_id: str) -> None:
    """Have a plugin come from a server, on a host that may not ask any.

    No server answers to that name: that nobody is asked is test_nobody_is_asked_offline.
    """
    machine.configure(
        "[network]\noffline = true\n"
        f'[registry.namespaces]\n"{plugin_id}" = "registry.example.com/x"\n'
    )


# -- several plugins, one exit code


def three(machine: Machine, publisher: Publisher) -> None:
    """Install three plugins."""
    for plugin_id in (PLUGIN_ID, OTHER_ID, THIRD_ID):
        stem = plugin_id.rpartition(".")[2]
        publisher.release("0.1.0", plugin_id=plugin_id, stem=stem)
        machine.run("pull", plugin_id)


def test_check_and_update_end_alike(machine: Machine, publisher: Publisher) -> None:
    """All well 0; all in the same way that code; some, or in other ways, 12."""
    three(machine, publisher)
    ids = (PLUGIN_ID, OTHER_ID, THIRD_ID)
    for verb in ("check", "outdated", "update"):
        machine.run(verb, expect=0)
    break_layout(machine, PLUGIN_ID)
    for verb in ("check", "outdated", "update"):
        assert machine.json(verb, expect=12).document["plugins"] is not None
        machine.run(verb, PLUGIN_ID, expect=3)
        machine.run(verb, OTHER_ID, THIRD_ID, expect=0)
    break_layout(machine, OTHER_ID)
    for verb in ("check", "outdated", "update"):
        machine.run(verb, PLUGIN_ID, OTHER_ID, expect=3)
        machine.run(verb, expect=12)
    lose_network(machine, THIRD_ID)
    for verb in ("check", "outdated", "update"):
        ran = machine.run(verb, THIRD_ID, expect=5)
        assert "offline" in ran.out + ran.err
        machine.run(verb, PLUGIN_ID, THIRD_ID, expect=12)
        machine.run(verb, *ids, expect=12)


def test_a_repository_that_cannot_be_read_is_a_failed_look(
    machine: Machine, publisher: Publisher
) -> None:
    """Its index is no JSON: ``check`` ends as the update run would, and names the layout."""
    three(machine, publisher)
    index = layout(machine, PLUGIN_ID) / "index.json"
    index.write_text("{")
    for verb in ("check", "outdated", "update"):
        machine.run(verb, PLUGIN_ID, expect=6)
        machine.run(verb, expect=12)
    row = machine.json("check", PLUGIN_ID, expect=6).row
    assert row["action"] == "skip"
    assert str(index.parent) in row["reason"]


def test_a_failed_look_is_not_hidden_by_an_update(machine: Machine, publisher: Publisher) -> None:
    """``check --exit-code`` says 100 only where every plugin could be looked at."""
    three(machine, publisher)
    publisher.release("0.2.0", stem="hello")
    machine.run("check", "--exit-code", expect=100)
    machine.run("check", expect=0)
    break_layout(machine, OTHER_ID)
    machine.run("check", "--exit-code", expect=12)


# -- what a reference without a version names


def test_a_look_honours_the_constraint(machine: Machine, publisher: Publisher) -> None:
    """Resolve, inspect and verify name what ``pull`` would take, not what is newest."""
    first = publisher.release("0.1.0")
    publisher.release("0.2.0")
    machine.configure(f'[plugins."{PLUGIN_ID}"]\nconstraint = "<0.2"\n')
    assert machine.json("resolve", PLUGIN_ID).document["digest"] == first["digest"]
    assert machine.json("inspect", PLUGIN_ID).document["version"] == "0.1.0"
    assert machine.json("verify", PLUGIN_ID).document["release"] == first["release"]
    # A version that is named is looked at, whatever the constraint.
    assert machine.json("inspect", f"{PLUGIN_ID}:0.2.0").document["version"] == "0.2.0"
    assert machine.json("pull", PLUGIN_ID).row["to"] == "0.1.0"
    machine.configure(f'[plugins."{PLUGIN_ID}"]\nconstraint = ">=7"\n')
    for verb in ("resolve", "inspect", "verify"):
        error = machine.json(verb, PLUGIN_ID, expect=8).document["error"]
        assert ">=7" in error["message"]
        assert error["hint"].startswith("agent tags ")


def test_pre_releases_are_looked_at_by_name_alone(machine: Machine, publisher: Publisher) -> None:
    """Where there is nothing else, the refusal says so."""
    publisher.release("1.0.0-rc.1")
    for verb in ("resolve", "inspect", "verify"):
        machine.run(verb, PLUGIN_ID, expect=8)
        machine.run(verb, f"{PLUGIN_ID}:1.0.0-rc.1")


def test_a_hyphen_in_build_metadata_is_no_pre_release(
    machine: Machine, publisher: Publisher
) -> None:
    """``1.0.0+a-b`` is a release like another, newest of all here, and is taken."""
    publisher.release("0.1.0")
    pushed = publisher.release("1.0.0+a-b")
    assert machine.json("resolve", PLUGIN_ID).document["digest"] == pushed["digest"]
    assert machine.json("inspect", PLUGIN_ID).document["version"] == "1.0.0+a-b"
    assert machine.json("verify", PLUGIN_ID).document["release"] == pushed["release"]
    assert machine.json("pull", PLUGIN_ID).row["to"] == "1.0.0+a-b"
    assert machine.version() == "1.0.0+a-b"


# -- push


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tag", "0.3.0"), "0.3.0"),
        (("--tag", "stable", "--tag", "0.2.0_x"), "0.2.0+x"),
        (("--to", f"{PLUGIN_ID}:0.3.0"), "0.3.0"),
        (("--to", f"{PLUGIN_ID}@sha256:{'a' * 64}"), "digest"),
        (("--to", f"{PLUGIN_ID}:0.2.0@sha256:{'a' * 64}"), "digest"),
        (("--to", OTHER_ID), OTHER_ID),
    ],
)
def test_a_push_gives_no_other_name_than_the_signed_one(
    machine: Machine, publisher: Publisher, arguments: tuple[str, ...], said: str
) -> None:
    """Another version's tag, a digest or another id is exit 2, and nothing is pushed."""
    folder = publisher.plugin("0.2.0")
    error = machine.json("push", folder, "--key", publisher.key, *arguments, expect=2)
    assert error.document["error"]["code"] == "usage"
    assert said in error.document["error"]["message"]
    assert not layout(machine).exists()


def test_a_push_may_name_its_own_version_and_channels(
    machine: Machine, publisher: Publisher
) -> None:
    """The version's own tag beside a channel is no other name."""
    publisher.release("0.2.0", "--tag", "0.2.0", "--tag", "stable", "--to", f"{PLUGIN_ID}:0.2.0")
    assert machine.json("tags", PLUGIN_ID).document["versions"] == ["0.2.0"]
    assert machine.json("inspect", f"{PLUGIN_ID}:stable").document["version"] == "0.2.0"


# -- what is no ID


@pytest.mark.parametrize("text", ["hello", "Org.Example", "../../etc/x.y", "org.example.", "a b.c"])
def test_what_is_no_id_changes_nothing(machine: Machine, publisher: Publisher, text: str) -> None:
    """Exit 2, and the host is as it was to the last byte, its log of decisions too."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    log = machine.json("audit", "show").document
    before = machine.snapshot(), everything_below(machine.home)
    for verb in ("info", "check", "outdated", "history", "why", "update", "rollback", "prune"):
        machine.run(verb, text, expect=2)
        machine.run(verb, text, "--config", machine.config_file, expect=2)
    for verb in ("grant", "deny"):
        machine.run(verb, text, "fs_read", expect=2)
    machine.run("grants", text, expect=2)
    machine.run("call", text, "run", "x", expect=2)
    machine.run("pull", text, expect=2)
    assert (machine.snapshot(), everything_below(machine.home)) == before
    assert machine.json("audit", "show").document == log


def test_prune_names_only_what_was_installed(machine: Machine, publisher: Publisher) -> None:
    """An ID that was never installed is exit 3, dry or not, and nothing else is pruned."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    before = machine.snapshot()
    for more in ([], ["--dry-run"]):
        machine.run("prune", PLUGIN_ID, OTHER_ID, *more, expect=3)
    assert machine.snapshot() == before


def test_a_dry_prune_removes_nothing(machine: Machine, publisher: Publisher) -> None:
    """It names what a prune would remove: just that goes then, and nothing before."""
    machine.configure(probation="0s")
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0"):
        publisher.release(version, sample="0.1.0")
        machine.run("pull", PLUGIN_ID)
    machine.configure(probation="0s", update="keep = 1\n")
    before, compiled = machine.snapshot(), machine.compiled()
    dry = machine.json("prune", "--dry-run")
    assert [row["version"] for row in dry.document["removed"]] == ["0.2.0", "0.1.0"]
    assert machine.run("prune", "--dry-run").out.count("would remove ") == 2
    assert (machine.snapshot(), machine.compiled()) == (before, compiled)
    assert machine.json("prune").out == dry.out
    assert machine.snapshot() != before


def test_nobody_is_asked_offline(
    machine: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """``network.offline`` in the config, or ``--offline``: 5, and no request at all."""
    machine.registry = f"{docker.host}/offline-{machine.home.parent.name}"
    machine.configure()
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.2.0")
    assert docker.requests()
    for flag, text in ((["--offline"], ""), ([], "[network]\noffline = true\n")):
        machine.configure(text)
        for command in (["update"], ["check"], ["pull", PLUGIN_ID], ["tags", PLUGIN_ID]):
            ran = machine.run(*command, *flag, expect=5)
            assert "offline" in ran.out + ran.err
    assert docker.requests() == []
    machine.configure()
    assert machine.json("update").row["to"] == "0.2.0"


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [(("verify",), "agent verify ./my-plugin"), (("call",), "agent call --dev ./my-plugin")],
)
def test_a_folders_bare_name_is_no_reference(
    machine: Machine,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    typed: str,
) -> None:
    """Exit 2, and what to type instead; with "./" it is the folder."""
    folder = publisher.plugin("0.1.0")
    machine.run("sign", folder, "--key", publisher.key)
    folder.rename(publisher.folder / "my-plugin")
    monkeypatch.chdir(publisher.folder)
    error = machine.json(*arguments, "my-plugin", expect=2).document["error"]
    assert error["hint"] == typed
    machine.run(*typed.split()[1:], *(["run", "x"] if "call" in arguments else []))


@pytest.mark.parametrize("verb", ["pull", "tags", "resolve", "inspect"])
def test_a_path_is_no_reference(
    machine: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Exit 2 says so, whether anything is there, and which verbs take paths."""
    monkeypatch.chdir(publisher.plugin("0.1.0"))
    for text, found in {"./nothere": "there is no such path", ".": "it is a path"}.items():
        error = machine.json(verb, text, expect=2).document["error"]
        assert error["message"].startswith(
            f"cannot use {text}: {found}, and agent {verb} takes a reference"
        )
        assert "agent push PATH" in error["hint"]
        assert "host" not in error["message"]


def test_a_new_key_is_durable(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name in the folder too, before its id is printed; where that fails there is none."""
    folder, faults = tmp_path / "keys", [OSError(errno.EIO, "Input/output error")]
    folder.mkdir()
    synced: list[tuple[Path, list[str]]] = []

    def sync(_files: Files, path: Path) -> None:
        synced.append((path, sorted(entry.name for entry in path.iterdir())))
        if faults:
            raise faults.pop()

    monkeypatch.setattr(Files, "sync_folder", sync)
    machine.run("keygen", folder / "k", expect=1)
    assert list(folder.iterdir()) == []
    machine.run("keygen", folder / "k")
    assert synced[1:] == [(folder, ["k"]), (folder, ["k", "k.pub"])]


def test_a_key_file_that_is_not_there_is_named(machine: Machine, tmp_path: Path) -> None:
    """A path is no hex text: exit 2 names the file."""
    for name in (tmp_path / "missing", "missing.pem"):
        ran = machine.json("trust", "add", name, "--owner", "me", "--scope", "a.b", expect=2)
        assert f"cannot read the key {name}: " in ran.document["error"]["message"]


# -- keys and signatures, dry


def test_a_dry_keygen_makes_no_key(machine: Machine, tmp_path: Path) -> None:
    """It says what would be written, and sees what is in the way."""
    key, public = tmp_path / "k.pem", tmp_path / "k.pem.pub"
    ran = machine.run("keygen", key, "--dry-run")
    assert ran.out == f"would write {key}\nwould write {public}\n"
    document = machine.json("keygen", key, "--dry-run").document
    assert (document["key_id"], document["public"], document["path"]) == (None, None, str(key))
    assert not key.exists()
    assert not public.exists()
    for taken in (key, public):
        taken.symlink_to(tmp_path / "nowhere")
        assert str(taken) in machine.run("keygen", key, "--dry-run", expect=2).err
        taken.unlink()
    machine.run("keygen", key)
    was = key.read_bytes()
    machine.run("keygen", key, "--dry-run", expect=2)
    assert key.read_bytes() == was


def test_a_key_is_flushed_before_it_is_shown(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files, whole: nobody is given a public key whose private half a power cut takes."""
    flushed = {}
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        fsync(descriptor)
        if path.is_file():
            flushed[path] = path.read_bytes()

    monkeypatch.setattr("os.fsync", seen)
    key, public = tmp_path / "k.pem", tmp_path / "k.pem.pub"
    machine.run("keygen", key)
    assert flushed == {key: key.read_bytes(), public: public.read_bytes()}


def test_a_dry_sign_writes_no_signature(machine: Machine, publisher: Publisher) -> None:
    """It tells the release and the key that it would be, as the real one does."""
    folder = publisher.plugin("0.1.0")
    arguments = ("sign", folder, "--key", publisher.key)
    names = everything_below(folder)
    dry = machine.json(*arguments, "--dry-run").document
    assert machine.run(*arguments, "--dry-run").out.startswith(f"would sign {PLUGIN_ID} 0.1.0\n")
    assert everything_below(folder) == names
    assert machine.json(*arguments).document == dry
    assert everything_below(folder) == sorted([*names, f"{STEM}.sig"])
    kept = (folder / f"{STEM}.sig").read_bytes()
    stranger = Publisher(machine, publisher.folder / "stranger", "stranger")
    machine.run("sign", folder, "--key", stranger.key, "--dry-run")
    assert (folder / f"{STEM}.sig").read_bytes() == kept


# -- pull --output


def modes(folder: Path) -> dict[str, int]:
    """The permission bits of a folder's files."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_fetched_files_are_for_everyone_to_read(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The row names the release; the files have 0644 whatever the umask; nothing is installed."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    pushed = publisher.release("0.2.0")
    before, target = machine.snapshot(), tmp_path / "fetched"
    old = os.umask(0o077)
    try:
        row = machine.json("pull", PLUGIN_ID, "--output", target).row
    finally:
        os.umask(old)
    assert (row["outcome"], row["to"]) == ("fetched", "0.2.0")
    assert (row["release"], row["digest"]) == (pushed["release"], pushed["digest"])
    assert set(modes(target).values()) == {0o644}
    assert {f"{STEM}.wasm", f"{STEM}.sig", f"{STEM}.toml"} <= set(modes(target))
    assert (target / f"{STEM}.wasm").read_bytes() == (
        SAMPLES / "0.2.0" / f"{STEM}.wasm"
    ).read_bytes()
    assert machine.snapshot() == before
    machine.run("verify", target)
    shown = machine.run("pull", PLUGIN_ID, "--output", target).out.splitlines()[0]
    assert shown == f"{PLUGIN_ID}  0.2.0  fetched: verified, written to {target}"


def test_a_dry_fetch_writes_nothing(machine: Machine, publisher: Publisher, tmp_path: Path) -> None:
    """It says where the files would go, and makes no folder."""
    publisher.release("0.1.0")
    target = tmp_path / "fetched"
    row = machine.json("pull", PLUGIN_ID, "--output", target, "--dry-run").row
    assert (row["outcome"], row["to"]) == ("planned", "0.1.0")
    assert str(target) in row["detail"]
    assert not target.exists()


def refused_release(publisher: Publisher, machine: Machine, folder: Path, how: str) -> int:
    """Put a bad 0.2.0 into the registry; the exit code of whoever fetches it."""
    if how == "forged":
        stranger = Publisher(machine, folder / "stranger", "stranger")
        built = stranger.artifact(stranger.plugin("0.2.0"))
    elif how == "no wasm":
        built = publisher.artifact(publisher.plugin("0.2.0", code=NO_WASM))
    else:
        built = publisher.artifact(publisher.plugin("0.2.0"))
    with opened(f"oci:{layout(machine)}", folder) as repository:
        push_by_hand(repository, built, tag="0.2.0")
    if how == "spoilt":
        blob = layout(machine) / "blobs" / "sha256" / built.layers[0].digest[7:]
        blob.chmod(0o644)
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return 7 if how == "forged" else 6


@pytest.mark.parametrize("how", ["forged", "no wasm", "spoilt"])
def test_a_refused_fetch_leaves_the_good_files(
    machine: Machine, publisher: Publisher, tmp_path: Path, how: str
) -> None:
    """What lay there is replaced once all is verified, or not at all."""
    target = tmp_path / "fetched"
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID, "--output", target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    code = refused_release(publisher, machine, tmp_path, how)
    machine.run("pull", f"{PLUGIN_ID}:0.2.0", "--output", target, expect=code)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    machine.run("verify", target)


# -- pull --wait


def calls_fail(machine: Machine) -> None:
    """As many as make a trial unhealthy."""
    for _ in range(3):
        machine.run("call", PLUGIN_ID, "run", "x", expect=1)


def somebody_goes_back(machine: Machine) -> None:
    """By hand, in another terminal."""
    machine.run("rollback", PLUGIN_ID)


@pytest.mark.parametrize("end", [calls_fail, somebody_goes_back])
def test_a_wait_ends_with_what_serves_again(
    machine: Machine, publisher: Publisher, end: Callable[[Machine], None]
) -> None:
    """A trial that ends badly while ``pull --wait`` looks on: exit 9, the row is the old one's."""
    first = publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.4.0")
    machine.configure(probation="45s")  # would commit then: no end of this test hangs
    with machine.popen("pull", PLUGIN_ID, "--wait", "--format", "json") as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == f"{PLUGIN_ID}: waiting for its probation to end\n"
        end(machine)
        out, err = waiting.communicate(timeout=PROCESS_WAIT_S)
    assert waiting.returncode == 9, err
    (row,) = json.loads(out)["plugins"]
    assert (row["outcome"], row["from"], row["to"]) == ("rolled_back", "0.1.0", "0.1.0")
    assert (row["release"], row["digest"]) == (first["release"], first["digest"])
    assert row["detail"] in err
    assert machine.version() == "0.1.0"


def test_a_wait_ends_with_what_was_committed(machine: Machine, publisher: Publisher) -> None:
    """A trial that ends well: exit 0, and the row is the new release's."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    pushed = publisher.release("0.2.0")
    machine.configure(probation="1s")
    row = machine.json("pull", PLUGIN_ID, "--wait").row
    assert (row["outcome"], row["from"], row["to"]) == ("committed", "0.1.0", "0.2.0")
    assert row["release"] == pushed["release"]
    assert machine.json("list").row["state"] == "active"


# -- config check


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[registry]\ndefault = "https://registry.example.com"\n', "registry.default"),
        ('[registry.namespaces]\n"org.a" = "UPPER/x"\n', 'registry.namespaces."org.a"'),
    ],
)
def test_a_base_that_is_none_is_found_before_it_is_used(
    machine: Machine, text: str, key: str
) -> None:
    """``config check`` ends with 2 and names file, key and form."""
    machine.configure(text)
    error = machine.json("config", "check", expect=2).document["error"]
    assert error["code"] == "config"
    assert f"cannot use {machine.config_file}: {key} is " in error["message"]
    assert "HOST[:PORT][/PATH] or oci:DIR" in error["message"]
    assert error["hint"] == f"change {key}"


# -- what is no longer believed


def test_a_plugin_of_a_revoked_key_is_broken(machine: Machine, publisher: Publisher) -> None:
    """List and info say so, and why; the bytes are whole all the same."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    (row,) = machine.json("list").document["plugins"]
    assert row["state"] == "active"
    assert "problem" not in row
    machine.run("trust", "revoke", publisher.key_id, "--reason", "laptop stolen")
    for verb in (["list"], ["info", PLUGIN_ID]):
        row = machine.json(*verb).row
        assert row["state"] == "broken"
        assert "laptop stolen" in row["problem"]
    assert "laptop stolen" in machine.run("info", PLUGIN_ID).out
    machine.run("call", PLUGIN_ID, "run", "x", expect=7)


def test_changed_bytes_are_a_problem_too(machine: Machine, publisher: Publisher) -> None:
    """The problem names the folder whose files are not those of the release."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    (sealed,) = (machine.plugins / ".store" / PLUGIN_ID).glob("0.1.0-*")
    code = sealed / f"{STEM}.wasm"
    code.chmod(0o644)
    code.write_bytes((SAMPLES / "0.2.0" / f"{STEM}.wasm").read_bytes())
    row = machine.json("list").row
    assert row["state"] == "broken"
    assert row["problem"]


# -- outdated


def plan(machine: Machine, verb: str) -> dict[str, Any]:
    """The only row of ``check`` or ``outdated``."""
    return machine.json(verb).row


def test_outdated_shows_what_is_not_taken(machine: Machine, publisher: Publisher) -> None:
    """A rejected newer version is there all the same, with the reason; nothing newer is no row."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    assert machine.json("outdated").document["plugins"] == []
    assert machine.run("outdated").err == "nothing newer\n"
    publisher.release("0.2.0")
    machine.run("update")
    machine.run("rollback", PLUGIN_ID)
    row = plan(machine, "outdated")
    assert (row["current"], row["candidate"]) == ("0.1.0", "0.2.0")
    assert row["action"] == "none"
    assert "rejected" in row["reason"]


def test_check_names_what_is_taken_and_outdated_the_newest(
    machine: Machine, publisher: Publisher
) -> None:
    """Between two newer versions, the lower one of which is admitted."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.2.0")
    publisher.release("1.0.0")
    machine.configure(f'[plugins."{PLUGIN_ID}"]\nconstraint = "<1"\n')
    assert plan(machine, "check")["candidate"] == "0.2.0"
    row = plan(machine, "outdated")
    assert (row["candidate"], row["action"]) == ("1.0.0", "update")
    assert 'passed over 1.0.0: the constraint "<1"' in row["reason"]


def test_config_show_keeps_a_proxys_password(machine: Machine) -> None:
    """What is printed can be shown to anyone: the user and password of a URL are left out."""
    machine.configure('[network]\nproxy = "http://jane:secret@proxy.example.com:3128"\n')
    for form in ("text", "json"):
        shown = machine.run("config", "show", "--format", form).out
        assert "proxy.example.com:3128" in shown
        assert "secret" not in shown
