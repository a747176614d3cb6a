"""Releases carried between repositories of every kind, and through an archive."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    BuiltArtifact,
    ContentError,
    HttpLocation,
    LayoutLocation,
    LayoutRepository,
    Manifest,
    NotFoundError,
    Readable,
    Repository,
    TagMovedError,
    Writable,
    open_repository,
    push_artifact,
)
from registry.archive import ArchiveWriter, open_archive
from registry.attached import attached_to
from registry.copying import Courier
from support.links import breaking_link
from support.places import Place
from support.registry import PLUGIN_ID, attach, docker_registry, make_artifact

LARGE = b"\0asm" + bytes(range(256)) * 20_000
"""More than goes through memory."""


@pytest.fixture
def built(tmp_path: Path) -> BuiltArtifact:
    """A release with a large layer."""
    return make_artifact(tmp_path, payload=LARGE)


@pytest.fixture
def layout(tmp_path: Path, built: BuiltArtifact) -> LayoutRepository:
    """A layout with the release, and with what is attached to it two deep."""
    repository = LayoutRepository(LayoutLocation(tmp_path / "source", PLUGIN_ID), Files())
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    sbom = attach(repository, Manifest.parse(built.manifest_raw).descriptor)
    attach(repository, sbom.descriptor, artifact_type="text/signature", content=b"signed")
    return repository


def carry_all(source: Readable, target: Writable, folder: Path) -> list[int]:
    """Copy the release and all that is attached to it; the sizes of what was sent."""
    folder.mkdir()
    sent: list[int] = []
    courier = Courier(source, target, folder, sent.append)
    manifest = source.manifest("0.1.0")
    courier.carry(manifest, tags=["0.1.0", "stable"], force=False)
    for top in attached_to(source, manifest.digest):
        for attached in top.flat():
            courier.carry_attached(attached)
    assert not list(folder.iterdir())
    return sent


def contents(repository: Readable) -> dict[str, bytes | str]:
    """All that a release and what hangs on it consist of."""
    manifest = repository.manifest("0.1.0")
    attached = [one for top in attached_to(repository, manifest.digest) for one in top.flat()]
    assert all(one.manifest for one in attached)
    found: dict[str, bytes | str] = {"stable": repository.manifest("stable").digest}
    for one in (manifest, *(one.manifest for one in attached if one.manifest)):
        found[one.digest] = one.raw
        for blob in one.blobs:
            found[blob.digest] = hashlib.sha256(
                repository.read_blob(blob, max_bytes=len(LARGE))
            ).hexdigest()
    return found


def test_a_release_is_carried_there_and_back(
    layout: LayoutRepository, repository: Repository, tmp_path: Path
) -> None:
    """Into every kind of repository with all that is attached, and out of it: the same bytes."""
    sent = carry_all(layout, repository, tmp_path / "out")
    assert sum(sent) > len(LARGE)
    back = LayoutRepository(LayoutLocation(tmp_path / "back", PLUGIN_ID), Files())
    carry_all(repository, back, tmp_path / "in")
    layout.push_manifest(layout.manifest("0.1.0").raw, tag="stable")
    assert contents(back) == contents(repository) == contents(layout)


def test_what_is_there_is_not_sent_again(
    layout: LayoutRepository, repository: Repository, tmp_path: Path
) -> None:
    """A second copy sends no blob."""
    carry_all(layout, repository, tmp_path / "first")
    assert carry_all(layout, repository, tmp_path / "second") == []


def test_a_large_blob_is_under_way_twice(
    layout: LayoutRepository, repository: Repository, tmp_path: Path
) -> None:
    """Half of the progress is the way here, half the way there; together it is the size."""
    moved: list[int] = []
    sent: list[int] = []
    manifest = layout.manifest("0.1.0")
    Courier(layout, repository, tmp_path, sent.append, moved.append).carry(
        manifest, tags=["0.1.0"], force=False
    )
    size_bytes = sum(blob.size_bytes for blob in manifest.blobs)
    assert sum(sent) == size_bytes
    assert size_bytes - len(moved) <= sum(moved) <= size_bytes + len(moved)
    assert len(moved) > len(sent)
    sent.clear()
    moved.clear()
    Courier(layout, repository, tmp_path, sent.append, moved.append).carry(
        manifest, tags=["0.1.0"], force=False
    )
    assert (sum(sent), sum(moved)) == (0, size_bytes)  # what is there is behind us, too


def test_a_copy_moves_no_version(
    layout: LayoutRepository, repository: Repository, tmp_path: Path
) -> None:
    """A version that names other bytes at the target is refused before anything is sent."""
    other = make_artifact(tmp_path)
    push_artifact(repository, other, other.sources, tags=["0.1.0"], force=False)
    courier = Courier(layout, repository, tmp_path)
    manifest = layout.manifest("0.1.0")
    with pytest.raises(TagMovedError):
        courier.carry(manifest, tags=["0.1.0", "stable"], force=False)
    assert not repository.has_blob(manifest.layers[0])
    assert repository.tags() == ("0.1.0",)
    courier.carry(manifest, tags=["0.1.0"], force=True)
    assert repository.manifest("0.1.0").digest == manifest.digest


@pytest.mark.parametrize("layer", [0, 1])
def test_wrong_bytes_are_not_sent(
    layout: LayoutRepository, repository: Repository, tmp_path: Path, layer: int
) -> None:
    """What is not its digest in the source never reaches the target, large or small."""
    manifest = layout.manifest("0.1.0")
    blob = manifest.layers[layer]
    path = tmp_path / "source" / PLUGIN_ID / "blobs" / "sha256" / blob.digest[7:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    folder = tmp_path / "under way"
    folder.mkdir()
    with pytest.raises(ContentError):
        Courier(layout, repository, folder).carry(manifest, tags=["0.1.0"], force=False)
    assert not list(folder.iterdir())
    assert not repository.has_blob(blob)
    assert repository.tagged("0.1.0") is None


def test_within_a_registry_blobs_are_mounted(tmp_path: Path, built: BuiltArtifact) -> None:
    """From one repository of a registry to another no blob moves at all."""
    with docker_registry(tmp_path) as host, breaking_link(host) as link:

        def opened(path: str, sibling: str | None = None) -> Repository:
            location = HttpLocation(link.host, f"{path}/{PLUGIN_ID}")
            near = None if sibling is None else HttpLocation(link.host, f"{sibling}/{PLUGIN_ID}")
            return open_repository(location, files=Files(), credentials=Anonymous(), sibling=near)

        with opened("a") as source, opened("b", "a") as target:
            push_artifact(source, built, built.sources, tags=["0.1.0"], force=False)
            up, down = link.up, link.down
            courier = Courier(source, target, tmp_path)
            courier.carry(source.manifest("0.1.0"), tags=["0.1.0"], force=False)
            assert link.up - up < 64 << 10
            assert link.down - down < 64 << 10
            assert (
                target.read_blob(target.manifest("0.1.0").layers[0], max_bytes=len(LARGE)) == LARGE
            )


# -- archives


def write_archive(path: Path, source: Readable, folder: Path) -> None:
    """Write the release and all that is attached to it into one file."""
    with path.open("w+b") as file:
        writer = ArchiveWriter(file, path)
        carry_all(source, writer.named(PLUGIN_ID), folder)
        writer.finish()


@pytest.fixture
def archive_file(layout: LayoutRepository, tmp_path: Path) -> Path:
    """An archive of the layout's release."""
    path = tmp_path / "set.tar"
    write_archive(path, layout, tmp_path / "out")
    return path


