"""The one place that changes the disk: old or new, exact modes, locks between processes."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.files import Files

FILES = Files()


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A reader that holds the old file reads the old bytes to the end; nothing is left over."""
    path = tmp_path / "a"
    FILES.write_atomic(path, b"old")
    with path.open("rb") as reader:
        FILES.write_atomic(path, b"new", mode=0o600)
        assert reader.read() == b"old"
    assert (path.read_bytes(), mode(path), names(tmp_path)) == (b"new", 0o600, ["a"])


def test_modes_are_exact_whatever_the_umask(tmp_path: Path) -> None:
    """The mode that was asked for, and 0644 where none was."""
    before = os.umask(0o077)
    try:
        FILES.write_atomic(tmp_path / "a", b"", mode=0o444)
        FILES.write_atomic(tmp_path / "b", b"")
        with FILES.temporary(tmp_path) as (_, path):
            assert mode(path) == 0o600
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o444, 0o644)


def test_a_write_that_fails_names_where(tmp_path: Path) -> None:
    """The system says it of an open file without a name: a full disk must be found."""
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, bounds[1]))
    try:
        with pytest.raises(OSError, match="File too large") as replaced:
            FILES.write_atomic(tmp_path / "a", bytes(5000))
        with pytest.raises(OSError, match="File too large") as appended:
            FILES.append_line(tmp_path / "b", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
    assert Path(replaced.value.filename).parent == tmp_path
    assert appended.value.filename == str(tmp_path / "b")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b""


def test_a_temporary_file_goes_unless_it_was_published(tmp_path: Path) -> None:
    """Also where the block fails; a published one stays."""
    with FILES.temporary(tmp_path) as (file, path):
        file.write(b"x")
    assert not path.exists()
    with pytest.raises(ValueError, match="full"), FILES.temporary(tmp_path) as (_, path):
        raise ValueError("full")
    assert names(tmp_path) == []
    with FILES.temporary(tmp_path) as (file, path):
        file.write(b"kept")
        file.flush()
        FILES.publish(path, tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"kept"
    assert names(tmp_path) == ["final"]


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """Where the new one cannot take the old one's place, nothing changes."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(OSError, match="directory"):
        FILES.write_atomic(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    with pytest.raises(FileNotFoundError):
        FILES.copy_atomic(tmp_path / "missing", tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_a_copy_is_no_link(tmp_path: Path) -> None:
    """Writing to the copy leaves the original; an existing link is replaced, not followed."""
    (tmp_path / "sealed").write_bytes(b"sealed")
    (tmp_path / "flat").symlink_to("sealed")
    FILES.copy_atomic(tmp_path / "sealed", tmp_path / "flat")
    (tmp_path / "flat").write_bytes(b"other")
    assert (tmp_path / "sealed").read_bytes() == b"sealed"
    assert not (tmp_path / "flat").is_symlink()
    assert mode(tmp_path / "flat") == 0o644


def test_a_link_is_moved_in_one_step(tmp_path: Path) -> None:
    """A link is made, moved, and nothing is left over, also where it cannot be moved."""
    link = tmp_path / "current"
    FILES.symlink_atomic("a", link)
    FILES.symlink_atomic("b", link)
    assert str(link.readlink()) == "b"
    assert names(tmp_path) == ["current"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        FILES.symlink_atomic("c", tmp_path / "folder")
    assert names(tmp_path) == ["current", "folder"]


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    """Parents too; one that is there keeps its mode and content."""
    folder = tmp_path / "a" / "b"
    FILES.make_folder(folder, mode=0o700)
    (folder / "kept").touch()
    FILES.make_folder(folder)
    assert (mode(folder), names(folder)) == (0o700, ["kept"])


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    """Removing twice is removing once."""
    path = tmp_path / "a"
    path.touch()
    for _ in range(2):
        FILES.remove(path)
        FILES.remove_tree(tmp_path / "folder")
    assert names(tmp_path) == []


def test_a_sealed_folder_is_removed(tmp_path: Path) -> None:
    """Read-only folders and files, nested; what a link in it points at stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "sealed"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").touch(mode=0o444)
    (folder / "link").symlink_to(outside)
    FILES.seal_folder(folder / "inner", mode=0o555)
    FILES.seal_folder(folder, mode=0o555)
    assert mode(folder) == 0o555
    FILES.remove_tree(folder)
    assert names(tmp_path) == ["outside"]
    assert names(outside) == ["kept"]


HOLD = """
import sys
from pathlib import Path
from agent.files import Files
with Files().lock(Path(sys.argv[1]), timeout_s=10):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_between_processes_and_goes_with_its_holder(tmp_path: Path) -> None:
    """Held by another process: no; the holder is killed: yes, and the file stays."""
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(TimeoutError, match=f"cannot lock {path}: held by another process"),
            FILES.lock(path, timeout_s=0.05),
        ):
            raise AssertionError
        holder.kill()
        holder.wait()
    with FILES.lock(path, timeout_s=0):
        assert names(tmp_path) == ["lock"]
    with FILES.lock(path, timeout_s=0):
        assert mode(path) == 0o600


def test_a_lock_is_let_go_when_its_block_fails(tmp_path: Path) -> None:
    """An error inside does not keep others out."""
    path = tmp_path / "lock"
    with pytest.raises(ValueError, match="inside"), FILES.lock(path, timeout_s=0):
        raise ValueError("inside")
    with FILES.lock(path, timeout_s=0):
        pass


def test_a_lock_excludes_within_a_process_too(tmp_path: Path) -> None:
    """Two hosts in one process are two holders."""
    path = tmp_path / "lock"
    with (
        FILES.lock(path, timeout_s=0),
        pytest.raises(TimeoutError),
        FILES.lock(path, timeout_s=0),
    ):
        raise AssertionError
