"""discover, copy, export and import: releases on their way, with all that is attached to them."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from registry import Descriptor
from support.referrers_api import ask_fallback
from support.registry import attach, misbehaving, reply
from support.system import (
    PLUGIN_ID,
    PROCESS_WAIT_S,
    CountedRegistry,
    Machine,
    Publisher,
    opened,
    push_by_hand,
)

OTHER_ID = "org.example.other"
SBOM = "application/spdx+json"


@pytest.fixture
def released(machine: Machine, publisher: Publisher, tmp_path: Path) -> dict[str, Any]:
    """0.1.0 with an SBOM, which is signed; what push said of it."""
    pushed = publisher.release("0.1.0")
    with opened(f"{machine.registry}/{PLUGIN_ID}", tmp_path) as repository:
        sbom = attach(repository, repository.resolve("0.1.0"))
        signature = attach(repository, sbom.descriptor, artifact_type="text/x", content=b"signed")
    return {**pushed, "sbom": sbom.digest, "signature": signature.digest}


def mislist(machine: Machine, subject: str, folder: Path) -> str:
    """List a manifest that refers to something else in a release's fallback index; its digest."""
    nothing = "sha256:" + "d" * 64
    with opened(f"{machine.registry}/{PLUGIN_ID}", folder) as repository:
        attach(repository, repository.resolve("0.1.0"), says=nothing, content=b"stranger")
        (stranger,) = repository.referrers(nothing)
    host, _, prefix = str(machine.registry).partition("/")
    index = ask_fallback(host, f"{prefix}/{PLUGIN_ID}", subject)
    index["manifests"].append(stranger.document())
    ask_fallback(host, f"{prefix}/{PLUGIN_ID}", subject, json.dumps(index).encode())
    return stranger.digest


# -- discover


def test_discover_shows_the_tree(machine: Machine, released: dict[str, Any]) -> None:
    """Text for people, and JSON with the same in it."""
    ran = machine.run("discover", PLUGIN_ID)
    assert ran.out.splitlines() == [
        f"{machine.registry}/{PLUGIN_ID}:0.1.0@{released['digest']}",
        f"└── {SBOM}  {released['sbom']}  2 B",
        f"    └── text/x  {released['signature']}  8 B",
    ]
    document = machine.json("discover", f"{PLUGIN_ID}:0.1.0").document
    assert document["digest"] == released["digest"]
    (sbom,) = document["referrers"]
    assert (sbom["artifact_type"], sbom["digest"]) == (SBOM, released["sbom"])
    assert sbom["annotations"] == {"org.example.note": "attached"}
    assert sbom["problem"] is None
    assert [one["digest"] for one in sbom["referrers"]] == [released["signature"]]


def test_discover_can_be_of_one_type(machine: Machine, released: dict[str, Any]) -> None:
    """Others are left out; where nothing is left, it says so."""
    ref = f"{PLUGIN_ID}@{released['digest']}"
    ran = machine.json("discover", ref, "--artifact-type", SBOM)
    assert [one["referrers"] for one in ran.document["referrers"]] == [[]]
    ran = machine.run("discover", ref, "--artifact-type", "text/none")
    assert ran.out == f"{machine.registry}/{ref}\n"
    assert ran.err == "nothing is attached\n"


def test_discover_says_what_is_not_attached(
    machine: Machine, released: dict[str, Any], tmp_path: Path
) -> None:
    """A list's word is not believed: what refers to something else is told as that."""
    stranger = mislist(machine, released["digest"], tmp_path)
    ran = machine.run("discover", PLUGIN_ID)
    assert f"{stranger}  not used: it refers to sha256:{'d' * 64}" in ran.out