def test_a_release_comes_out_of_an_archive(
    archive_file: Path, place: Place, layout: LayoutRepository, tmp_path: Path
) -> None:
    """Through a file to every kind of repository: the same bytes, with all that is attached."""
    with open_archive(archive_file, Files()) as archive, place.open() as target:
        carry_all(archive.named(PLUGIN_ID), target, tmp_path / "in")
        layout.push_manifest(layout.manifest("0.1.0").raw, tag="stable")
        assert contents(target) == contents(layout)


def test_the_same_set_makes_the_same_archive(
    archive_file: Path, layout: LayoutRepository, tmp_path: Path
) -> None:
    """No time, owner or order of the machine is in it."""
    write_archive(tmp_path / "again.tar", layout, tmp_path / "again")
    assert archive_file.read_bytes() == (tmp_path / "again.tar").read_bytes()


@pytest.fixture(params=["gnu", "ustar", "posix"])
def unpacked_and_packed(request: pytest.FixtureRequest, archive_file: Path, tmp_path: Path) -> Path:
    """The archive as tar itself makes it, folders and a foreign long name included."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", archive_file, "-C", folder], check=True)
    if request.param != "ustar":
        (folder / ("long name " * 20)).write_bytes(b"of no meaning")
    path = tmp_path / "packed.tar"
    subprocess.run(["tar", f"--format={request.param}", "-cf", path, "-C", folder, "."], check=True)
    return path


def test_an_archive_made_by_tar_is_read(
    unpacked_and_packed: Path, layout: LayoutRepository
) -> None:
    """Ours unpacks to a layout, and a layout packed by GNU tar in any format is an archive."""
    with open_archive(unpacked_and_packed, Files()) as archive:
        layout.push_manifest(layout.manifest("0.1.0").raw, tag="stable")
        assert contents(archive.named(PLUGIN_ID)) == contents(layout)


def test_an_archive_has_no_other_plugin(archive_file: Path) -> None:
    """Under another id nothing is found in it."""
    with open_archive(archive_file, Files()) as archive:
        assert archive.named(PLUGIN_ID).tags() == ("0.1.0", "stable")
        with pytest.raises(NotFoundError):
            archive.named("org.example.other").resolve("0.1.0")
        with pytest.raises(NotFoundError):
            archive.named("org.example.other").tags()


def test_an_archive_is_asked_before_it_is_written_twice(
    layout: LayoutRepository, tmp_path: Path
) -> None:
    """A version that is in it with other bytes is not moved, and a manifest needs its blobs."""
    with (tmp_path / "set.tar").open("w+b") as file:
        plugin = ArchiveWriter(file, tmp_path / "set.tar").named(PLUGIN_ID)
        other = make_artifact(tmp_path)
        with pytest.raises(ContentError, match="was not written before"):
            plugin.push_manifest(other.manifest_raw, tag="0.1.0")
        push_artifact(plugin, other, other.sources, tags=["0.1.0"], force=False)
        with pytest.raises(TagMovedError):
            Courier(layout, plugin, tmp_path).carry(
                layout.manifest("0.1.0"), tags=["0.1.0"], force=False
            )
        with pytest.raises(TagMovedError):
            plugin.push_manifest(layout.manifest("0.1.0").raw, tag="0.1.0", move=False)
