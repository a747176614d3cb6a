"""A push to a layout that dies at any effect on the disk leaves the old state or the new one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.files import Files
from registry import (
    BuiltArtifact,
    LayoutLocation,
    LayoutRepository,
    push_artifact,
    read_artifact,
)
from support.registry import PLUGIN_ID, make_artifact


class Crash(BaseException):
    """The process is gone: nothing may catch it."""


class Dying(Files):
    """A disk that stops at the n-th effect, before it happens.

    Args:
        effects_left: How many effects still happen.
    """

    def __init__(self, effects_left: int) -> None:
        self._effects_left = effects_left

    def _effect(self) -> None:
        if self._effects_left == 0:
            raise Crash
        self._effects_left -= 1

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """An effect."""
        self._effect()
        super().make_folder(path, mode=mode)

    @contextmanager
    def temporary(self, folder: Path, *, mode: int = 0o600) -> Iterator[tuple[BinaryIO, Path]]:
        """An effect."""
        self._effect()
        with super().temporary(folder, mode=mode) as opened:
            yield opened

    def rename(self, source: Path, target: Path) -> None:
        """An effect."""
        self._effect()
        super().rename(source, target)

    @contextmanager
    def lock(self, path: Path, *, timeout_s: float) -> Iterator[None]:
        """An effect."""
        self._effect()
        with super().lock(path, timeout_s=timeout_s):
            yield


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