def test_discover_shows_what_cosign_kept_at_tags(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Its signatures of old: found by the tag's name, so with the tag; of one type, too."""
    digest = publisher.release("0.1.0")["digest"]
    tag = digest.replace(":", "-") + ".sig"
    simple = "application/vnd.dev.cosign.simplesigning.v1+json"
    with opened(f"{machine.registry}/{PLUGIN_ID}", tmp_path) as repository:
        config = Descriptor.of("application/vnd.oci.image.config.v1+json", b"{}")
        layer = Descriptor.of(simple, b"signed")
        for blob, data in ((config, b"{}"), (layer, b"signed")):
            repository.push_blob(blob, data)
        signature = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.document(),
            "layers": [layer.document()],
        }
        kept = repository.push_manifest(json.dumps(signature).encode(), tag=tag)
    ran = machine.run("discover", PLUGIN_ID)
    assert f"└── {simple}  {kept.digest}  8 B  at the tag {tag}\n" in ran.out
    (row,) = machine.json("discover", PLUGIN_ID, "--artifact-type", simple).document["referrers"]
    assert (row["digest"], row["tag"], row["problem"]) == (kept.digest, tag, None)
    ran = machine.run("discover", PLUGIN_ID, "--artifact-type", SBOM)
    assert ran.err == "nothing is attached\n"
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    machine.run("copy", PLUGIN_ID, where)
    assert machine.json("discover", where).document["referrers"] == []


def test_discover_of_nothing_is_not_found(machine: Machine, released: dict[str, Any]) -> None:
    """An unknown version or digest is an error, and no empty tree."""
    del released
    for ref in (f"{PLUGIN_ID}:9.0.0", f"{PLUGIN_ID}@sha256:{'0' * 64}", "org.example.nothing"):
        ran = machine.json("discover", ref, expect=3)
        assert ran.document["error"]["code"] == "not-found"
    machine.run("discover", "./plugin", expect=2)


# -- copy


@pytest.mark.parametrize("target", ["{registry}/copied/{id}", "oci:{folder}/{id}"])
def test_copy_carries_a_release_and_what_is_attached(
    machine: Machine, released: dict[str, Any], tmp_path: Path, target: str
) -> None:
    """To a registry and to a layout; a pull from there installs the same release."""
    where = target.format(registry=machine.registry, folder=tmp_path / "layouts", id=PLUGIN_ID)
    document = machine.json("copy", PLUGIN_ID, where, "--with-referrers").document
    assert document["ref"] == f"{where}:0.1.0"
    assert document["digest"] == released["digest"]
    assert document["release"] == released["release"]
    assert document["tags"] == ["0.1.0"]
    assert document["outcome"] == "copied"
    assert {one["digest"]: one["problem"] for one in document["referrers"]} == {
        released["sbom"]: None,
        released["signature"]: None,
    }
    (sbom,) = machine.json("discover", where).document["referrers"]
    assert [one["digest"] for one in sbom["referrers"]] == [released["signature"]]
    machine.run("pull", where)
    again = machine.json("copy", PLUGIN_ID, where, "--with-referrers").document
    assert again["sent_bytes"] == 0


def test_copy_leaves_what_is_attached_unless_asked(
    machine: Machine, released: dict[str, Any], tmp_path: Path
) -> None:
    """Without --with-referrers it is the release alone."""
    del released
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    assert machine.json("copy", PLUGIN_ID, where).document["referrers"] == []
    assert machine.json("discover", where).document["referrers"] == []


def test_copy_within_a_registry_sends_nothing(
    machine: Machine, released: dict[str, Any], docker: CountedRegistry
) -> None:
    """Blobs are mounted from the repository beside it."""
    del released
    docker.requests()
    where = f"{machine.registry}/beside/{PLUGIN_ID}"
    assert machine.json("copy", PLUGIN_ID, where).document["sent_bytes"] == 0
    requests = docker.requests()
    uploads = [(method, path) for method, path in requests if "/blobs/uploads/" in path]
    assert uploads
    assert all(method == "POST" and "mount=sha256" in path for method, path in uploads)


def test_a_dry_run_sends_nothing(
    machine: Machine, released: dict[str, Any], docker: CountedRegistry
) -> None:
    """It says what would be copied, and only looks."""
    docker.requests()
    where = f"{machine.registry}/dry/{PLUGIN_ID}"
    document = machine.json("copy", PLUGIN_ID, where, "--with-referrers", "--dry-run").document
    assert (document["outcome"], document["sent_bytes"]) == ("planned", 0)
    assert len(document["referrers"]) == 2
    assert {method for method, _ in docker.requests()} <= {"GET", "HEAD"}
    ran = machine.run("copy", PLUGIN_ID, where, "--dry-run")
    assert ran.out.startswith(f"would copy {where}:0.1.0\n  digest  {released['digest']}\n")


