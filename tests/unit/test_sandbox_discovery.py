"""Plugin files on disk: found, read with bounds, and only where they are regular files."""

import os
from pathlib import Path

import pytest

from sandbox.discovery import find_sets, read_set
from sandbox.errors import BadModule, ManifestError, PluginNotFoundError, SandboxError
from support.sandbox import manifest_text


def make_set(folder: Path, stem: str = "hello") -> Path:
    """Write a set of three files; returns the manifest's path."""
    (folder / f"{stem}.wasm").write_bytes(b"\0asm")
    (folder / f"{stem}.sig").write_bytes(b"ab\n")
    manifest = folder / f"{stem}.toml"
    manifest.write_text(manifest_text(signature=f'"file:{stem}.sig"'))
    return manifest


def test_a_set_is_read_from_its_manifest(tmp_path: Path) -> None:
    """The manifest names the stem, and every byte is as it lies there."""
    manifest = make_set(tmp_path)
    (tmp_path / "ReadMe.MD").write_text("hello")
    files = read_set(manifest)
    assert (files.stem, files.payload, files.signature) == ("hello", b"\0asm", b"ab\n")
    assert files.manifest == manifest.read_bytes()
    assert (files.readme, files.folder) == (b"hello", tmp_path)


def test_a_missing_signature_is_for_the_verifier(tmp_path: Path) -> None:
    """Without ``.sig`` and README the rest is read: what it means is decided elsewhere."""
    manifest = make_set(tmp_path)
    (tmp_path / "hello.sig").unlink()
    files = read_set(manifest)
    assert (files.signature, files.readme) == (None, None)


def test_missing_files_are_not_found(tmp_path: Path) -> None:
    """No manifest, or no module beside it, is named with its path."""
    with pytest.raises(PluginNotFoundError, match=r"hello\.toml"):
        read_set(tmp_path / "hello.toml")
    manifest = make_set(tmp_path)
    (tmp_path / "hello.wasm").unlink()
    with pytest.raises(PluginNotFoundError, match=r"no hello\.wasm beside it"):
        read_set(manifest)


def test_reads_are_bounded(tmp_path: Path) -> None:
    """A file over its limit is refused, not read."""
    manifest = make_set(tmp_path)
    with pytest.raises(BadModule, match="longer than 3 bytes"):
        read_set(manifest, max_module_bytes=3)
    os.truncate(tmp_path / "hello.sig", 1 << 40)
    with pytest.raises(SandboxError, match=r"hello\.sig: it is longer"):
        read_set(manifest)
    os.truncate(manifest, 1 << 40)
    with pytest.raises(ManifestError, match="longer than 65536 bytes"):
        read_set(manifest)


@pytest.mark.parametrize("name", ["hello.wasm", "hello.sig", "hello.toml"])
def test_links_and_pipes_are_refused(tmp_path: Path, name: str) -> None:
    """A link is not followed and a pipe is not waited for."""
    manifest = make_set(tmp_path)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(SandboxError, match="it is a link"):
        read_set(manifest)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SandboxError, match="expected a regular file"):
        read_set(manifest)


def test_an_endless_readme_is_left_out(tmp_path: Path) -> None:
    """A README is for people; one that is too long or a link does not stop the plugin."""
    manifest = make_set(tmp_path)
    (tmp_path / "README.md").write_bytes(b"x")
    os.truncate(tmp_path / "README.md", 1 << 40)
    assert read_set(manifest).readme is None


def test_only_whole_sets_are_found(tmp_path: Path) -> None:
    """Whole sets are listed by name; other TOML, hidden files, parts and links are not."""
    second = make_set(tmp_path, "second")
    first = make_set(tmp_path, "first")
    (tmp_path / ".hidden.toml").write_bytes(first.read_bytes())
    (tmp_path / "linked.toml").symlink_to(first)
    (tmp_path / "config.toml").write_text("[limits]\n")
    (tmp_path / "broken.toml").write_text("[")
    make_set(tmp_path, "part")
    (tmp_path / "part.sig").unlink()
    assert find_sets(tmp_path) == [first, second]
    assert find_sets(tmp_path / "nowhere") == []


def test_a_set_whose_manifest_is_broken_is_not_passed_over(tmp_path: Path) -> None:
    """Its reader is the one to say what is wrong with it."""
    manifest = make_set(tmp_path)
    manifest.write_text("[")
    assert find_sets(tmp_path) == [manifest]
