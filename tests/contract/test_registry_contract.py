"""What every repository promises, behind HTTP or in a folder: one suite over all of them."""

import json
from pathlib import Path

import pytest

from registry import (
    ContentError,
    Descriptor,
    NotFoundError,
    ReferenceFormatError,
    Repository,
    TagMovedError,
    push_artifact,
    read_artifact,
    sha256_digest,
)
from support.places import Place
from support.registry import make_artifact


def stored_blob(folder: Path, digest: str) -> Path:
    """Find a blob's file below a layout or a docker-registry's data."""
    name = digest.removeprefix("sha256:")
    paths = [*folder.rglob(f"blobs/sha256/{name}"), *folder.rglob(f"{name}/data")]
    assert len(paths) == 1
    return paths[0]


def test_what_was_pushed_comes_back(repository: Repository, tmp_path: Path) -> None:
    """Manifest, parts and payload are byte for byte what was pushed."""
    payload = bytes(range(256)) * 12_345
    built = make_artifact(tmp_path, payload=payload)
    sent: list[int] = []
    pushed = push_artifact(
        repository, built, built.sources, tags=["0.1.0"], force=False, progress=sent.append
    )
    assert sum(sent) == sum(part.size_bytes for part in (built.config, *built.layers))
    assert pushed.digest == built.digest == repository.resolve("0.1.0").digest
    manifest = repository.manifest("0.1.0")
    assert manifest.raw == built.manifest_raw
    assert repository.manifest(built.digest) == manifest
    artifact = read_artifact(manifest)
    assert artifact.stem == "hello-plugin"
    assert artifact.readme is not None
    assert repository.read_blob(artifact.readme, max_bytes=100) == b"# Hello\n"
    pieces: list[int] = []
    repository.fetch_blob(artifact.payload, tmp_path / "got", progress=pieces.append)
    assert (tmp_path / "got").read_bytes() == payload
    assert sum(pieces) == len(payload)


def test_resolve_tells_size_and_type(repository: Repository, tmp_path: Path) -> None:
    """A tag's descriptor is that of its manifest."""
    built = make_artifact(tmp_path)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    descriptor = repository.resolve("0.1.0")
    assert descriptor.size_bytes == len(built.manifest_raw)
    assert descriptor.media_type == "application/vnd.oci.image.manifest.v1+json"


def test_pushing_the_same_again_is_no_error(repository: Repository, tmp_path: Path) -> None:
    """A second push of the same bytes sends no blob and succeeds."""
    built = make_artifact(tmp_path)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    pieces: list[int] = []
    again = push_artifact(
        repository, built, built.sources, tags=["0.1.0"], force=False, progress=pieces.append
    )
    assert (again.digest, pieces) == (built.digest, [])


def test_a_version_is_never_moved(repository: Repository, tmp_path: Path) -> None:
    """Other bytes under a released version are refused, and nothing is pushed."""
    first = make_artifact(tmp_path)
    other = make_artifact(tmp_path, payload=b"\0asm other")
    push_artifact(repository, first, first.sources, tags=["0.1.0"], force=False)
    with pytest.raises(TagMovedError, match="stays what it is"):
        push_artifact(repository, other, other.sources, tags=["0.1.0", "stable"], force=False)
    assert repository.resolve("0.1.0").digest == first.digest
    assert repository.tags() == ("0.1.0",)
    assert not repository.has_blob(other.layers[0])


def test_the_manifest_itself_is_not_moved(repository: Repository, tmp_path: Path) -> None:
    """``move=False`` guards the last step too, for publishers that race."""
    first = make_artifact(tmp_path)
    other = make_artifact(tmp_path, readme=None)
    push_artifact(repository, first, first.sources, tags=["0.1.0"], force=False)
    push_artifact(repository, other, other.sources, tags=["other"], force=False)
    with pytest.raises(TagMovedError):
        repository.push_manifest(other.manifest_raw, tag="0.1.0", move=False)
    assert repository.push_manifest(first.manifest_raw, tag="0.1.0", move=False).digest == (
        first.digest
    )


