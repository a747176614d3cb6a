"""Archives that lie: links, names that lead out, twice the same, sizes beyond the end, bombs."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    ContentError,
    Descriptor,
    LayoutLocation,
    LayoutRepository,
    Manifest,
    push_artifact,
)
from registry.archive import ArchiveWriter, open_archive
from registry.digest import sha256_digest
from registry.layout_store import blob_name
from registry.model import MANIFEST_MEDIA_TYPE
from support.registry import PLUGIN_ID, make_artifact

MARKER = b'{"imageLayoutVersion":"1.0.0"}'
Change = Callable[[tarfile.TarFile], None]


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Add an entry whose header says what the test wants."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    for field, value in fields.items():
        setattr(header, field, value)
    archive.addfile(header, io.BytesIO(data))


def then(*entries: tuple[str, bytes, bytes]) -> Change:
    """Several entries in a row: name, bytes, kind."""

    def change(archive: tarfile.TarFile) -> None:
        for name, data, kind in entries:
            add(archive, name, data, type=kind)

    return change


def whole(archive: tarfile.TarFile) -> None:
    """Make it an empty layout."""
    add(archive, "oci-layout", MARKER)
    add(archive, "index.json", b'{"schemaVersion":2,"manifests":[]}')


def made(path: Path, change: Change, *, style: int = tarfile.USTAR_FORMAT) -> Path:
    """Write a layout with one thing more."""
    with tarfile.open(path, "w", format=style) as archive:
        whole(archive)
        change(archive)
    return path


BAD_ENTRIES: dict[str, Change] = {
    "out": lambda a: add(a, "../planted", b"x"),
    "out, deep": lambda a: add(a, "blobs/sha256/../../../planted", b"x"),
    "out, folder": lambda a: add(a, "../planted/", type=tarfile.DIRTYPE),
    "absolute": lambda a: add(a, "/planted", b"x"),
    "symbolic link": lambda a: add(
        a, "blobs/sha256/" + "a" * 64, type=tarfile.SYMTYPE, linkname="/etc/passwd"
    ),
    "symbolic link for a folder": lambda a: add(a, "blobs", type=tarfile.SYMTYPE, linkname="/etc"),
    "hard link": lambda a: add(
        a, "blobs/sha256/" + "a" * 64, type=tarfile.LNKTYPE, linkname="index.json"
    ),
    "device": lambda a: add(a, "blobs/sha256/" + "a" * 64, type=tarfile.CHRTYPE),
    "FIFO": lambda a: add(a, "blobs/sha256/" + "a" * 64, type=tarfile.FIFOTYPE),
    "sparse": lambda a: add(a, "blobs/sha256/" + "a" * 64, type=tarfile.GNUTYPE_SPARSE),
    "unknown kind": lambda a: add(a, "blobs/sha256/" + "a" * 64, type=b"Z"),
    "index twice": lambda a: add(a, "index.json", b"{}"),
    "index twice, in disguise": lambda a: add(a, "././index.json", b"{}"),
    "blob twice": then(*[("blobs/sha256/" + "a" * 64, b"x", tarfile.REGTYPE)] * 2),
    "folder with bytes": lambda a: add(a, "blobs/", b"x" * 512, type=tarfile.DIRTYPE),
    "huge record": lambda a: add(a, "x", b"y" * (1 << 20), type=tarfile.XHDTYPE),
    "huge name": lambda a: add(a, "x", b"y" * (1 << 20), type=tarfile.GNUTYPE_LONGNAME),
    "record without length": lambda a: add(a, "x", b"path=index.json\n", type=tarfile.XHDTYPE),
    "record that is too long": lambda a: add(a, "x", b"99 path=index.json\n", type=tarfile.XHDTYPE),
    "record with a size": lambda a: add(a, "x", b"10 size=1\n", type=tarfile.XHDTYPE),
    "record of an outer name": then(
        ("x", b"19 path=../planted\n", tarfile.XHDTYPE), ("y", b"z", tarfile.REGTYPE)
    ),
    "long name that leads out": then(
        ("x", b"../planted\0", tarfile.GNUTYPE_LONGNAME), ("y", b"z", tarfile.REGTYPE)
    ),
    "name for all": lambda a: add(a, "x", b"19 path=index.json\n", type=tarfile.XGLTYPE),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_an_archive_with_a_bad_entry_is_refused(tmp_path: Path, case: str) -> None:
    """By its headers, before a byte of it is used; and nothing appears beside it."""
    path = made(tmp_path / "set.tar", BAD_ENTRIES[case])
    with pytest.raises(ContentError), open_archive(path, Files()):
        pass
    assert list(tmp_path.iterdir()) == [path]
    assert not (tmp_path.parent / "planted").exists()


def truncated(raw: bytes) -> bytes:
    """Cut in the middle of an entry."""
    return raw[: 512 + 10]


def size_said(text: bytes) -> Callable[[bytes], bytes]:
    """The first header with another size, and a checksum that fits."""

    def change(raw: bytes) -> bytes:
        header = bytearray(raw[:512])
        header[124:136] = text
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + raw[512:]

    return change


BAD_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"no archive at all",
    "zip": lambda _: b"PK\x03\x04" + bytes(600),
    "compressed": gzip.compress,
    "truncated": truncated,
    "truncated header": lambda raw: raw[:100],
    "wrong checksum": lambda raw: b"X" + raw[1:],
    "size beyond the end": size_said(b"77777777777\0"),
    "size beyond 64 bits": size_said(b"\x80" + b"\xff" * 11),
    "negative size": size_said(b"\xff" * 12),
    "size is text": size_said(b"many bytes!\0"),
    "garbage after the first": lambda raw: raw[:1024] + b"\x01" * 2048,
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_what_is_no_archive_is_refused(tmp_path: Path, case: str) -> None:
    """With an error of ours that says what it is about."""
    path = made(tmp_path / "set.tar", lambda _: None)
    path.write_bytes(BAD_BYTES[case](path.read_bytes()))
    with pytest.raises(ContentError, match=r"set\.tar"), open_archive(path, Files()) as archive:
        archive.index()


def test_more_entries_than_any_set_has_are_refused(tmp_path: Path) -> None:
    """A million empty files are not put into a table."""
    block = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    path = tmp_path / "set.tar"
    # All of one name: whoever counts first says so before the second one.
    folder = tarfile.TarInfo("x")
    folder.type = tarfile.DIRTYPE
    path.write_bytes(folder.tobuf(tarfile.USTAR_FORMAT) * 50_001 + block)
    with pytest.raises(ContentError, match="more than 50000"), open_archive(path, Files()):
        pass


def test_an_archive_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """Neither a folder nor a FIFO is waited at."""
    with pytest.raises(OSError, match="regular"), open_archive(tmp_path, Files()):
        pass


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("oci-layout", b"{}"),
        ("oci-layout", b"x" * 5000),
        ("index.json", b"x" * (5 << 20)),
        ("index.json", b'{"schemaVersion":2,"manifests":[' + b" " * (4 << 20) + b"]}"),
        ("index.json", b"{}"),
        ("index.json", b"[" * 100_000),
    ],
)
def test_a_bad_layout_in_an_archive_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    """Its marker and its index are read as strictly as in a folder."""
    files = {"oci-layout": MARKER, "index.json": b'{"manifests":[]}', name: data}
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for each, content in files.items():
            add(archive, each, content)
    with open_archive(path, Files()) as opened, pytest.raises(ContentError):
        opened.index()


def test_an_archive_that_is_no_layout_says_so(tmp_path: Path) -> None:
    """Such as any other tar file."""
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "README.md", b"# Hello")
    with open_archive(path, Files()) as opened, pytest.raises(ContentError, match="no OCI layout"):
        opened.index()


@pytest.mark.parametrize("damage", [b"!", b"", b"longer"])
def test_wrong_bytes_in_an_archive_are_refused(tmp_path: Path, damage: bytes) -> None:
    """A blob of another digest or size comes out of no archive."""
    data = b"right"
    descriptor = Descriptor.of("text/plain", data)
    path = made(
        tmp_path / "set.tar",
        lambda archive: add(archive, f"blobs/sha256/{descriptor.digest[7:]}", data[:-1] + damage),
    )
    with open_archive(path, Files()) as archive:
        reader = archive.named(PLUGIN_ID)
        with pytest.raises(ContentError):
            reader.read_blob(descriptor, max_bytes=100)
        with pytest.raises(ContentError):
            reader.fetch_blob(descriptor, tmp_path / "got")
    assert list(tmp_path.iterdir()) == [path]


def test_a_blob_that_changes_while_it_is_written_is_refused(tmp_path: Path) -> None:
    """What a writer was promised goes into the archive, or an error comes out."""
    built = make_artifact(tmp_path, payload=b"\0asm before")
    layout = LayoutRepository(LayoutLocation(tmp_path / "registry", PLUGIN_ID), Files())
    push_artifact(layout, built, built.sources, tags=["0.1.0"], force=False)
    source = built.sources[built.layers[0].digest]
    assert isinstance(source, Path)
    source.write_bytes(b"\0asm beyond")
    with (tmp_path / "set.tar").open("w+b") as file:
        plugin = ArchiveWriter(file, tmp_path / "set.tar").named(PLUGIN_ID)
        with pytest.raises(ContentError):
            push_artifact(plugin, built, built.sources, tags=["0.1.0"], force=False)


def test_an_index_of_an_archive_is_ours_to_the_letter(tmp_path: Path) -> None:
    """Names in it are ID:TAG, and what has no tag has none."""
    built = make_artifact(tmp_path)
    with (tmp_path / "set.tar").open("w+b") as file:
        writer = ArchiveWriter(file, tmp_path / "set.tar")
        plugin = writer.named(PLUGIN_ID)
        push_artifact(plugin, built, built.sources, tags=["0.1.0+x"], force=False)
        writer.finish()
    with tarfile.open(tmp_path / "set.tar") as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        (entry,) = json.loads(index.read())["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": f"{PLUGIN_ID}:0.1.0_x"}


def test_thousands_of_manifests_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that names many releases costs one read of each, not one for each of the others."""
    entries = []
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as written:
        for number in range(50):
            data = b'{"annotations":{"n":"%d"}}' % number
            manifest = Descriptor.of(MANIFEST_MEDIA_TYPE, data)
            entries.append(manifest.document())
            add(written, f"blobs/sha256/{manifest.digest[7:]}", data)
        add(written, "oci-layout", MARKER)
        add(written, "index.json", json.dumps({"manifests": entries}).encode())
    read = 0

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        count = really(descriptor, buffers, offset)
        read += count
        return count

    really = os.preadv
    monkeypatch.setattr(os, "preadv", counted)
    with open_archive(path, Files()) as archive:
        for entry in archive.index().entries:
            assert archive.named(PLUGIN_ID).referrers(entry.digest) == ()
    assert 0 < read < path.stat().st_size


