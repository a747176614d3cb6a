"""The ledger: what is written is read back, all or nothing, also by the next process."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.ledger.ledger import Ledger
from agent.model import (
    Decision,
    Event,
    FirstSeen,
    Generation,
    Hold,
    Installed,
    Refusal,
    Rejection,
    Samples,
    Stop,
    Trial,
)
from support.agent import NOW, PLUGIN_ID, REPOSITORY, STEM, generation

OLD = generation("0.1.0")
NEW = replace(generation("0.2.0", capabilities=("log", "network")), installed_at=NOW + 1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    opened = Ledger(tmp_path / "state.db")
    yield opened
    opened.close()


def trial_of(new: Generation, previous: Generation | None) -> Trial:
    """A trial of ten minutes."""
    before = previous.release if previous else None
    return Trial(PLUGIN_ID, new.release, before, NOW, NOW + 600)


def install(ledger: Ledger, one: Generation, *, channel: str | None = None) -> None:
    """Intend and commit."""
    ledger.intend(one, trial_of(one, None), channel=channel)
    ledger.commit(one, floor=one.version, at=NOW)


# -- the file


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    """A committed step outlives the process; opening again changes nothing."""
    path = tmp_path / "state.db"
    for _ in range(2):
        first = Ledger(path)
        first.reject(PLUGIN_ID, OLD.release, "0.1.0", reason="bad", at=NOW)
        first.close()
    second = Ledger(path)
    assert second.rejections(PLUGIN_ID) == {
        OLD.release: Rejection(OLD.release, "0.1.0", "bad", NOW)
    }
    second.close()


def test_a_committed_step_survives_a_power_cut(ledger: Ledger) -> None:
    """Write-ahead log with full sync: what SQLite promises to be durable."""
    assert ledger._run("PRAGMA journal_mode") == [("wal",)]
    assert ledger._run("PRAGMA synchronous") == [(2,)]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a newer agent is left as it is."""
    path = tmp_path / "state.db"
    Ledger(path).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(AgentError, match="has schema 99, this agent knows ") as caught:
        Ledger(path)
    assert caught.value.hint == "install the newer agent again"


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """Other bytes are an error of the database, and the file is left as it is."""
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Ledger(path)
    assert path.read_bytes() == b"not a database" * 100


def test_what_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    """A disk that is full or read only: what is known is told, and nothing is changed."""
    path = tmp_path / "state.db"
    first = Ledger(path)
    install(first, OLD)
    first.close()
    # The log beside the file can't be made: even root meets this fault.
    for suffix in ("-wal", "-shm"):
        path.with_name(f"state.db{suffix}").mkdir()
    before = path.read_bytes()
    second = Ledger(path)
    assert [one.version for one in second.generations(PLUGIN_ID)] == ["0.1.0"]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        second.decide(PLUGIN_ID, "network", granted=True, at=NOW)
    second.close()
    assert path.read_bytes() == before


