"""Layouts that lie, or hold things that are no files."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    BusyError,
    ContentError,
    Descriptor,
    LayoutLocation,
    LayoutRepository,
    NotFoundError,
    ReferenceFormatError,
    push_artifact,
    sha256_digest,
)
from registry.layout_index import LayoutIndex
from support.registry import PLUGIN_ID, make_artifact

REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def layout(tmp_path: Path) -> LayoutRepository:
    """A layout with one release."""
    repository = LayoutRepository(LayoutLocation(tmp_path, PLUGIN_ID), Files())
    built = make_artifact(tmp_path)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    return repository


@pytest.fixture
def root(layout: LayoutRepository, tmp_path: Path) -> Path:
    """Its folder."""
    del layout
    return tmp_path / PLUGIN_ID


def entry(root: Path, **changes: object) -> dict[str, object]:
    """Take the release's index entry, changed."""
    (found,) = json.loads((root / "index.json").read_bytes())["manifests"]
    return {**found, **changes}


BAD_INDEXES = {
    "empty": b"",
    "not JSON": b"index",
    "list": b"[]",
    "no manifests": b"{}",
    "manifests is text": b'{"manifests":"x"}',
    "entry is text": b'{"manifests":["x"]}',
    "key twice": b'{"manifests":[],"manifests":[]}',
    "huge": b'{"manifests":[' + b" " * (4 << 20) + b"]}",
    "nested": b"[" * 100_000,
    "digest is a path": b'{"manifests":[{"mediaType":"a/b","size":1,"digest":"sha256:../../x"}]}',
}


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_a_bad_index_is_refused(layout: LayoutRepository, root: Path, case: str) -> None:
    """Readers and writers refuse it, and a writer leaves it as it is."""
    (root / "index.json").write_bytes(BAD_INDEXES[case])
    with pytest.raises(ContentError):
        layout.tags()
    with pytest.raises(ContentError):
        layout.resolve("0.1.0")
    blobs = [path.read_bytes() for path in root.rglob("blobs/sha256/*")]
    (raw,) = [blob for blob in blobs if b"artifactType" in blob]
    with pytest.raises(ContentError):
        layout.push_manifest(raw, tag="0.2.0")
    assert (root / "index.json").read_bytes() == BAD_INDEXES[case]


@pytest.mark.parametrize("marker", [b"", b"{}", b'{"imageLayoutVersion":"2.0.0"}', b"x" * 5000])
def test_another_layout_version_is_refused(
    layout: LayoutRepository, root: Path, marker: bytes
) -> None:
    """What says to be another format is not read as this one."""
    (root / "oci-layout").write_bytes(marker)
    with pytest.raises(ContentError):
        layout.tags()


def test_one_name_for_two_manifests_is_refused(layout: LayoutRepository, root: Path) -> None:
    """Which of them would depend on the reader."""
    two = [entry(root), entry(root, digest="sha256:" + "0" * 64)]
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": two}))
    with pytest.raises(ContentError, match="2 manifests"):
        layout.resolve("0.1.0")


def test_names_that_are_no_tags_are_not_listed(layout: LayoutRepository, root: Path) -> None:
    """Other tools write other names."""
    names = ["0.1.0", "docker.io/library/x:latest", "../x", "\x1b[31m", ""]
    entries = [entry(root, annotations={REF_NAME: name}) for name in names]
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    assert layout.tags() == ("0.1.0",)


def test_keys_of_others_survive_a_push(
    layout: LayoutRepository, root: Path, tmp_path: Path
) -> None:
    """A push changes its own entry and keeps all else as it was."""
    other = entry(root, annotations={REF_NAME: "other", "x": "y"}, platform={"os": "linux"})
    document = {"schemaVersion": 2, "x": 1, "manifests": [other, entry(root)]}
    (root / "index.json").write_text(json.dumps(document))
    built = make_artifact(tmp_path, readme=None)
    push_artifact(layout, built, built.sources, tags=["0.1.0"], force=True)
    written = json.loads((root / "index.json").read_bytes())
    assert (written["x"], written["manifests"][0]) == (1, other)
    assert [manifest["digest"] for manifest in written["manifests"][1:]] == [built.digest]


def test_an_index_does_not_grow_beyond_what_is_read(layout: LayoutRepository, root: Path) -> None:
    """A push that would make the layout unreadable is refused."""
    padding = entry(root, annotations={REF_NAME: "pad", "x": ""})
    document: dict[str, object] = {"manifests": [padding]}
    space = (4 << 20) - len(json.dumps(document, separators=(",", ":")))
    padding["annotations"] = {REF_NAME: "pad", "x": "y" * space}
    before = json.dumps(document, separators=(",", ":")).encode()
    (root / "index.json").write_bytes(before)
    raw = layout.manifest("pad").raw
    with pytest.raises(ContentError, match="exceed"):
        layout.push_manifest(raw, tag="0.2.0")
    assert (root / "index.json").read_bytes() == before