def test_force_moves_a_version(repository: Repository, tmp_path: Path) -> None:
    """With ``force`` the tag names the other bytes."""
    first = make_artifact(tmp_path)
    other = make_artifact(tmp_path, payload=b"\0asm other")
    push_artifact(repository, first, first.sources, tags=["0.1.0"], force=False)
    push_artifact(repository, other, other.sources, tags=["0.1.0"], force=True)
    assert repository.manifest("0.1.0").digest == other.digest


def test_a_channel_moves(repository: Repository, tmp_path: Path) -> None:
    """A tag that is no version follows what is pushed; versions stay listed."""
    for version in ("0.1.0", "0.2.0+linux"):
        built = make_artifact(tmp_path, version=version)
        push_artifact(repository, built, built.sources, tags=[version, "stable"], force=False)
    assert repository.resolve("stable").digest == built.digest
    assert sorted(repository.tags()) == ["0.1.0", "0.2.0_linux", "stable"]


def test_a_push_without_tags_is_found_by_digest(repository: Repository, tmp_path: Path) -> None:
    """A manifest can be stored under its digest alone."""
    tagged = make_artifact(tmp_path)
    push_artifact(repository, tagged, tagged.sources, tags=["0.1.0"], force=False)
    built = make_artifact(tmp_path, readme=None)
    push_artifact(repository, built, built.sources, tags=[], force=False)
    assert repository.manifest(built.digest).raw == built.manifest_raw
    assert repository.tags() == ("0.1.0",)


def test_fallback_tags_are_not_listed(repository: Repository, tmp_path: Path) -> None:
    """``sha256-<hex>`` holds referrers and is no release; no push sets it."""
    built = make_artifact(tmp_path)
    fallback = built.digest.replace(":", "-")
    with pytest.raises(ReferenceFormatError, match="no release"):
        push_artifact(repository, built, built.sources, tags=["0.1.0", fallback], force=False)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    repository.push_manifest(built.manifest_raw, tag=fallback)
    assert repository.tags() == ("0.1.0",)