def test_a_ledger_that_another_writes_is_not_read_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock passes: it is no reason to go on without writing."""
    monkeypatch.setattr("agent.ledger.database._PATIENCE_S", 0)
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Ledger(path)
    Ledger(path).close()


def test_a_host_does_not_wait_for_a_writer(tmp_path: Path, ledger: Ledger) -> None:
    """Inside ``impatient`` a ledger in use is given up at once; afterwards patience is back."""
    patience = ledger._run("PRAGMA busy_timeout")
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ledger.impatient():
            assert ledger._run("PRAGMA busy_timeout") < patience
        with pytest.raises(sqlite3.OperationalError, match="locked"), ledger.impatient():
            ledger.decide(PLUGIN_ID, "network", granted=True, at=NOW)
    assert ledger._run("PRAGMA busy_timeout") == patience == [(30_000,)]
    ledger.decide(PLUGIN_ID, "network", granted=True, at=NOW)


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    """An error inside takes back what was done before it."""

    def half() -> None:
        with ledger.transaction():
            ledger.decide(PLUGIN_ID, "network", granted=True, at=NOW)
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        half()
    assert ledger.decisions(PLUGIN_ID) == {}
    with ledger.transaction():
        ledger.decide(PLUGIN_ID, "network", granted=True, at=NOW)
    assert ledger.decisions(PLUGIN_ID) == {"network": True}


def test_a_commit_that_fails_is_taken_back(ledger: Ledger) -> None:
    """The next transaction begins afresh, and the cause is what is told."""
    ledger._run("PRAGMA foreign_keys=ON")
    ledger._run("CREATE TABLE a (x INTEGER PRIMARY KEY)")
    ledger._run("CREATE TABLE b (x REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"), ledger.transaction():
        ledger._run("INSERT INTO b VALUES (1)")
    with ledger.transaction():
        ledger._run("INSERT INTO a VALUES (1)")
    assert ledger._run("SELECT * FROM b") == []


def test_a_full_disk_is_told_as_such(ledger: Ledger) -> None:
    """SQLite takes the transaction back by itself: that must not hide the cause."""
    pages = ledger._run("PRAGMA page_count")[0][0]
    ledger._run(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"), ledger.transaction():
        ledger.decide(PLUGIN_ID, "x" * 100_000, granted=True, at=NOW)
    ledger._run(f"PRAGMA max_page_count={pages + 100}")
    ledger.decide(PLUGIN_ID, "llm", granted=True, at=NOW)
    assert ledger.decisions(PLUGIN_ID) == {"llm": True}


def test_threads_take_turns(ledger: Ledger) -> None:
    """Transactions of several threads do not mix, and none is lost."""

    def add() -> None:
        for _ in range(50):
            ledger.add_samples([(PLUGIN_ID, "r", 1, Samples(1, 1, 0))])

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.samples(PLUGIN_ID, "r") == Samples(200, 200, 0)


# -- plugins, generations, trials


def test_nothing_is_known_of_a_plugin_that_was_never_there(ledger: Ledger) -> None:
    """Every question has an empty answer."""
    assert ledger.installed(PLUGIN_ID) is None
    assert ledger.plugin_ids() == ()
    assert ledger.generation(PLUGIN_ID, OLD.release) is None
    assert ledger.generations(PLUGIN_ID) == ()
    assert ledger.trial(PLUGIN_ID) is None
    assert ledger.rejections(PLUGIN_ID) == {}
    assert ledger.stem_owner(STEM) is None
    assert ledger.decision(PLUGIN_ID) is None
    assert ledger.history(PLUGIN_ID) == ()
    assert ledger.samples(PLUGIN_ID, OLD.release) == Samples()


def test_an_intention_is_one_step(ledger: Ledger) -> None:
    """Generation, plugin, trial and the projection that is due, together."""
    ledger.intend(NEW, trial_of(NEW, OLD), channel="stable")
    assert ledger.generation(PLUGIN_ID, NEW.release) == NEW
    assert ledger.trial(PLUGIN_ID) == trial_of(NEW, OLD)
    assert ledger.plugin_ids() == (PLUGIN_ID,)
    assert ledger.installed(PLUGIN_ID) == Installed(
        PLUGIN_ID,
        good=None,
        floor=None,
        repository=REPOSITORY,
        channel="stable",
        projected=None,
        projection_due=True,
    )


def test_an_intention_that_fails_leaves_nothing(ledger: Ledger) -> None:
    """A bad value anywhere in it takes all of it back."""
    bad = replace(trial_of(NEW, None), started_at="soon")  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        ledger.intend(NEW, bad, channel=None)
    assert ledger.installed(PLUGIN_ID) is None
    assert ledger.generations(PLUGIN_ID) == ()


def test_what_was_said_of_a_release_is_forgotten_when_it_serves_again(ledger: Ledger) -> None:
    """Its old counts by the intention, its rejection after the flip; another release's stay."""
    for one in (OLD, NEW):
        ledger.reject(PLUGIN_ID, one.release, one.version, reason="bad", at=NOW)
        ledger.add_samples([(PLUGIN_ID, one.release, 1, Samples(9, 9, 9))])
    ledger.intend(NEW, trial_of(NEW, OLD), channel=None)
    assert set(ledger.rejections(PLUGIN_ID)) == {OLD.release, NEW.release}
    ledger.absolve(NEW)
    assert set(ledger.rejections(PLUGIN_ID)) == {OLD.release}
    assert ledger.samples(PLUGIN_ID, NEW.release) == Samples()
    assert ledger.samples(PLUGIN_ID, OLD.release) == Samples(9, 9, 9)


def test_one_trial_a_plugin(ledger: Ledger) -> None:
    """A new intention takes the place of the one before."""
    ledger.intend(OLD, trial_of(OLD, None), channel=None)
    ledger.intend(NEW, trial_of(NEW, OLD), channel=None)
    assert ledger.trial(PLUGIN_ID) == trial_of(NEW, OLD)
    ledger.abandon_trial(PLUGIN_ID)
    ledger.abandon_trial(PLUGIN_ID)
    assert ledger.trial(PLUGIN_ID) is None


