"""The ledger's schema: made anew, brought up to date with what it holds, or left alone."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.ledger.ledger import Ledger
from agent.ledger.migrations import MIGRATIONS
from agent.model import AuditHead, Event, FirstSeen, Refusal
from support.agent import NOW, PLUGIN_ID, REPOSITORY, generation
from support.ledgers import raw, write_version_1, write_version_2, write_version_3

PATIENCE_S = 30
NEWEST = len(MIGRATIONS)
HEAD = AuditHead(7, "ab" * 32, 2, 700)


def schema_of(path: Path) -> list[tuple[str, str]]:
    """All tables and their columns, sorted."""
    with raw(path) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sorted(
            (table, f"{name} {kind} {required} {key}")
            for (table,) in tables
            for _, name, kind, required, _, key in db.execute(f"PRAGMA table_info({table})")
        )


def version_of(path: Path) -> int:
    """Which schema the file says that it has."""
    with raw(path) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_fresh_ledger_has_the_newest_schema_and_no_backup(tmp_path: Path) -> None:
    """There was nothing to keep: one file, up to date, usable."""
    path = tmp_path / "state.db"
    ledger = Ledger(path)
    assert ledger.audit_head() == AuditHead()
    ledger.move_audit_head(HEAD)
    assert ledger.audit_head() == HEAD
    ledger.close()
    assert version_of(path) == NEWEST
    assert [file.name for file in tmp_path.iterdir()] == ["state.db"]


def test_a_fresh_ledger_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """Each of those that make it at one moment gets it, and waits for the others if need be."""
    openers, rounds = 6, 60
    start = threading.Barrier(openers)
    opened: list[int] = []

    def open_each(opener: int) -> None:
        for number in range(rounds):
            start.wait(PATIENCE_S)
            Ledger(tmp_path / f"{number}.db").close()
            opened.append(opener)

    threads = [threading.Thread(target=open_each, args=(opener,)) for opener in range(openers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(opened) == openers * rounds


@pytest.mark.parametrize("write", [write_version_1, write_version_2, write_version_3])
def test_an_old_version_is_brought_up_to_date_with_what_it_holds(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """Plugins, generations, rejections, grants, serials and history are all still there."""
    path = tmp_path / "state.db"
    write(path)
    ledger = Ledger(path)
    try:
        one = generation("0.1.0")
        installed = ledger.installed(PLUGIN_ID)
        assert installed is not None
        assert (installed.good, installed.floor) == (one.release, "0.1.0")
        (kept,) = ledger.generations(PLUGIN_ID)
        assert (kept.release, kept.digest, kept.committed_at) == (one.release, one.digest, NOW)
        assert ledger.rejections(PLUGIN_ID)["ff"].reason == "bad"
        assert ledger.decisions(PLUGIN_ID) == {"network": True}
        assert ledger.remembered_ids() == (PLUGIN_ID,)
        assert ledger.remember_serial("/store", 40) == 41
        expected = Event(NOW, PLUGIN_ID, "activated", "0.1.0", one.release, "")
        assert list(ledger.history(PLUGIN_ID)) == [expected]
        ledger.record(expected)
        (first, _), (second, _) = ledger.history_after(0, 9)
        assert first == 1
        assert second == ledger.newest_number() > 1e12  # later ledgers' numbers are higher
        assert ledger.seen(REPOSITORY) == {"0.1.0": FirstSeen(5, "sha256:1")}
        assert ledger._run("SELECT * FROM refused") == []
    finally:
        ledger.close()
    assert version_of(path) == NEWEST


def test_a_migrated_ledger_is_like_a_fresh_one(tmp_path: Path) -> None:
    """The same tables and columns, whichever way they came to be; the new ones work."""
    old, fresh = tmp_path / "old.db", tmp_path / "fresh.db"
    write_version_1(old)
    for path in (old, fresh):
        ledger = Ledger(path)
        ledger.move_audit_head(HEAD)
        ledger.remember_audited_refusal(PLUGIN_ID, "0.2.0", "no")
        assert ledger.audited_refusal(PLUGIN_ID, "0.2.0") == "no"
        ledger.forget_audited_refusals(PLUGIN_ID)
        assert ledger.audited_refusal(PLUGIN_ID, "0.2.0") is None
        refusal = Refusal("0.2.0", None, "format", "why", NOW)
        ledger.refuse(REPOSITORY, refusal, terms="t")
        assert ledger.refusals(REPOSITORY, terms="t", since=NOW) == (refusal,)
        ledger.close()
    assert schema_of(old) == schema_of(fresh)


def test_the_old_ledger_is_kept_as_a_backup(tmp_path: Path) -> None:
    """``state.db.backup-v1`` is a whole ledger of version 1, with the rows that were dropped."""
    path = tmp_path / "state.db"
    write_version_1(path)
    before = schema_of(path)
    Ledger(path).close()
    backup = tmp_path / "state.db.backup-v1"
    assert version_of(backup) == 1
    assert schema_of(backup) == before
    with raw(backup) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT reason FROM refused").fetchall() == [("r",)]
        assert db.execute("SELECT release FROM first_seen").fetchall() == [("r",)]


def test_the_second_opening_changes_nothing(tmp_path: Path) -> None:
    """Brought up to date once: the next process neither migrates nor backs up again."""
    path = tmp_path / "state.db"
    write_version_1(path)
    first = Ledger(path)
    first.move_audit_head(HEAD)
    first.close()
    backup = tmp_path / "state.db.backup-v1"
    backup.unlink()
    before = path.read_bytes()
    second = Ledger(path)
    assert second.audit_head() == HEAD
    second.close()
    assert path.read_bytes() == before
    assert not backup.exists()


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing: what ran before the fault is undone, and the next try goes through."""
    path = tmp_path / "state.db"
    write_version_1(path)
    before = schema_of(path)
    with monkeypatch.context() as patch:
        broken = (MIGRATIONS[0], MIGRATIONS[1] + "CREATE TABLE plugins (x TEXT) STRICT;\n")
        patch.setattr("agent.ledger.database.MIGRATIONS", broken)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            Ledger(path)
    assert (version_of(path), schema_of(path)) == (1, before)
    with raw(path) as db:
        assert db.execute("SELECT reason FROM refused").fetchall() == [("r",)]
    Ledger(path).close()
    assert version_of(path) == NEWEST