def replace_by_fifo(path: Path) -> None:
    """A FIFO that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def replace_by_endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def replace_by_folder(path: Path) -> None:
    """A folder."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("replace", [replace_by_fifo, replace_by_endless, replace_by_folder])
@pytest.mark.parametrize("which", ["oci-layout", "index.json"])
def test_what_is_no_file_is_not_read(
    layout: LayoutRepository, root: Path, which: str, replace: Callable[[Path], None]
) -> None:
    """Nothing in a layout can hold a reader up for ever."""
    replace(root / which)
    with pytest.raises(ContentError):
        layout.tags()


@pytest.mark.parametrize("replace", [replace_by_fifo, replace_by_endless, replace_by_folder])
def test_a_blob_that_is_no_file_is_not_read(
    layout: LayoutRepository, root: Path, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    """The same for blobs, whichever way they are read."""
    descriptor = Descriptor.of("text/markdown", b"hello")
    layout.push_blob(descriptor, b"hello")
    replace(root / "blobs" / "sha256" / sha256_digest(b"hello").removeprefix("sha256:"))
    with pytest.raises(ContentError):
        layout.fetch_blob(descriptor, tmp_path / "got")
    with pytest.raises(ContentError):
        layout.read_blob(descriptor, max_bytes=5)
    assert not (tmp_path / "got").exists()


class Impatient(Files):
    """A disk whose locks are had at once or not at all."""

    @contextmanager
    def lock(self, path: Path, *, timeout_s: float) -> Iterator[None]:
        """Do not wait."""
        with super().lock(path, timeout_s=min(timeout_s, 0)):
            yield


def test_a_lock_that_cannot_be_had_is_busy(layout: LayoutRepository, root: Path) -> None:
    """A push beside another's fails with the error that is worth a retry; reading goes on."""
    raw = layout.manifest("0.1.0").raw
    second = LayoutRepository(layout.location, Impatient())
    with Files().lock(root / ".lock", timeout_s=0), pytest.raises(BusyError):
        second.push_manifest(raw, tag="0.2.0")
    assert layout.tags() == ("0.1.0",)
    second.push_manifest(raw, tag="0.2.0")
    assert layout.tags() == ("0.1.0", "0.2.0")


@pytest.mark.parametrize("tag", ["a/b", "", "-x"])
def test_a_tag_is_checked_before_it_is_written(layout: LayoutRepository, tag: str) -> None:
    """No ref name is written that no reference could name."""
    with pytest.raises(ReferenceFormatError):
        layout.push_manifest(layout.manifest("0.1.0").raw, tag=tag)


def test_a_listed_manifest_is_not_listed_twice(layout: LayoutRepository, root: Path) -> None:
    """A push without a tag of what has one changes nothing."""
    before = json.loads((root / "index.json").read_bytes())
    layout.push_manifest(layout.manifest("0.1.0").raw, tag=None)
    assert json.loads((root / "index.json").read_bytes()) == before


def test_a_sole_index_is_no_release(layout: LayoutRepository, root: Path) -> None:
    """A layout whose one entry is an index without a name has no tags, and it is not read."""
    index = entry(root, mediaType="application/vnd.oci.image.index.v1+json", annotations={})
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    assert layout.tags() == ()


def test_an_index_that_stays_is_parsed_once(
    layout: LayoutRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many referrers are looked for; what another process writes is seen at once."""
    parsed = list[str]()
    parse = LayoutIndex.parse

    def counted(raw: bytes, what: str) -> LayoutIndex:
        parsed.append(what)
        return parse(raw, what)

    reader = LayoutRepository(LayoutLocation(tmp_path, PLUGIN_ID), Files())
    monkeypatch.setattr(LayoutIndex, "parse", counted)
    digest = reader.resolve("0.1.0").digest
    for _ in range(3):
        assert reader.referrers(digest) == ()
    assert len(parsed) == 1
    layout.push_manifest(layout.manifest("0.1.0").raw, tag="0.2.0")
    assert reader.resolve("0.2.0").digest == digest


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """Asking a folder that is no layout leaves it as it is."""
    location = LayoutLocation(tmp_path / "nowhere", PLUGIN_ID)
    repository = LayoutRepository(location, Files())
    with pytest.raises(NotFoundError):
        repository.tags()
    with pytest.raises(NotFoundError):
        repository.manifest("0.1.0")
    assert not list(tmp_path.iterdir())
