"""Being told of changed files: once they rest, in folders that are there or come later."""

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.service.watching import Watching, stamp_of

WAIT_S = 20
QUIET_S = 1.5
"""Longer than the rest that a change is told after."""


@pytest.fixture
def told() -> "queue.SimpleQueue[str]":
    """Gets a word each time somebody is told."""
    return queue.SimpleQueue()


@pytest.fixture
def watching(told: "queue.SimpleQueue[str]") -> Iterator[Watching]:
    """Watches nothing yet."""
    watching = Watching(lambda: told.put("changed"))
    watching.start()
    with contextlib.closing(watching):
        yield watching


def is_quiet(told: "queue.SimpleQueue[str]") -> bool:
    """Whether nobody is told for a while."""
    try:
        told.get(timeout=QUIET_S)
    except queue.Empty:
        return True
    return False


def test_files_that_are_being_copied_are_told_of_once(
    tmp_path: Path, watching: Watching, told: "queue.SimpleQueue[str]"
) -> None:
    """After they rest; that somebody reads them is no change."""
    watching.look([tmp_path])
    told.get(timeout=WAIT_S)  # what changed before nobody told
    file = tmp_path / "hello-plugin.wasm"
    with file.open("wb") as half:
        for _ in range(20):
            half.write(b"\0" * 1000)
            half.flush()
    file.rename(tmp_path / "other-plugin.wasm")
    told.get(timeout=WAIT_S)
    assert is_quiet(told)
    assert (tmp_path / "other-plugin.wasm").read_bytes()
    assert is_quiet(told)
    (tmp_path / "other-plugin.wasm").unlink()
    told.get(timeout=WAIT_S)


def test_a_folder_that_comes_later_is_watched_from_its_next_look(
    tmp_path: Path, watching: Watching, told: "queue.SimpleQueue[str]"
) -> None:
    """And one that is not asked for any more is not; what lay there already is told of."""
    first, later = tmp_path / "first", tmp_path / "later"
    first.mkdir()
    watching.look([first, later])
    told.get(timeout=WAIT_S)
    later.mkdir()
    (later / "there already").touch()
    watching.look([later])
    told.get(timeout=WAIT_S)
    assert is_quiet(told)
    (first / "file").touch()
    assert is_quiet(told)
    (later / "file").touch()
    told.get(timeout=WAIT_S)


def test_a_folder_that_was_made_anew_is_watched_anew(
    tmp_path: Path, watching: Watching, told: "queue.SimpleQueue[str]"
) -> None:
    """Restored from a copy, say, between two looks: it has the same name and is another."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    watching.look([folder])
    told.get(timeout=WAIT_S)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    watching.look([folder])
    told.get(timeout=WAIT_S)
    assert is_quiet(told)
    (folder / "file").touch()
    told.get(timeout=WAIT_S)


def test_a_stamp_changes_with_each_file(tmp_path: Path) -> None:
    """Written, replaced, gone, loosened; one that is not there is left out."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a")
    stamps = [stamp_of([first, second])]
    assert len(stamps[0]) == 1
    second.write_text("b")
    stamps.append(stamp_of([first, second]))
    first.write_text("another")
    stamps.append(stamp_of([first, second]))
    first.chmod(0o600)
    stamps.append(stamp_of([first, second]))
    first.unlink()
    stamps.append(stamp_of([first, second]))
    assert len(set(stamps)) == len(stamps)
    assert stamp_of([first, second]) == stamps[-1]