def test_a_channel_is_copied_along(machine: Machine, publisher: Publisher, tmp_path: Path) -> None:
    """The channel that SRC or DST names follows; the version is always there."""
    publisher.release("0.1.0", "--tag", "stable")
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    machine.run("copy", f"{PLUGIN_ID}:stable", where)
    assert machine.json("tags", where).document["other"] == ["stable"]
    machine.run("copy", f"{PLUGIN_ID}:stable", f"{where}:beta")
    assert machine.json("tags", where).document == {
        "schemaVersion": 1,
        "versions": ["0.1.0"],
        "other": ["beta", "stable"],
    }


def test_copy_moves_no_version(
    machine: Machine, publisher: Publisher, released: dict[str, Any], tmp_path: Path
) -> None:
    """Other bytes under the version are refused (8), also in a dry run, unless forced."""
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    folder = publisher.plugin("0.1.0", edit={"Hello": "Another hello"})
    other = publisher.push(folder, "--to", where)
    for more in ((), ("--dry-run",)):
        ran = machine.json("copy", PLUGIN_ID, where, *more, expect=8)
        assert ran.document["error"]["code"] == "policy"
    assert machine.json("resolve", where).document["digest"] == other["digest"]
    machine.run("copy", PLUGIN_ID, where, "--force")
    assert machine.json("resolve", where).document["digest"] == released["digest"]


@pytest.mark.parametrize(
    "target",
    [
        "oci:{folder}/org.example.other",
        "oci:{folder}/org.example.hello:0.2.0",
        "oci:{folder}/org.example.hello@sha256:" + "0" * 64,
        "oci:{folder}/org.example.hello:sha256-" + "0" * 64,
        "./folder",
        "nonsense",
    ],
)
def test_copy_to_another_name_is_refused(
    machine: Machine, released: dict[str, Any], tmp_path: Path, target: str
) -> None:
    """Id and version are the signed manifest's, and nothing is written."""
    del released
    for more in (("--dry-run",), ()):
        machine.run("copy", PLUGIN_ID, target.format(folder=tmp_path / "layouts"), *more, expect=2)
    assert not (tmp_path / "layouts").exists()


def test_what_can_not_be_copied_is_left_behind_aloud(
    machine: Machine, released: dict[str, Any], tmp_path: Path
) -> None:
    """A false entry keeps neither the release nor the other referrers back: 12, with its reason."""
    stranger = mislist(machine, released["digest"], tmp_path)
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    ran = machine.json("copy", PLUGIN_ID, where, "--with-referrers", expect=12)
    problems = {one["digest"]: one["problem"] for one in ran.document["referrers"]}
    assert problems.pop(stranger)
    assert set(problems.values()) == {None}
    ran = machine.run("copy", PLUGIN_ID, where, "--with-referrers", "-q", expect=12)
    assert f"left behind {stranger}: cannot copy" in ran.err  # the reason of a 12 is no chatter
    assert len(machine.json("discover", where).document["referrers"]) == 1


def test_copy_asks_for_no_trust(machine: Machine, released: dict[str, Any], tmp_path: Path) -> None:
    """Who carries need not believe; a pull from there is refused as ever (7)."""
    stranger = Machine(tmp_path / "relay", machine.registry)
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    assert stranger.json("copy", PLUGIN_ID, where).document["digest"] == released["digest"]
    stranger.run("pull", where, expect=7)


def test_what_is_missing_is_told_of_the_side_where_it_is(
    machine: Machine, released: dict[str, Any]
) -> None:
    """A hint on the source for the source's faults alone (3)."""
    del released
    ran = machine.json("copy", f"{PLUGIN_ID}:9.0.0", f"localhost:1/x/{PLUGIN_ID}", expect=3)
    assert "agent tags" in ran.document["error"]["hint"]
    with misbehaving() as server:
        server.route = lambda handler: reply(handler, 404)
        ran = machine.json("copy", PLUGIN_ID, f"{server.host}/x/{PLUGIN_ID}", expect=3)
    assert server.host in ran.document["error"]["message"]
    assert ran.document["error"]["hint"] is None


