"""A push to a layout that dies at any effect on the disk leaves the old state or the new one."""

from pathlib import Path

from agent.files import Files
from registry import (
    BuiltArtifact,
    LayoutLocation,
    LayoutRepository,
    Manifest,
    push_artifact,
    read_artifact,
)
from registry.attached import attached_to
from registry.copying import Courier
from support.dying import Crash, Dying
from support.registry import PLUGIN_ID, attach, make_artifact


def push(folder: Path, files: Files, built: BuiltArtifact, *tags: str) -> None:
    """Push to the layout in ``folder``."""
    repository = LayoutRepository(LayoutLocation(folder, PLUGIN_ID), files)
    push_artifact(repository, built, built.sources, tags=tags, force=False)


def assert_whole(folder: Path, tags: tuple[str, ...], digests: dict[str, str]) -> None:
    """Check that exactly these tags are there and that all they name is whole."""
    repository = LayoutRepository(LayoutLocation(folder, PLUGIN_ID), Files())
    assert sorted(repository.tags()) == sorted(tags)
    for tag in tags:
        artifact = read_artifact(repository.manifest(tag))
        assert artifact.manifest.digest == digests[tag]
        for part in (artifact.manifest.config, *artifact.manifest.layers):
            repository.read_blob(part, max_bytes=1 << 20)


def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """At every effect: what was there stays whole, and the same push afterwards succeeds."""
    old = make_artifact(tmp_path, version="0.1.0")
    new = make_artifact(tmp_path, version="0.2.0", payload=b"\0asm new")
    digests = {"0.1.0": old.digest, "0.2.0": new.digest}
    crashes = 0
    while True:
        folder = tmp_path / str(crashes)
        push(folder, Files(), old, "0.1.0")
        try:
            push(folder, Dying(crashes), new, "0.2.0")
        except Crash:
            assert_whole(folder, ("0.1.0",), digests)
            push(folder, Files(), new, "0.2.0")
            assert_whole(folder, ("0.1.0", "0.2.0"), digests)
            crashes += 1
        else:
            break
    assert crashes > 10


def test_a_crash_in_the_first_push_can_be_repaired(tmp_path: Path) -> None:
    """A layout that was never finished is finished by the next push."""
    built = make_artifact(tmp_path)
    crashes = 0
    while True:
        folder = tmp_path / str(crashes)
        try:
            push(folder, Dying(crashes), built, "0.1.0")
        except Crash:
            push(folder, Files(), built, "0.1.0")
            assert_whole(folder, ("0.1.0",), {"0.1.0": built.digest})
            crashes += 1
        else:
            break
    assert crashes > 10


def carry(source: LayoutRepository, folder: Path, files: Files) -> None:
    """Copy 0.1.0 and what is attached to it to the layout in ``folder``."""
    target = LayoutRepository(LayoutLocation(folder, PLUGIN_ID), files)
    courier = Courier(source, target, folder.parent)
    manifest = source.manifest("0.1.0")
    courier.carry(manifest, tags=["0.1.0"], force=False)
    for attached in attached_to(source, manifest.digest):
        courier.carry_attached(attached)


def test_a_crash_in_a_copy_can_be_repaired(tmp_path: Path) -> None:
    """At every effect: what is listed is whole, and the same copy afterwards ends with all."""
    built = make_artifact(tmp_path)
    source = LayoutRepository(LayoutLocation(tmp_path / "source", PLUGIN_ID), Files())
    push_artifact(source, built, built.sources, tags=["0.1.0"], force=False)
    sbom = attach(source, Manifest.parse(built.manifest_raw).descriptor)
    crashes = 0
    while True:
        folder = tmp_path / str(crashes)
        target = LayoutRepository(LayoutLocation(folder, PLUGIN_ID), Files())
        try:
            carry(source, folder, Dying(crashes))
        except Crash:
            for attached in attached_to(target, built.digest):
                assert attached.manifest == sbom
                target.read_blob(sbom.layers[0], max_bytes=100)
            carry(source, folder, Files())
            assert_whole(folder, ("0.1.0",), {"0.1.0": built.digest})
            (attached,) = attached_to(target, built.digest)
            assert attached.manifest == sbom
            crashes += 1
        else:
            break
    assert crashes > 20