def test_a_backup_left_half_written_is_made_again(tmp_path: Path) -> None:
    """A crash while backing up leaves an empty file: it does not keep the next run from it."""
    path = tmp_path / "state.db"
    write_version_1(path)
    backup = tmp_path / "state.db.backup-v1"
    backup.touch()
    Ledger(path).close()
    assert version_of(backup) == 1


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Not one byte is changed, nothing is backed up, and the next step is told."""
    path = tmp_path / "state.db"
    Ledger(path).close()
    with raw(path) as db:
        db.execute(f"PRAGMA user_version={NEWEST + 1}")
    before = path.read_bytes()
    expected = f"has schema {NEWEST + 1}, this agent knows {NEWEST}"
    with pytest.raises(AgentError, match=expected) as caught:
        Ledger(path)
    assert caught.value.hint == "install the newer agent again"
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state.db"]


def no_log_beside(path: Path) -> None:
    """Keep the write-ahead log from being made: even root meets this fault."""
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").mkdir()


def test_a_ledger_that_is_up_to_date_is_read_where_it_cannot_be_written(tmp_path: Path) -> None:
    """A disk that is full or read only: the head is told, and moving it is an error."""
    path = tmp_path / "state.db"
    write_version_1(path)
    first = Ledger(path)
    first.move_audit_head(HEAD)
    first.close()
    no_log_beside(path)
    before = path.read_bytes()
    second = Ledger(path)
    assert second.audit_head() == HEAD
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        second.move_audit_head(AuditHead())
    second.close()
    assert path.read_bytes() == before


def test_an_old_ledger_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    """It can't be brought up to date there: an error, no change, and no half of a migration."""
    path = tmp_path / "state.db"
    write_version_1(path)
    no_log_beside(path)
    before = path.read_bytes()
    with pytest.raises(sqlite3.OperationalError):
        Ledger(path)
    assert path.read_bytes() == before


def test_what_may_be_late_is_not_synced_alone(tmp_path: Path) -> None:
    """Observations are durable with the next full transaction; inside one they are part of it."""
    with contextlib.closing(Ledger(tmp_path / "state.db")) as ledger:
        statements: list[str] = []
        ledger._db.set_trace_callback(statements.append)
        event = Event(NOW, PLUGIN_ID, "activated", "0.1.0", "f" * 64, "")
        ledger.record(event)
        assert [s.split(" (")[0] for s in statements] == [
            "PRAGMA synchronous=NORMAL",
            "BEGIN IMMEDIATE",
            "INSERT INTO history",
            "COMMIT",
            "PRAGMA synchronous=FULL",
        ]
        statements.clear()
        with ledger.transaction():
            ledger.record(event)
        assert [s.split()[0] for s in statements] == ["BEGIN", "INSERT", "COMMIT"]
        assert len(ledger.history(PLUGIN_ID)) == 2


def test_a_ledger_that_could_not_be_written_is_given_up_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds one that was opened to be read goes by a new one when the fault is over."""
    monkeypatch.setattr("agent.ledger.database._WRITE_AGAIN_S", 0)
    path = tmp_path / "state.db"
    Ledger(path).close()
    no_log_beside(path)
    with contextlib.closing(Ledger(path)) as reading:
        assert not reading.is_replaced
        path.with_name("state.db-wal").rmdir()
        path.with_name("state.db-shm").rmdir()
        assert reading.is_replaced


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from agent.ledger import database
from agent.ledger.ledger import Ledger
from support.agent import NOW, PLUGIN_ID, generation

path, is_prepared = Path(sys.argv[1]), sys.argv[2] == "prepared"
ledger = Ledger(path)
ledger.add_generation(generation("0.2.0"))
if is_prepared:
    ledger.keep_room()
    database._SCARCE_BYTES = 2**62  # any disk is full
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = path.with_name("state.db-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (log, log))  # no file grows beyond the log
for number in range(200):
    ledger.turn_back(generation("0.2.0"), target=None, reason=str(number), at=NOW)
print("written")
"""


@pytest.mark.parametrize("is_prepared", [True, False])
def test_a_rollback_is_written_down_on_a_full_disk(tmp_path: Path, *, is_prepared: bool) -> None:
    """The file and its log have blocks of their own for it, and use them over and over."""
    word = "prepared" if is_prepared else "bare"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "state.db"), word],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if is_prepared:
        assert done.stdout == "written\n", done.stderr
    else:
        assert "disk I/O error" in done.stderr or "is full" in done.stderr