def test_a_commit_ends_the_trial(ledger: Ledger) -> None:
    """Good, floor and the time of it; the trial is over."""
    ledger.intend(NEW, trial_of(NEW, OLD), channel=None)
    ledger.commit(NEW, floor="0.2.0", at=NOW + 5)
    installed = ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert (installed.good, installed.floor) == (NEW.release, "0.2.0")
    assert ledger.trial(PLUGIN_ID) is None
    assert ledger.generation(PLUGIN_ID, NEW.release) == replace(NEW, committed_at=NOW + 5)


def test_turning_back_is_one_step(ledger: Ledger) -> None:
    """The rejection, what serves instead, the end of the trial, the projection that is due."""
    install(ledger, OLD)
    ledger.intend(NEW, trial_of(NEW, OLD), channel=None)
    ledger.projected(PLUGIN_ID, NEW.release)
    ledger.turn_back(NEW, target=OLD.release, reason="it trapped", at=NOW + 9)
    installed = ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert (installed.good, installed.floor) == (OLD.release, "0.1.0")
    assert installed.projection_due
    assert ledger.trial(PLUGIN_ID) is None
    assert ledger.rejections(PLUGIN_ID) == {
        NEW.release: Rejection(NEW.release, "0.2.0", "it trapped", NOW + 9)
    }


def test_turning_back_to_a_rejected_release_takes_its_rejection_back(ledger: Ledger) -> None:
    """What serves is never among the rejected."""
    install(ledger, OLD)
    install(ledger, NEW)
    ledger.reject(PLUGIN_ID, OLD.release, "0.1.0", reason="bad", at=NOW)
    ledger.turn_back(NEW, target=OLD.release, reason="by hand", at=NOW)
    assert set(ledger.rejections(PLUGIN_ID)) == {NEW.release}


def test_turning_back_to_nothing(ledger: Ledger) -> None:
    """A first install that failed: nothing is good, the release is rejected."""
    ledger.intend(NEW, trial_of(NEW, None), channel=None)
    ledger.turn_back(NEW, target=None, reason="bad", at=NOW)
    installed = ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert installed.good is None
    assert set(ledger.rejections(PLUGIN_ID)) == {NEW.release}


def test_what_was_projected_is_no_longer_due(ledger: Ledger) -> None:
    """The release that the flat copies hold, or none."""
    install(ledger, OLD)
    for release in (OLD.release, None):
        ledger.projected(PLUGIN_ID, release)
        installed = ledger.installed(PLUGIN_ID)
        assert installed is not None
        assert (installed.projected, installed.projection_due) == (release, False)


def test_repository_stays_and_channel_follows(ledger: Ledger) -> None:
    """A set without a repository keeps where updates come from; the channel is the last one's."""
    install(ledger, OLD, channel="beta")
    install(ledger, replace(NEW, repository=None))
    installed = ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert (installed.repository, installed.channel) == (REPOSITORY, None)


def test_generations_come_newest_first(ledger: Ledger) -> None:
    """By the time of the install, then by the order of writing; other plugins' stay apart."""
    same_time = generation("0.0.9")
    other = generation("9.0.0", plugin_id="org.example.other", stem="other")
    for one in (OLD, NEW, same_time, other):
        ledger.add_generation(one)
    assert ledger.generations(PLUGIN_ID) == (NEW, same_time, OLD)
    assert ledger.stem_owner(STEM) == PLUGIN_ID
    assert ledger.stem_owner("other") == "org.example.other"
    ledger.forget_generation(PLUGIN_ID, NEW.release)
    ledger.forget_generation(PLUGIN_ID, NEW.release)
    assert ledger.generations(PLUGIN_ID) == (same_time, OLD)


def test_a_generation_that_comes_again_keeps_its_commit(ledger: Ledger) -> None:
    """Where it came from and when is new; that it was good once stays."""
    install(ledger, OLD)
    again = replace(OLD, digest="sha256:other", repository="r/other", installed_at=NOW + 99)
    ledger.add_generation(again)
    assert ledger.generation(PLUGIN_ID, OLD.release) == replace(again, committed_at=NOW)


def test_a_rejection_is_the_latest(ledger: Ledger) -> None:
    """One row a release, with the reason given last."""
    for reason in ("first", "second"):
        ledger.reject(PLUGIN_ID, OLD.release, "0.1.0", reason=reason, at=NOW)
    assert [r.reason for r in ledger.rejections(PLUGIN_ID).values()] == ["second"]


# -- observations


