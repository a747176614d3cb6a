"""Counting calls in memory, and handing the counts over."""

import sqlite3
import threading

import pytest

from agent.model import Samples
from agent.serving.recorder import Recorder

Row = tuple[str, str, int, Samples]


def test_counts_are_kept_per_release_and_handed_over_once() -> None:
    """Calls, failures and health failures of each release, in the minute of the flush."""
    written: list[list[Row]] = []
    recorder = Recorder(written.append, lambda: 125.0)
    recorder.count("a", "r1", failed=False)
    recorder.count("a", "r1", failed=True)
    recorder.count("a", "r1", failed=True, health=True)
    recorder.count("a", "r2", failed=False, health=True)
    recorder.flush()
    assert written == [[("a", "r1", 2, Samples(3, 2, 1)), ("a", "r2", 2, Samples(1, 0, 0))]]
    recorder.flush()
    assert len(written) == 1


def test_counts_are_kept_where_they_could_not_be_written() -> None:
    """A full disk loses no call: the next flush hands over all of them."""
    written: list[Row] = []
    broken = [True]

    def write(rows: list[Row]) -> None:
        if broken[0]:
            raise OSError(28, "No space left on device")
        written.extend(rows)

    recorder = Recorder(write, lambda: 60.0)
    recorder.count("a", "r", failed=True)
    with pytest.raises(OSError, match="No space"):
        recorder.flush()
    broken[0] = False
    recorder.count("a", "r", failed=False)
    recorder.flush()
    assert written == [("a", "r", 1, Samples(2, 1, 0))]


def test_calls_go_on_while_counts_are_written() -> None:
    """A slow ledger holds up nobody; what is counted meanwhile is kept, failed write or not."""
    written: list[Row] = []
    errors: list[Exception] = [sqlite3.OperationalError("database is locked")]

    def write(rows: list[Row]) -> None:
        call = threading.Thread(target=lambda: recorder.count("a", "r", failed=True))
        call.start()
        call.join(10)
        assert not call.is_alive()
        if errors:
            raise errors.pop()
        written.extend(rows)

    recorder = Recorder(write, lambda: 60.0)
    recorder.count("a", "r", failed=False)
    with pytest.raises(sqlite3.OperationalError):
        recorder.flush()
    recorder.flush()
    recorder.flush()
    assert written == [("a", "r", 1, Samples(2, 1)), ("a", "r", 1, Samples(1, 1))]


def test_nothing_counted_is_nothing_written() -> None:
    """An idle host does not touch the disk."""
    written: list[list[Row]] = []
    Recorder(written.append, lambda: 0.0).flush()
    assert written == []


def test_it_is_not_due_right_after_a_flush() -> None:
    """At most one flush a second, unless one is asked for."""
    recorder = Recorder(lambda _: None, lambda: 0.0)
    recorder.flush()
    assert not recorder.is_due
    recorder._flushed -= 1.0
    assert recorder.is_due


def test_no_call_is_lost_or_counted_twice_between_threads() -> None:
    """Four threads count while one flushes: the sums are exact."""
    total = [0, 0]

    def write(rows: list[Row]) -> None:
        for *_, samples in rows:
            total[0] += samples.calls
            total[1] += samples.failures

    recorder = Recorder(write, lambda: 0.0)
    start = threading.Barrier(5)

    def count() -> None:
        start.wait()
        for number in range(2_000):
            recorder.count("a", "r", failed=number % 4 == 0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        recorder.flush()
    for thread in threads:
        thread.join()
    recorder.flush()
    assert total == [8_000, 2_000]