# -- export and import


@pytest.fixture
def bundle(
    machine: Machine, publisher: Publisher, released: dict[str, Any], tmp_path: Path
) -> Path:
    """An archive of two plugins."""
    del released
    publisher.release("1.2.0", plugin_id=OTHER_ID, stem="other")
    path = tmp_path / "set.tar"
    rows = machine.json("export", PLUGIN_ID, OTHER_ID, "--output", path).document["plugins"]
    assert [(row["id"], row["outcome"], len(row["referrers"])) for row in rows] == [
        (PLUGIN_ID, "copied", 2),
        (OTHER_ID, "copied", 0),
    ]
    return path


def test_a_set_goes_over_the_air_gap(
    machine: Machine, publisher: Publisher, released: dict[str, Any], bundle: Path, tmp_path: Path
) -> None:
    """Exported here, imported there without a network, and installed from there."""
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    rows = island.json("import", bundle, "--offline").document["plugins"]
    assert [(row["id"], row["version"], row["outcome"]) for row in rows] == [
        (PLUGIN_ID, "0.1.0", "copied"),
        (OTHER_ID, "1.2.0", "copied"),
    ]
    pulled = island.json("pull", PLUGIN_ID, "--offline").row
    assert (pulled["outcome"], pulled["digest"]) == ("committed", released["digest"])
    here, there = (
        one.json("discover", PLUGIN_ID).document["referrers"] for one in (machine, island)
    )
    assert here == there
    again = island.json("import", bundle).document["plugins"]
    assert [row["sent_bytes"] for row in again] == [0, 0]


def test_import_goes_where_it_is_told(machine: Machine, bundle: Path) -> None:
    """--registry BASE is another registry's place for all of the set."""
    base = f"{machine.registry}/imported"
    ran = machine.run("import", bundle, "--registry", base)
    assert f"copied {base}/{PLUGIN_ID}:0.1.0\n" in ran.out
    assert machine.json("tags", f"{base}/{OTHER_ID}").document["versions"] == ["1.2.0"]


