"""Other tools read what we push, and we read what they copy."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    Bases,
    BuiltArtifact,
    Repository,
    open_repository,
    parse_reference,
    push_artifact,
    read_artifact,
)
from registry.archive import ArchiveWriter, open_archive
from registry.copying import Courier
from support.registry import PLUGIN_ID, attach, docker_registry, make_artifact


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def open_text(text: str) -> Repository:
    """Open the repository of a reference."""
    bases = Bases(default="", namespaces={}, home=Path("/nonexistent"))
    location = parse_reference(text, bases).location
    return open_repository(location, files=Files(), credentials=Anonymous())


def skopeo_copy(source: str, target: str) -> None:
    """Copy with skopeo; the registries here have no TLS."""
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "copy", "--quiet", *flags, source, target], check=True)


def assert_whole(repository: Repository, tag: str, built: BuiltArtifact, folder: Path) -> None:
    """Check that a repository has the artifact at a tag, to the last byte."""
    artifact = read_artifact(repository.manifest(tag))
    assert artifact.manifest.raw == built.manifest_raw
    repository.fetch_blob(artifact.payload, folder / "payload")
    source = built.sources[artifact.payload.digest]
    assert isinstance(source, Path)
    assert (folder / "payload").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("shared", [False, True])
def test_skopeo_copies_from_a_registry_to_a_layout_we_read(
    host: str, tmp_path: Path, *, shared: bool
) -> None:
    """Pushed to a registry, copied by skopeo to ``oci:``, read by us: both kinds of layout."""
    built = make_artifact(tmp_path, version="0.1.0+x")
    with open_text(f"{host}/{PLUGIN_ID}") as registry:
        push_artifact(registry, built, built.sources, tags=["0.1.0+x"], force=False)
    (tmp_path / "layouts").mkdir()
    # In a shared layout the ref name is ID:TAG.
    target = f"oci:{tmp_path}/layouts{':' if shared else '/'}{PLUGIN_ID}:0.1.0_x"
    skopeo_copy(f"docker://{host}/{PLUGIN_ID}:0.1.0_x", target)
    with open_text(f"oci:{tmp_path}/layouts/{PLUGIN_ID}") as layout:
        assert layout.tags() == ("0.1.0_x",)
        assert_whole(layout, "0.1.0_x", built, tmp_path)


def test_a_copy_without_a_tag_is_found(host: str, tmp_path: Path) -> None:
    """The sole manifest of a layout needs no ref name; its version annotation lists it."""
    built = make_artifact(tmp_path, version="0.3.0")
    with open_text(f"{host}/{PLUGIN_ID}") as registry:
        push_artifact(registry, built, built.sources, tags=["0.3.0"], force=False)
    (tmp_path / "layouts").mkdir()
    skopeo_copy(f"docker://{host}/{PLUGIN_ID}:0.3.0", f"oci:{tmp_path}/layouts/{PLUGIN_ID}")
    with open_text(f"oci:{tmp_path}/layouts/{PLUGIN_ID}") as layout:
        assert layout.tags() == ("0.3.0",)
        assert_whole(layout, "0.3.0", built, tmp_path)
        assert_whole(layout, "stable", built, tmp_path)
        newer = make_artifact(tmp_path, version="0.4.0")
        push_artifact(layout, newer, newer.sources, tags=["0.4.0"], force=False)
        assert_whole(layout, "0.4.0", newer, tmp_path)


def test_skopeo_copies_our_layout_to_a_registry(host: str, tmp_path: Path) -> None:
    """Pushed to a layout by us, copied by skopeo to a registry, read by us."""
    built = make_artifact(tmp_path, version="0.2.0")
    with open_text(f"oci:{tmp_path}/layouts/{PLUGIN_ID}") as layout:
        push_artifact(layout, built, built.sources, tags=["0.2.0", "stable"], force=False)
    source = f"oci:{tmp_path}/layouts/{PLUGIN_ID}:0.2.0"
    skopeo_copy(source, f"docker://{host}/copied/{PLUGIN_ID}:0.2.0")
    with open_text(f"{host}/copied/{PLUGIN_ID}") as registry:
        assert registry.tags() == ("0.2.0",)
        assert_whole(registry, "0.2.0", built, tmp_path)


@pytest.mark.parametrize("name", [f"{PLUGIN_ID}:0.1.0", "0.1.0"])
def test_skopeo_writes_an_archive_that_we_read(host: str, tmp_path: Path, name: str) -> None:
    """Pushed to a registry, copied by skopeo into a tar file, carried by us into a layout."""
    built = make_artifact(tmp_path)
    with open_text(f"{host}/{PLUGIN_ID}") as registry:
        push_artifact(registry, built, built.sources, tags=["0.1.0"], force=True)
    archive_file = tmp_path / "set.tar"
    skopeo_copy(f"docker://{host}/{PLUGIN_ID}:0.1.0", f"oci-archive:{archive_file}:{name}")
    with (
        open_archive(archive_file, Files()) as archive,
        open_text(f"oci:{tmp_path}/layouts/{PLUGIN_ID}") as layout,
    ):
        assert archive.index().names == (name,)
        source = archive.named(PLUGIN_ID)
        manifest = source.manifest(built.digest)
        Courier(source, layout, tmp_path).carry(manifest, tags=["0.1.0"], force=False)
        assert_whole(layout, "0.1.0", built, tmp_path)


def test_skopeo_reads_our_archive(host: str, tmp_path: Path) -> None:
    """Two plugins in one tar file of ours: skopeo copies each to a registry, by ID:TAG."""
    first, second = (make_artifact(tmp_path, version=version) for version in ("0.5.0", "0.6.0"))
    archive_file = tmp_path / "set.tar"
    with archive_file.open("w+b") as file:
        writer = ArchiveWriter(file, archive_file)
        for plugin_id, built in ((PLUGIN_ID, first), ("org.example.other", second)):
            plugin = writer.named(plugin_id)
            attach(plugin, push_artifact(plugin, built, built.sources, tags=["1.0.0"], force=False))
        writer.finish()
    for plugin_id, built in ((PLUGIN_ID, first), ("org.example.other", second)):
        source = f"oci-archive:{archive_file}:{plugin_id}:1.0.0"
        skopeo_copy(source, f"docker://{host}/archived/{plugin_id}:1.0.0")
        with open_text(f"{host}/archived/{plugin_id}") as registry:
            assert_whole(registry, "1.0.0", built, tmp_path)
