"""The cache of blobs: shared by processes, and never believed."""

import errno
import fcntl
import io
import os
import random
import resource
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    BlobCache,
    ContentError,
    Descriptor,
    HttpLocation,
    HttpSettings,
    NetworkError,
    Repository,
    open_repository,
)
from support.links import Link, breaking_link
from support.registry import PLUGIN_ID, docker_registry, misbehaving, reply

SIZE_BYTES = 9 << 20  # enough for a thread that hashes
BLOB = random.Random(7).randbytes(SIZE_BYTES)  # noqa: S311 - any bytes will do
DESCRIPTOR = Descriptor.of("application/wasm", BLOB)
DIGITS = DESCRIPTOR.digest.removeprefix("sha256:")
SETTINGS = HttpSettings(backoff_s=0.01, max_retry_after_s=0)
WAIT_S = 30


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry that has the blob."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        with opened(host, None) as repository:
            repository.push_blob(DESCRIPTOR, BLOB)
        yield host


@pytest.fixture
def link(registry: str) -> Iterator[Link]:
    """A link to it that counts."""
    with breaking_link(registry) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the cache is."""
    return tmp_path / "cache" / "blobs"


def opened(host: str, cache: BlobCache | None) -> Repository:
    """Open the repository."""
    return open_repository(
        HttpLocation(host, PLUGIN_ID),
        files=Files(),
        http=SETTINGS,
        credentials=Anonymous(),
        cache=cache,
    )


def fetch(
    link: Link, folder: Path, destination: Path, *, files: Files | None = None, most: int = 1 << 30
) -> list[int]:
    """Fetch the blob by a cache of its own, as another process would; gives the progress."""
    told = list[int]()
    with opened(link.host, BlobCache(folder, files or Files(), most)) as repository:
        repository.fetch_blob(DESCRIPTOR, destination, progress=told.append)
    assert destination.read_bytes() == BLOB
    assert sum(told) == SIZE_BYTES
    return told


def test_what_was_fetched_is_not_fetched_again(link: Link, folder: Path, tmp_path: Path) -> None:
    """The second time no byte of it comes over the network; progress says it is there at once."""
    fetch(link, folder, tmp_path / "a")
    down = link.down
    assert fetch(link, folder, tmp_path / "b") == [SIZE_BYTES]
    assert link.down == down


def test_the_cache_is_the_users_alone(link: Link, folder: Path, tmp_path: Path) -> None:
    """Nobody else may look into it."""
    fetch(link, folder, tmp_path / "a")
    for one in (folder, folder / "sha256", folder / "partial"):
        assert one.stat().st_mode & 0o777 == 0o700


def test_bytes_are_written_once(link: Link, folder: Path, tmp_path: Path) -> None:
    """The first file is the cache's own under another name; a second is a copy.

    Who changes one of them in place does not change the other.
    """
    fetch(link, folder, tmp_path / "a")
    fetch(link, folder, tmp_path / "b")
    whole = folder / "sha256" / DIGITS
    assert (tmp_path / "a").samefile(whole)
    assert not (tmp_path / "b").samefile(whole)


def test_what_lay_at_the_destination_is_replaced(link: Link, folder: Path, tmp_path: Path) -> None:
    """Also by the same file of the cache: no temporary name is left."""
    (tmp_path / "a").write_bytes(b"other")
    fetch(link, folder, tmp_path / "a")
    fetch(link, folder, tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "cache"]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda path: path.write_bytes(BLOB[:-1] + bytes([BLOB[-1] ^ 1])),
        lambda path: path.write_bytes(BLOB[:-1]),
        lambda path: path.write_bytes(BLOB + b"\0"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["a bit", "shorter", "longer", "empty"],
)
def test_a_changed_file_is_fetched_again(
    link: Link, folder: Path, tmp_path: Path, tamper: Callable[[Path], object]
) -> None:
    """What lies in the cache is hashed whenever it is used."""
    fetch(link, folder, tmp_path / "a")
    whole = folder / "sha256" / DIGITS
    (tmp_path / "a").unlink()
    tamper(whole)
    down = link.down
    fetch(link, folder, tmp_path / "b")
    assert link.down - down >= SIZE_BYTES
    assert whole.read_bytes() == BLOB


def test_an_output_that_is_edited_harms_nobody(link: Link, folder: Path, tmp_path: Path) -> None:
    """The file of the cache is edited with it; the next pull sees that."""
    fetch(link, folder, tmp_path / "a")
    with (tmp_path / "a").open("r+b") as file:
        file.write(b"edited")
    fetch(link, folder, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == b"edited" + BLOB[6:]


@pytest.mark.parametrize("place", ["sha256", "partial"])
def test_planted_links_are_removed_and_not_followed(
    link: Link, folder: Path, tmp_path: Path, place: str
) -> None:
    """A link in the cache leads nowhere: what it names is neither read nor written."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    fetch(link, folder, tmp_path / "a")
    (folder / "sha256" / DIGITS).unlink()
    (folder / place / DIGITS).symlink_to(victim)
    fetch(link, folder, tmp_path / "b")
    assert victim.read_bytes() == b"precious"
    assert not (folder / place / DIGITS).is_symlink()


