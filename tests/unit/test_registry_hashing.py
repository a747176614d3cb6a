"""SHA-256 beside the work: the same as on the spot, and no thread is left."""

import hashlib
import io
import random
import threading
from pathlib import Path

import pytest

from registry import ContentError
from registry.digest import VerifiedCopy
from registry.hashing import SideHash

DATA = random.Random(5).randbytes(9 << 20)  # noqa: S311 - any bytes will do
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
CORES = pytest.mark.parametrize("cores", [1, 8], ids=["on the spot", "on a thread"])


def threads() -> list[threading.Thread]:
    """Those that hash."""
    return [thread for thread in threading.enumerate() if thread.name == "sha256"]


@CORES
def test_it_hashes_what_is_written(tmp_path: Path, cores: int) -> None:
    """Memory is used again only when its bytes were hashed and written."""
    with SideHash(len(DATA), cores=cores) as sha256, (tmp_path / "a").open("wb") as file:
        assert len(threads()) == (cores > 1)
        copy = VerifiedCopy(file, DIGEST, len(DATA), "it", None, sha256)
        copy.take(io.BytesIO(DATA))
        copy.check()
    assert (tmp_path / "a").read_bytes() == DATA
    assert not threads()


@CORES
def test_it_begins_anew(cores: int) -> None:
    """What came before is forgotten; progress is taken back."""
    told: list[int] = []
    with SideHash(len(DATA), cores=cores) as sha256:
        copy = VerifiedCopy(io.BytesIO(), DIGEST, len(DATA), "it", told.append, sha256)
        with pytest.raises(ContentError, match="got 3000000 bytes"):
            copy.take(io.BytesIO(DATA[::-1][:3_000_000]))
        assert not copy.is_right
        copy.restart()
        copy.take(io.BytesIO(DATA))
        copy.check()
    assert sum(told) == len(DATA)


def test_a_copy_that_hashes_on_the_spot_begins_anew() -> None:
    """As one does that has a hash at its side."""
    copy = VerifiedCopy(io.BytesIO(), DIGEST, len(DATA), "it")
    copy.take(io.BytesIO(DATA))
    copy.restart()
    copy.take(io.BytesIO(DATA))
    copy.check()


@CORES
def test_the_thread_ends_where_the_work_breaks_off(cores: int) -> None:
    """Whatever is still to be hashed."""

    def break_off() -> None:
        with SideHash(len(DATA), cores=cores) as sha256:
            for _ in range(4):
                sha256.take(len(sha256.room()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert not threads()


def test_little_is_not_worth_a_thread() -> None:
    """A thread costs more than it spares."""
    with SideHash(1 << 20, cores=64) as sha256:
        assert not threads()
        sha256.room()[:3] = b"abc"
        sha256.take(3)
        assert sha256.hexdigest() == hashlib.sha256(b"abc").hexdigest()


def test_one_thread_hashes_at_a_time() -> None:
    """Of several blobs at once: memory stays small; the next one has it when it is over."""
    for _ in range(2):
        with SideHash(len(DATA), cores=2) as first, SideHash(len(DATA), cores=2) as second:
            assert len(threads()) == 1
            for sha256 in (first, second):
                sha256.room()[:3] = b"abc"
                sha256.take(3)
                assert sha256.hexdigest() == hashlib.sha256(b"abc").hexdigest()
    assert not threads()