def test_a_refusal_holds_under_its_terms(ledger: Ledger) -> None:
    """Under other terms the candidate is judged anew; a new refusal replaces the old."""
    no_key = Refusal("0.1.0", "sha256:a", "trust", "no key", NOW)
    ledger.refuse(REPOSITORY, no_key, terms="trust 1")
    assert ledger.refusals(REPOSITORY, terms="trust 1", since=0) == (no_key,)
    assert ledger.refusals(REPOSITORY, terms="trust 2", since=0) == ()
    assert ledger.refusals("other", terms="trust 1", since=0) == ()
    unread = Refusal("0.1.0", None, "format", "no digest", NOW)
    ledger.refuse(REPOSITORY, unread, terms="trust 2")
    assert ledger.refusals(REPOSITORY, terms="trust 1", since=0) == ()
    assert ledger.refusals(REPOSITORY, terms="trust 2", since=0) == (unread,)


def test_a_refusal_holds_for_a_time(ledger: Ledger) -> None:
    """Older ones are not told: they are judged anew."""
    for at, tag in ((NOW - 1, "0.1.0"), (NOW, "0.2.0")):
        ledger.refuse(REPOSITORY, Refusal(tag, None, "trust", "no key", at), terms="t")
    assert [r.tag for r in ledger.refusals(REPOSITORY, terms="t", since=NOW)] == ["0.2.0"]


def test_the_first_look_is_kept(ledger: Ledger) -> None:
    """A tag that is seen again keeps its first time; new ones get theirs."""
    ledger.see_tags(REPOSITORY, ["0.1.0"], at=1.0)
    ledger.see_tags(REPOSITORY, ["0.1.0", "0.2.0"], at=2.0)
    ledger.see_tags(REPOSITORY, ["0.1.0"], at=3.0)
    assert ledger.seen(REPOSITORY) == {"0.1.0": FirstSeen(1.0), "0.2.0": FirstSeen(2.0)}
    assert ledger.seen("other") == {}


def test_what_a_tag_named_first_is_remembered(ledger: Ledger) -> None:
    """Another release there changes nothing; the same one signed anew changes the digest."""
    ledger.see_tags(REPOSITORY, ["0.1.0"], at=1.0)
    ledger.see_release(REPOSITORY, "0.1.0", "sha256:a", "one", at=2.0)
    ledger.see_release(REPOSITORY, "0.1.0", "sha256:b", "two", at=3.0)
    ledger.see_release(REPOSITORY, "0.2.0", "sha256:c", "three", at=4.0)
    assert ledger.seen(REPOSITORY) == {
        "0.1.0": FirstSeen(1.0, "sha256:a", "one"),
        "0.2.0": FirstSeen(4.0, "sha256:c", "three"),
    }
    ledger.see_release(REPOSITORY, "0.1.0", "sha256:d", "one", at=5.0)
    assert ledger.seen(REPOSITORY)["0.1.0"] == FirstSeen(1.0, "sha256:d", "one")


def test_the_highest_serial_is_remembered(ledger: Ledger) -> None:
    """For each store; a lower one changes nothing."""
    assert [ledger.remember_serial("a", serial) for serial in (3, 5, 4, 5)] == [3, 5, 5, 5]
    assert ledger.remember_serial("b", 1) == 1
    assert ledger.remember_serial("c", 0) == 0


def test_samples_add_up_by_minute(ledger: Ledger) -> None:
    """All minutes together; other releases' calls stay apart."""
    ledger.add_samples([(PLUGIN_ID, "r", 1, Samples(1, 0, 0)), (PLUGIN_ID, "r", 2, Samples(2, 1))])
    ledger.add_samples([(PLUGIN_ID, "r", 2, Samples(4, 2, 1)), (PLUGIN_ID, "s", 2, Samples(9))])
    assert ledger.samples(PLUGIN_ID, "r") == Samples(7, 3, 1)


def test_the_later_of_grant_and_deny_counts(ledger: Ledger) -> None:
    """Each takes the other back."""
    for granted in (True, False, True):
        ledger.decide(PLUGIN_ID, "network", granted=granted, at=NOW)
        assert ledger.decisions(PLUGIN_ID) == {"network": granted}
    ledger.decide(PLUGIN_ID, "llm", granted=False, at=NOW)
    assert ledger.decisions(PLUGIN_ID) == {"network": True, "llm": False}
    assert ledger.decisions("org.other") == {}


def test_history_is_the_latest_oldest_first(ledger: Ledger) -> None:
    """In the order of writing, whatever the clock said; the limit keeps the latest."""
    events = [Event(NOW - n, PLUGIN_ID, "activated", None, None, str(n)) for n in range(3)]
    for event in events:
        ledger.record(event)
    ledger.record(Event(NOW, "org.other", "activated", "0.1.0", "r", ""))
    assert ledger.history(PLUGIN_ID) == tuple(events)
    assert ledger.history(PLUGIN_ID, limit=2) == tuple(events[1:])