@pytest.mark.parametrize("place", ["sha256", "partial"])
def test_a_planted_pipe_holds_nobody(link: Link, folder: Path, tmp_path: Path, place: str) -> None:
    """What is no file is removed, and not waited for."""
    fetch(link, folder, tmp_path / "a")
    (folder / "sha256" / DIGITS).unlink()
    os.mkfifo(folder / place / DIGITS)
    fetch(link, folder, tmp_path / "b")
    assert [path.is_file() for path in folder.rglob(DIGITS)] == [True]  # and the cache serves on


def test_a_hard_link_as_a_part_is_not_written(link: Link, folder: Path, tmp_path: Path) -> None:
    """A part with a second name is somebody's file: it is let go and begun anew."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folder / "partial").mkdir(parents=True)
    for one in (folder, folder / "partial"):
        one.chmod(0o700)
    os.link(victim, folder / "partial" / DIGITS)
    fetch(link, folder, tmp_path / "a")
    assert victim.read_bytes() == b"precious"
    assert (folder / "sha256" / DIGITS).is_file()


def group_writable(folder: Path) -> None:
    """A cache that others may write to."""
    folder.mkdir(parents=True)
    folder.chmod(0o770)


def elsewhere(folder: Path) -> None:
    """A link in place of the cache."""
    (folder.parent.parent / "elsewhere").mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(folder.parent.parent / "elsewhere")


def no_folder(folder: Path) -> None:
    """A file in place of the cache."""
    folder.parent.mkdir()
    folder.write_bytes(b"")


@pytest.mark.parametrize("make", [group_writable, elsewhere, no_folder])
def test_a_cache_that_is_not_ours_is_not_used(
    link: Link,
    folder: Path,
    tmp_path: Path,
    make: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once, and the pull goes on without it."""
    make(folder)
    cache = BlobCache(folder, Files(), 1 << 30)
    with opened(link.host, cache) as repository:
        for name in ("a", "b"):
            repository.fetch_blob(DESCRIPTOR, tmp_path / name)
            assert (tmp_path / name).read_bytes() == BLOB
    assert caplog.text.count("going on without") == 1
    assert not list(folder.glob("*/*"))