def test_what_is_missing_is_not_found(repository: Repository, tmp_path: Path) -> None:
    """Repository, tag, manifest and blob: each is ``NotFoundError``."""
    built = make_artifact(tmp_path)
    nowhere = "sha256:" + "0" * 64
    with pytest.raises(NotFoundError):
        repository.tags()
    with pytest.raises(NotFoundError):
        repository.resolve("0.1.0")
    assert repository.tagged("0.1.0") is None
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    with pytest.raises(NotFoundError):
        repository.resolve("0.2.0")
    with pytest.raises(NotFoundError):
        repository.manifest("0.2.0")
    with pytest.raises(NotFoundError):
        repository.manifest(nowhere)
    blob = Descriptor("application/wasm", nowhere, 4)
    assert not repository.has_blob(blob)
    with pytest.raises(NotFoundError):
        repository.read_blob(blob, max_bytes=4)
    with pytest.raises(NotFoundError):
        repository.fetch_blob(blob, tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("tag", ["../../x", "a/b", "", "-a", "a" * 129, "a?b", "a\nb"])
def test_a_tag_is_checked_before_it_is_a_path(repository: Repository, tag: str) -> None:
    """What is no OCI tag never becomes part of a URL or a path."""
    with pytest.raises(ReferenceFormatError):
        repository.resolve(tag)
    with pytest.raises(ReferenceFormatError):
        repository.manifest(tag)


def test_a_digest_is_checked_before_it_is_a_path(repository: Repository) -> None:
    """What is no SHA-256 digest never becomes part of a URL or a path."""
    with pytest.raises(ContentError):
        repository.manifest("sha256:../../../../etc/passwd")


def test_a_manifest_comes_after_its_blobs(repository: Repository, tmp_path: Path) -> None:
    """A manifest that names what isn't there is refused."""
    built = make_artifact(tmp_path)
    with pytest.raises(ContentError):
        repository.push_manifest(built.manifest_raw, tag="0.1.0")
    with pytest.raises(NotFoundError):
        repository.resolve("0.1.0")


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_blob_that_is_not_its_digest_is_not_stored(
    repository: Repository, tmp_path: Path, *, in_memory: bool
) -> None:
    """Bytes are checked on their way in."""
    (tmp_path / "other").write_bytes(b"other")
    descriptor = Descriptor.of("application/wasm", b"bytes")
    with pytest.raises(ContentError):
        repository.push_blob(descriptor, b"other" if in_memory else tmp_path / "other")
    assert not repository.has_blob(descriptor)


@pytest.mark.parametrize("size_bytes", [0, 4, 6, 1 << 20])
def test_a_size_must_be_exact(repository: Repository, tmp_path: Path, size_bytes: int) -> None:
    """A blob shorter or longer than its descriptor says is refused, and leaves no file."""
    repository.push_blob(Descriptor.of("text/markdown", b"hello"), b"hello")
    wrong = Descriptor("text/markdown", sha256_digest(b"hello"), size_bytes)
    folder = tmp_path / "got"
    folder.mkdir()
    with pytest.raises(ContentError):
        repository.fetch_blob(wrong, folder / "file")
    with pytest.raises(ContentError):
        repository.read_blob(wrong, max_bytes=1 << 21)
    assert not list(folder.iterdir())


def test_more_than_asked_for_is_not_read(repository: Repository) -> None:
    """``read_blob`` refuses by the descriptor what is larger than its caller can use."""
    descriptor = Descriptor.of("text/markdown", b"hello")
    repository.push_blob(descriptor, b"hello")
    with pytest.raises(ContentError, match="expected ≤ 4"):
        repository.read_blob(descriptor, max_bytes=4)
    assert repository.read_blob(descriptor, max_bytes=5) == b"hello"


@pytest.mark.parametrize("damage", [b"\0asm\x01\0\0\1", b"\0asm", b"\0asm\x01\0\0\0\0"])
def test_damaged_bytes_are_refused(
    repository: Repository,
    place: Place,
    tmp_path: Path,
    damage: bytes,
) -> None:
    """A blob changed, truncated or prolonged where it is stored does not come through."""
    mine = sha256_digest(str(tmp_path).encode()).encode()
    built = make_artifact(tmp_path, payload=b"\0asm\x01\0\0\0" + mine)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    path = stored_blob(place.folder, built.layers[0].digest)
    path.chmod(0o644)
    path.write_bytes(damage + mine)
    old = tmp_path / "got"
    old.write_bytes(b"old")
    with pytest.raises(ContentError):
        repository.fetch_blob(built.layers[0], old)
    assert old.read_bytes() == b"old"


def test_a_manifest_must_have_the_digest_asked_for(
    repository: Repository, place: Place, tmp_path: Path
) -> None:
    """A manifest changed where it is stored is refused, by tag and by digest."""
    mine = str(tmp_path).encode()
    built = make_artifact(tmp_path, payload=mine)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    path = stored_blob(place.folder, built.digest)
    document = json.loads(built.manifest_raw)
    document["annotations"]["org.opencontainers.image.title"] = "Hello Plugout"
    path.chmod(0o644)
    path.write_text(json.dumps(document, separators=(",", ":")))
    with pytest.raises(ContentError):
        repository.manifest(built.digest)
    with pytest.raises(ContentError):
        repository.manifest("0.1.0")


def test_a_fetched_file_replaces_the_old(repository: Repository, tmp_path: Path) -> None:
    """The destination is exchanged as a whole, empty blobs included."""
    for data in (b"new", b""):
        descriptor = Descriptor.of("text/markdown", data)
        repository.push_blob(descriptor, data)
        (tmp_path / "got").write_bytes(b"old")
        repository.fetch_blob(descriptor, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == data


def test_parts_are_found_after_reopening(place: Place, tmp_path: Path) -> None:
    """A second object sees what a first one pushed."""
    built = make_artifact(tmp_path)
    with place.open() as first:
        push_artifact(first, built, built.sources, tags=["0.1.0"], force=False)
    with place.open() as second:
        assert second.location == place.location
        assert second.manifest("0.1.0").digest == built.digest


def test_a_source_that_shrank_is_refused(repository: Repository, tmp_path: Path) -> None:
    """A payload changed between build and push is not pushed."""
    built = make_artifact(tmp_path, payload=b"\0asm before")
    source = built.sources[built.layers[0].digest]
    assert isinstance(source, Path)
    source.write_bytes(b"\0asm")
    with pytest.raises(ContentError):
        push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