def test_the_last_decision_is_kept(ledger: Ledger) -> None:
    """One for each plugin, the latest."""
    first = Decision(PLUGIN_ID, NOW, "0.2.0", "pending", "consent", "consent", "network")
    second = Decision(PLUGIN_ID, NOW + 1, None, "current", "plan", "", "nothing newer")
    for decision in (first, second):
        ledger.note_decision(decision)
        assert ledger.decision(PLUGIN_ID) == decision


def stopping(kind: str) -> Event:
    """The line of history that comes with a stop."""
    return Event(NOW, PLUGIN_ID, kind, "0.1.0", OLD.release, "")


def test_a_stop_is_one_step_with_its_reason(ledger: Ledger) -> None:
    """What serves stays good, or on trial, until it is taken away; then the trial is over."""
    install(ledger, OLD)
    ledger.intend(NEW, trial_of(NEW, OLD), channel=None)
    ledger.projected(PLUGIN_ID, NEW.release)
    ledger.stop(PLUGIN_ID, Stop.DISABLED, stopping("disabled"))
    installed = ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert (installed.stop, installed.good) == (Stop.DISABLED, OLD.release)
    assert installed.projection_due
    assert ledger.trial(PLUGIN_ID) == trial_of(NEW, OLD)
    assert ledger.history(PLUGIN_ID)[-1] == stopping("disabled")
    ledger.stopped(PLUGIN_ID)
    installed = ledger.installed(PLUGIN_ID)
    assert installed is not None
    assert (installed.stop, installed.projected) == (Stop.DISABLED, None)
    assert not installed.projection_due
    assert ledger.trial(PLUGIN_ID) is None


def test_a_start_makes_the_copies_due(ledger: Ledger) -> None:
    """Unless nothing was ever good: then there is nothing to copy."""
    install(ledger, OLD)
    for plugin_id, is_due in ((PLUGIN_ID, True), ("org.example.lost", False)):
        ledger.stop(plugin_id, Stop.DISABLED, replace(stopping("disabled"), plugin_id=plugin_id))
        ledger.stopped(plugin_id)
        ledger.start(plugin_id, replace(stopping("enabled"), plugin_id=plugin_id))
        installed = ledger.installed(plugin_id)
        assert installed is not None
        assert (installed.stop, installed.projection_due) == (None, is_due)
        assert ledger.history(plugin_id)[-1].kind == "enabled"


def test_what_outlives_a_removal(ledger: Ledger) -> None:
    """Floor, rejections, denials, history; another plugin loses nothing."""
    other = generation("0.1.0", plugin_id="org.example.other", stem="other")
    for one in (OLD, other):
        install(ledger, one)
        ledger.hold(one.plugin_id, until=None, at=NOW)
        ledger.add_samples([(one.plugin_id, one.release, 1, Samples(1))])
        ledger.decide(one.plugin_id, "fs_read", granted=True, at=NOW)
        ledger.decide(one.plugin_id, "network", granted=False, at=NOW)
    ledger.reject(PLUGIN_ID, NEW.release, "0.2.0", reason="bad", at=NOW)
    ledger.stop(PLUGIN_ID, Stop.REMOVING, stopping("removed"))
    ledger.forget(PLUGIN_ID)
    assert ledger.installed(PLUGIN_ID) == Installed(
        PLUGIN_ID, None, "0.1.0", None, None, None, projection_due=False
    )
    assert ledger.generations(PLUGIN_ID) == ()
    assert ledger.hold_of(PLUGIN_ID) is None
    assert ledger.samples(PLUGIN_ID, OLD.release) == Samples()
    assert ledger.decisions(PLUGIN_ID) == {"network": False}
    assert set(ledger.rejections(PLUGIN_ID)) == {NEW.release}
    assert ledger.history(PLUGIN_ID)[-1] == stopping("removed")
    assert ledger.generations(other.plugin_id)
    assert ledger.hold_of(other.plugin_id) == Hold(None)
    assert ledger.samples(other.plugin_id, other.release) == Samples(1)
    assert ledger.decisions(other.plugin_id) == {"fs_read": True, "network": False}


def test_the_last_hold_is_kept(ledger: Ledger) -> None:
    """With an end or without; taken back, there is none."""
    assert ledger.hold_of(PLUGIN_ID) is None
    for until in (None, NOW):
        ledger.hold(PLUGIN_ID, until=until, at=NOW)
        assert ledger.hold_of(PLUGIN_ID) == Hold(until)
    ledger.unhold(PLUGIN_ID)
    ledger.unhold(PLUGIN_ID)
    assert ledger.hold_of(PLUGIN_ID) is None