def test_a_cache_of_another_user_is_not_used(
    link: Link, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the user's own where root pulls."""
    fetch(link, folder, tmp_path / "a")
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    down = link.down
    fetch(link, folder, tmp_path / "b")
    assert link.down - down >= SIZE_BYTES


class Full(Files):
    """A disk with no room for what goes into the cache; the rest has some."""

    def move(self, source: Path, _target: Path) -> None:
        """Find out at the end."""
        raise OSError(errno.ENOSPC, "No space left on device", str(source))


def test_a_full_disk_empties_the_cache(link: Link, folder: Path, tmp_path: Path) -> None:
    """What the user asked for comes all the same, where it has room without the cache."""
    other = BLOB[::-1]
    (folder / "sha256").mkdir(parents=True)
    whole = folder / "sha256" / Descriptor.of("application/wasm", other).digest[7:]
    whole.write_bytes(other)
    for one in (folder, folder / "sha256"):
        one.chmod(0o700)
    with opened(link.host, BlobCache(folder, Full(), 1 << 30)) as repository:
        repository.fetch_blob(DESCRIPTOR, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BLOB
    assert not list(folder.glob("*/*"))


def test_a_disk_that_fills_up_under_small_pieces_is_gone_on_without(
    folder: Path, tmp_path: Path
) -> None:
    """What is still to be written then is dropped: closing the part does not fail on it again."""

    def bring(file: io.BufferedRandom) -> None:
        file.writelines(repeat(b"x" * 100))

    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, bounds[1]))
    try:
        is_there = BlobCache(folder, Files(), 1 << 30).fetch(
            DESCRIPTOR, tmp_path / "a", what="a blob", progress=None, download=bring
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
    assert not is_there
    assert not list(folder.glob("*/*"))


class NoLinks(Files):
    """A destination on another file system."""

    def share(self, _file: object, _path: Path) -> bool:
        """It can't have two names."""
        return False


def test_another_file_system_gets_a_copy(link: Link, folder: Path, tmp_path: Path) -> None:
    """Whole and verified, as ever."""
    fetch(link, folder, tmp_path / "a", files=NoLinks())
    fetch(link, folder, tmp_path / "b", files=NoLinks())
    assert not (tmp_path / "a").samefile(folder / "sha256" / DIGITS)


def test_what_was_not_used_for_longest_goes(link: Link, folder: Path, tmp_path: Path) -> None:
    """The cache keeps to its size by itself; being used counts, not being fetched."""
    blobs = [bytes([number]) * 1000 for number in range(4)]
    described = [Descriptor.of("application/wasm", blob) for blob in blobs]

    def kept() -> set[int]:
        names = {path.name for path in (folder / "sha256").iterdir()}
        return {n for n in range(4) if described[n].digest[7:] in names}

    with opened(link.host, BlobCache(folder, Files(), 3000)) as repository:
        for one, blob in zip(described, blobs, strict=True):
            repository.push_blob(one, blob)
        for number in range(3):
            repository.fetch_blob(described[number], tmp_path / "a")
        assert kept() == {0, 1, 2}
        for number in (1, 2):  # long ago
            os.utime(folder / "sha256" / described[number].digest[7:], (number, number))
        repository.fetch_blob(described[1], tmp_path / "a")
        repository.fetch_blob(described[3], tmp_path / "a")
        assert kept() == {0, 1, 3}


def test_use_is_noted_where_the_disk_does_not(
    link: Link, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many are mounted so that reading leaves no trace; when it was written stays."""
    fetch(link, folder, tmp_path / "a")
    before = (folder / "sha256" / DIGITS).stat()
    later_ns = before.st_atime_ns + 10**15
    monkeypatch.setattr("registry.cache.time.time_ns", lambda: later_ns)
    fetch(link, folder, tmp_path / "b")
    after = (folder / "sha256" / DIGITS).stat()
    assert (after.st_atime_ns, after.st_mtime_ns) == (later_ns, before.st_mtime_ns)


def test_a_broken_download_goes_on_at_the_next_start(
    link: Link, folder: Path, tmp_path: Path
) -> None:
    """What came before stays in the cache: only the rest is fetched, and the whole is hashed."""
    link.down_every, link.cuts = 3 << 20, 1 << 62
    quick = HttpSettings(attempts=1)
    cache = BlobCache(folder, Files(), 1 << 30)
    with (
        open_repository(
            HttpLocation(link.host, PLUGIN_ID),
            files=Files(),
            http=quick,
            credentials=Anonymous(),
            cache=cache,
        ) as repository,
        pytest.raises(NetworkError),
    ):
        repository.fetch_blob(DESCRIPTOR, tmp_path / "a")
    had = (folder / "partial" / DIGITS).stat().st_size
    assert had >= 2 << 20
    link.cuts, down = 0, link.down
    fetch(link, folder, tmp_path / "a")
    assert link.down - down <= SIZE_BYTES - had + 4096
    assert not list((folder / "partial").iterdir())


@pytest.mark.parametrize(
    ("part", "costs"),
    [(b"wrong" * 1000, 2), (BLOB, 0), (BLOB[:-1] + b"?", 1), (BLOB + b"more", 0)],
    ids=["wrong", "whole", "wrong and whole", "more than whole"],
)
def test_a_part_is_not_believed(
    link: Link, folder: Path, tmp_path: Path, part: bytes, costs: int
) -> None:
    """A part that does not belong to the rest is thrown away, and all of it comes anew."""
    (folder / "partial").mkdir(parents=True)
    for one in (folder, folder / "partial"):
        one.chmod(0o700)
    (folder / "partial" / DIGITS).write_bytes(part)
    fetch(link, folder, tmp_path / "a")
    assert round(link.down / SIZE_BYTES) == costs


def test_wrong_bytes_leave_nothing(folder: Path, tmp_path: Path) -> None:
    """What a registry sends in place of a blob stays nowhere."""
    with (
        misbehaving() as server,
        opened(server.host, BlobCache(folder, Files(), 1 << 30)) as repository,
    ):
        server.route = lambda handler: reply(handler, 200, BLOB[::-1])
        with pytest.raises(ContentError):
            repository.fetch_blob(DESCRIPTOR, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not list(folder.glob("*/*"))


def test_two_at_one_blob_fetch_it_once(link: Link, folder: Path, tmp_path: Path) -> None:
    """The second waits for the first, for as long as that gets on."""
    link.stop_at = 4 << 20
    first = threading.Thread(target=fetch, args=(link, folder, tmp_path / "a"))
    second = threading.Thread(target=fetch, args=(link, folder, tmp_path / "b"))
    first.start()
    assert link.is_stopped.wait(WAIT_S)
    second.start()
    link.goes_on.set()
    for thread in (first, second):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == BLOB
    assert link.down < SIZE_BYTES + (64 << 10)


def test_one_that_stands_still_is_not_waited_for(
    link: Link, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob is fetched past the cache then."""
    monkeypatch.setattr("registry.cache._LOOK_S", 0.01)
    monkeypatch.setattr("registry.cache._MOST_LOOKS", 2)
    (folder / "partial").mkdir(parents=True)
    for one in (folder, folder / "partial"):
        one.chmod(0o700)
    with Files().held(folder / "partial" / DIGITS, timeout_s=0):
        fetch(link, folder, tmp_path / "a")
    assert not (folder / "sha256" / DIGITS).exists()


def test_a_part_that_somebody_is_at_is_not_pruned(folder: Path) -> None:
    """Else two could write one blob."""
    (folder / "partial").mkdir(parents=True)
    part = folder / "partial" / DIGITS
    part.write_bytes(BLOB)
    cache = BlobCache(folder, Files(), 1)
    with Files().held(part, timeout_s=0):
        assert cache.folder.trim() == []
    assert [entry.path for entry in cache.folder.trim()] == [part]
    assert not part.exists()


def test_a_lock_is_that_of_the_file_that_has_the_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is renamed between being opened and being locked locks nothing: once more."""
    (folder / "partial").mkdir(parents=True)
    part = folder / "partial" / DIGITS
    part.write_bytes(b"whole by now")
    flock = fcntl.flock

    def too_late(descriptor: int, operation: int) -> None:
        if not (folder / "whole").exists():
            part.rename(folder / "whole")
        flock(descriptor, operation)

    monkeypatch.setattr("agent.files.fcntl.flock", too_late)
    with Files().held(part, timeout_s=0) as file:
        assert os.path.samestat(os.fstat(file.fileno()), part.stat())
    assert (folder / "whole").read_bytes() == b"whole by now"