def test_an_index_that_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    """An export says that it is too large, and not the import on the other side."""
    config = Descriptor.of("text/x", b"{}")
    document = {"schemaVersion": 2, "config": config.document(), "layers": []}
    manifest = Manifest.parse(json.dumps(document).encode())
    with (tmp_path / "set.tar").open("w+b") as file:
        writer = ArchiveWriter(file, tmp_path / "set.tar")
        writer.add_blob(config, b"{}")
        writer.add_manifest(manifest, "x" * (3 << 20))
        with pytest.raises(ContentError, match="would exceed"):
            writer.add_manifest(manifest, "y" * (3 << 20))


def test_a_blob_has_one_size(tmp_path: Path) -> None:
    """A manifest that says another one of the same digest does not come into an archive."""
    config = Descriptor.of("text/x", b"{}")
    layer = {**config.document(), "size": 3}
    document = {"schemaVersion": 2, "config": config.document(), "layers": [layer]}
    with (tmp_path / "set.tar").open("w+b") as file:
        plugin = ArchiveWriter(file, tmp_path / "set.tar").named(PLUGIN_ID)
        plugin.push_blob(config, b"{}")
        with pytest.raises(ContentError, match="was not written"):
            plugin.push_manifest(json.dumps(document).encode(), tag=None)


def test_several_threads_may_bring_blobs(tmp_path: Path) -> None:
    """One is written after the other, each once: what two of them bring is whole."""
    blobs = [bytes([number]) * 300_000 for number in range(8)]
    path = tmp_path / "set.tar"
    with path.open("w+b") as file:
        writer = ArchiveWriter(file, path)

        def bring(data: bytes) -> None:
            writer.add_blob(Descriptor.of("application/octet-stream", data), data)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(bring, blobs * 2))
        writer.finish()
    with tarfile.open(path) as archive:
        found = [member.name for member in archive if member.name.startswith("blobs/")]
    assert sorted(found) == sorted(blob_name(sha256_digest(data)) for data in blobs)