def test_a_dry_import_writes_nothing(
    machine: Machine, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    """Nor does a dry export."""
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    rows = island.json("import", bundle, "--dry-run").document["plugins"]
    assert [row["outcome"] for row in rows] == ["planned", "planned"]
    assert not (island.home / "registry").exists()
    bundle.unlink()
    machine.run("export", PLUGIN_ID, "--output", bundle, "--dry-run")
    assert not bundle.exists()


def test_who_believes_nobody_imports_nothing(bundle: Path, tmp_path: Path) -> None:
    """Without a trust store each is refused (7), with the next command to type."""
    island = Machine(tmp_path / "island")
    ran = island.json("import", bundle, expect=7)
    assert {row["outcome"] for row in ran.document["plugins"]} == {"refused"}
    assert "agent trust add" in ran.err
    assert not (island.home / "registry").exists()


def test_one_that_is_refused_keeps_no_other_out(
    machine: Machine, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    """Trust in one plugin's publisher imports that plugin: 12."""
    del machine
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island, PLUGIN_ID)
    ran = island.json("import", bundle, expect=12)
    outcomes = {row["id"]: row["outcome"] for row in ran.document["plugins"]}
    assert outcomes == {PLUGIN_ID: "copied", OTHER_ID: "refused"}
    island.run("tags", OTHER_ID, expect=3)
    island.run("pull", PLUGIN_ID)


def test_import_moves_no_version(
    machine: Machine, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    """What is there with other bytes stays (8), the rest comes in; --force moves it."""
    del machine
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    folder = publisher.plugin("0.1.0", edit={"Hello": "Another hello"})
    island.run("push", folder, "--key", publisher.key)
    before = island.json("resolve", PLUGIN_ID).document["digest"]
    for more in (("--dry-run",), ()):
        ran = island.json("import", bundle, *more, expect=12)
        assert ran.document["plugins"][0]["outcome"] == "refused"
    assert island.json("resolve", PLUGIN_ID).document["digest"] == before
    island.run("resolve", OTHER_ID)
    island.run("import", bundle, "--force")
    assert island.json("resolve", PLUGIN_ID).document["digest"] != before


@pytest.mark.parametrize(
    ("part", "code"), [(b"\0asm", 6), (b'id = "org.example.other"', 12), (b"signed", 12)]
)
def test_damaged_bytes_come_in_nowhere(
    publisher: Publisher, bundle: Path, tmp_path: Path, part: bytes, code: int
) -> None:
    """One flipped bit in code that both share, in one's manifest, in what is attached to one."""
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    raw = bytearray(bundle.read_bytes())
    raw[raw.index(part) + 1] ^= 1
    bundle.write_bytes(raw)
    ran = island.json("import", bundle, expect=code)
    assert "its bytes are sha256:" in ran.err
    imported = {row["id"] for row in ran.document["plugins"] if row["outcome"] == "copied"}
    assert (
        imported
        == {
            b"\0asm": set(),
            b'id = "org.example.other"': {PLUGIN_ID},
            b"signed": {PLUGIN_ID, OTHER_ID},
        }[part]
    )
    for plugin_id in (PLUGIN_ID, OTHER_ID):
        island.run("resolve", plugin_id, expect=0 if plugin_id in imported else 3)


def test_what_is_no_archive_is_said(machine: Machine, tmp_path: Path) -> None:
    """Not there (3), no tar (6), no layout (6): a message that names the file."""
    missing = machine.json("import", tmp_path / "none.tar", expect=3)
    assert missing.document["error"]["code"] == "not-found"
    (tmp_path / "text.tar").write_text("text")
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(tmp_path / "text.tar", "text")
    for name in ("text.tar", "other.tar"):
        ran = machine.json("import", tmp_path / name, expect=6)
        assert name in ran.document["error"]["message"]


def test_an_export_is_whole_or_not_there(
    machine: Machine, publisher: Publisher, docker: CountedRegistry, tmp_path: Path
) -> None:
    """What fails in the middle leaves what was there before, and no temporary file."""
    publisher.release("0.1.0")
    # Code of its own: the registry and its blobs are shared with other tests.
    mine = f'(module (memory (export "memory") 1) (data (i32.const 0) "{tmp_path}"))'
    publisher.release("1.0.0", plugin_id=OTHER_ID, stem="other", code=mine)
    both = (PLUGIN_ID, OTHER_ID, "--output", tmp_path / "set.tar")
    machine.run("export", *both)
    before = (tmp_path / "set.tar").read_bytes()
    names = sorted(path.name for path in tmp_path.iterdir())
    code = machine.json("inspect", OTHER_ID).document["layers"][0]["digest"]
    docker.blob(code).write_bytes(b"\0asm other")
    machine.run("export", *both, expect=6)
    assert (tmp_path / "set.tar").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert not list((machine.home / "cache" / "incoming").iterdir())


def test_an_export_replaces_files_alone(
    machine: Machine, released: dict[str, Any], tmp_path: Path
) -> None:
    """A pipe or a device stays what it is (2); behind a link it is the file that is written."""
    del released
    pipe, link, archive = tmp_path / "pipe", tmp_path / "link", tmp_path / "set.tar"
    os.mkfifo(pipe)
    for more in (("--dry-run",), ()):
        machine.run("export", PLUGIN_ID, "--output", pipe, *more, expect=2)
    assert pipe.is_fifo()
    link.symlink_to(archive)
    machine.run("export", PLUGIN_ID, "--output", link)
    assert link.is_symlink()
    assert tarfile.is_tarfile(archive)


def test_a_release_for_another_id_is_not_imported(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """A ref name that says another id than the signature is refused (6)."""
    built = publisher.artifact(publisher.plugin("0.1.0"))
    with opened(f"oci:{tmp_path}/layouts/{PLUGIN_ID}", tmp_path) as layout:
        push_by_hand(layout, built, tag="0.1.0")
    folder = tmp_path / "layouts" / PLUGIN_ID
    index = json.loads((folder / "index.json").read_bytes())
    fallback = "sha256-" + "a" * 64  # whose index of referrers it would overwrite
    for name in (f"{OTHER_ID}:0.1.0", f"{PLUGIN_ID}:0.2.0", "0.2.0", "a b", fallback):
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": name}
        (folder / "index.json").write_text(json.dumps(index))
        with tarfile.open(tmp_path / "set.tar", "w") as archive:
            archive.add(folder, ".")
        ran = machine.json("import", tmp_path / "set.tar", expect=6)
        assert ran.document["error"]["code"] == "format"
    for name in ("0.1.0", f"localhost:5000/plugins/{PLUGIN_ID}:0.1.0", "stable"):
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": name}
        (folder / "index.json").write_text(json.dumps(index))
        with tarfile.open(tmp_path / "set.tar", "w") as archive:
            archive.add(folder, ".")
        machine.run("import", tmp_path / "set.tar")
    assert machine.json("tags", PLUGIN_ID).document["other"] == ["stable"]


def test_a_large_attachment_keeps_no_release_out(
    machine: Machine,
    publisher: Publisher,
    released: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the limit it is refused (6) with a hint that holds: --without-referrers goes."""
    with opened(f"{machine.registry}/{PLUGIN_ID}", tmp_path) as repository:
        attach(repository, repository.resolve("0.1.0"), content=b"large" * 20_000)
    bundle = tmp_path / "set.tar"
    machine.run("export", PLUGIN_ID, "--output", bundle)
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    monkeypatch.setenv("STACK_COMPOSER_REGISTRY__MAX_ARTIFACT_BYTES", "50000")
    fewer = tmp_path / "fewer.tar"
    refused = machine.json("export", PLUGIN_ID, "--output", fewer, expect=6).document["error"]
    assert "--without-referrers" in refused["hint"]
    assert not fewer.exists()
    (row,) = island.json("import", bundle, expect=6).document["plugins"]
    assert row["outcome"] == "refused"
    more = ("--output", fewer, "--without-referrers")
    (row,) = machine.json("export", PLUGIN_ID, *more).document["plugins"]
    assert (row["digest"], row["referrers"]) == (released["digest"], [])
    (row,) = island.json("import", bundle, "--without-referrers").document["plugins"]
    assert (row["outcome"], row["referrers"]) == ("copied", [])
    assert island.json("discover", PLUGIN_ID).document["referrers"] == []


def test_one_version_is_not_exported_twice(
    machine: Machine, publisher: Publisher, released: dict[str, Any], tmp_path: Path
) -> None:
    """Of two places with other bytes (8): before anything is written, and without a false hint."""
    where = f"oci:{tmp_path}/layouts/{PLUGIN_ID}"
    publisher.push(publisher.plugin("0.1.0", edit={"Hello": "Another hello"}), "--to", where)
    for more in ((), ("--dry-run",)):
        both = (PLUGIN_ID, where, "--output", tmp_path / "set.tar", *more)
        error = machine.json("export", *both, expect=8).document["error"]
        assert released["digest"] in error["message"]
        assert "--force" not in f"{error['message']} {error['hint']}"
    machine.run("export", PLUGIN_ID, PLUGIN_ID, "--output", tmp_path / "set.tar")


def test_two_imports_of_one_archive_at_once(
    machine: Machine, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    """Into one layout, and into one registry: both end well, and all of it is there once."""
    island = Machine(tmp_path / "island")
    publisher.trusted_by(island)
    for base in (f"oci:{tmp_path}/layouts", f"{machine.registry}/twice"):
        arguments = ("import", bundle, "--registry", base)
        with island.popen(*arguments) as one, island.popen(*arguments) as two:
            assert (one.wait(PROCESS_WAIT_S), two.wait(PROCESS_WAIT_S)) == (0, 0)
        for plugin_id, referrers in ((PLUGIN_ID, 1), (OTHER_ID, 0)):
            shown = island.json("discover", f"{base}/{plugin_id}").document
            assert len(shown["referrers"]) == referrers
            island.run("pull", f"{base}/{plugin_id}", "--output", tmp_path / "out" / plugin_id)
