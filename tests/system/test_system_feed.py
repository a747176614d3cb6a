"""The feed: what happens to plugins is told in order, whoever does it, whichever file has it."""

import contextlib
import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.context import Context, Options
from agent.ledger.ledger import Ledger
from agent.model import Event
from agent.service.feed import Feed, Happening
from support.agent import NOW, PLUGIN_ID

WAIT_S = 20
MANY = 200
RECORD = """
import sys
from pathlib import Path
from agent.ledger.ledger import Ledger
from agent.model import Event
ledger = Ledger(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    ledger.record(Event(number, "org.example.hello", "held", None, None, sys.argv[3]))
ledger.close()
"""


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """An installation with nothing in it."""
    opened = Context(Options(home=tmp_path / "home"), environ={})
    with contextlib.closing(opened):
        yield opened


@pytest.fixture
def feed(context: Context) -> Feed:
    """A feed that has looked once."""
    feed = Feed(lambda: context)
    feed.poll()
    return feed


def event(detail: str) -> Event:
    """Something that happened."""
    return Event(NOW, PLUGIN_ID, "held", None, None, detail)


def record(context: Context, *details: str) -> None:
    """Have it happen."""
    for detail in details:
        context.ledger.record(event(detail))


def told(happenings: tuple[Happening, ...]) -> list[str]:
    """What was told of."""
    return [one.event.detail for one in happenings]


def test_a_reader_reads_on_from_its_number(context: Context, feed: Feed) -> None:
    """All of it in order and once, however small the pieces; the numbers rise."""
    record(context, *"abcde")
    feed.poll()
    number, read = 0, ""
    while found := feed.after(number, 2):
        assert all(one.number > number for one in found)
        number = found[-1].number
        read += "".join(told(found))
    assert read == "abcde"
    assert number == feed.last()
    assert feed.after(number, 2) == ()
    assert feed.after(-(2**70), 1)[0].event == event("a")


def test_waiting_ends_when_something_happens(context: Context, feed: Feed) -> None:
    """At once where it has happened already; by a look from another thread; or in time."""
    number = feed.last()
    assert not feed.wait(number, 0)
    seen: list[bool] = []
    waiter = threading.Thread(target=lambda: seen.append(feed.wait(number, 3 * WAIT_S)))
    waiter.start()
    record(context, "a")
    feed.poll()
    waiter.join(WAIT_S)
    assert seen == [True]
    assert feed.wait(number, 0)
    assert not feed.wait(feed.last(), 0)


def test_what_happens_during_a_read_is_told_once(context: Context, feed: Feed) -> None:
    """A reader that is ahead of the look is not taken for one that comes from an older ledger."""

    class Busy(Ledger):
        """Something happens right after each look."""

        def newest_number(self) -> int:
            newest = super().newest_number()
            self.record(event("a"))
            return newest

    record(context, "a")
    context.close()
    context._ledger = Busy(context.ledger_path)
    number = feed.after(0, 9)[-1].number
    assert feed.last() == number
    assert not feed.wait(number, 0)
    assert [one.number for one in feed.after(number, 9)] == [number + 1]


def test_other_processes_are_heard(context: Context, feed: Feed) -> None:
    """Two of them write at once, and a reader beside them misses nothing and sees none twice."""
    words = ("one", "two")
    writers = [
        subprocess.Popen([sys.executable, "-c", RECORD, str(context.ledger_path), str(MANY), word])
        for word in words
    ]
    number, read = feed.last(), list[str]()
    deadline = threading.Event()
    timer = threading.Timer(WAIT_S, deadline.set)
    timer.start()
    while len(read) < MANY * len(words) and not deadline.is_set():
        feed.poll()
        if feed.wait(number, 0.05):
            found = feed.after(number, 7)
            number = found[-1].number
            read += told(found)
    timer.cancel()
    assert [writer.wait(WAIT_S) for writer in writers] == [0, 0]
    feed.poll()
    assert feed.after(number, 7) == ()
    assert sorted(read) == sorted(words * MANY)


def test_a_reader_comes_back_after_a_restart(context: Context, feed: Feed, tmp_path: Path) -> None:
    """What happened while nobody followed is there for who knows where it was."""
    record(context, "a", "b")
    number = feed.after(0, 1)[0].number
    context.close()
    with contextlib.closing(Context(Options(home=tmp_path / "home"), environ={})) as again:
        record(again, "c")
        later = Feed(lambda: again)
        assert later.last() == 0
        assert told(later.after(number, 9)) == ["b", "c"]
        assert later.last() == later.after(number, 9)[-1].number


def test_another_config_in_force_is_followed(context: Context, tmp_path: Path) -> None:
    """The installation is asked for at each look: a reload puts another in its place."""
    record(context, "a")
    contexts = [context]
    feed = Feed(lambda: contexts[-1])
    number = feed.after(0, 9)[-1].number
    with contextlib.closing(Context(Options(home=tmp_path / "home"), environ={})) as other:
        contexts.append(other)
        record(other, "b")
        feed.poll()
        assert told(feed.after(number, 9)) == ["b"]


def test_a_ledger_made_anew_goes_on_with_higher_numbers(
    context: Context, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever read the lost one to its end is told all that the new one holds, and no more."""
    record(context, *"abc")
    number = feed.after(0, 9)[-1].number
    for path in context.ledger_path.parent.glob("state.db*"):
        path.unlink()
    with contextlib.closing(Ledger(context.ledger_path)) as new:
        new.record(event("d"))
    feed.poll()
    assert not feed.wait(number, 0)  # the old one is read until it is let go of
    assert context.let_go_of_replaced()
    feed.poll()
    assert feed.wait(number, 0)
    assert told(feed.after(number, 9)) == ["d"]
    record(context, "e")
    assert told(feed.after(number, 9)) == ["d", "e"]
    assert not caplog.records


def test_an_older_ledger_put_back_keeps_nobody_waiting(context: Context, feed: Feed) -> None:
    """Its numbers are below what was told: what it holds is not told again, what comes is."""
    record(context, "a")
    context.close()
    backup = context.ledger_path.with_name("backup")
    shutil.copyfile(context.ledger_path, backup)
    record(context, "b", "c")
    number = feed.after(0, 9)[-1].number
    context.close()
    backup.rename(context.ledger_path)
    feed.poll()
    assert feed.last() < number
    assert feed.after(number, 9) == ()
    assert not feed.wait(number, 0)
    record(context, "d")
    feed.poll()
    assert feed.wait(number, 0)
    (found,) = feed.after(number, 9)
    assert found.event == event("d")
    assert feed.after(found.number, 9) == ()


def test_a_ledger_that_cannot_be_read_is_told_once(
    context: Context, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    """A look does no harm and says so once; the next that can be made is followed."""
    record(context, "a")
    number = feed.last()
    context.close()
    whole = context.ledger_path.read_bytes()
    context.ledger_path.write_bytes(b"no ledger" * 1000)
    for _ in range(3):
        feed.poll()
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "cannot follow what happens to plugins" in caplog.text
    with pytest.raises(sqlite3.DatabaseError):
        feed.after(number, 9)
    context.ledger_path.write_bytes(whole)
    feed.poll()
    assert told(feed.after(number, 9)) == ["a"]
