"""The ledger's file: opened, migrated, and used by one thread at a time."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.errors import AgentError, DamagedError
from agent.ledger.migrations import MIGRATIONS
from agent.reading import open_regular

_PATIENCE_S = 30
_LOOK_AGAIN_S = 0.005
_WRITE_AGAIN_S = 5.0
_ROOM_BYTES = 256 * 1024
_SCARCE_BYTES = 256 * 1024
_OF_THE_DISK = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""Faults that SQLite tells without a path."""


class Database:
    """One open ``state.db``; may be shared by threads, which take turns.

    WAL with full sync: a committed transaction survives a power cut, but for those that say
    otherwise (``_soon``). Every method of this class and of those built on it may raise
    ``sqlite3.Error`` where the disk or file fails.

    Args:
        path: The file; its folder exists.

    Raises:
        AgentError: The file was written by a newer version of the agent.
        DamagedError: It is damaged; so may every method say from then on.
    """

    def __init__(self, path: Path) -> None:
        self._turn = threading.RLock()
        self._path = path
        self._is_for_reading = False
        self._tried_to_write_s = time.monotonic()
        with _telling(path):
            self._db = _connect(path)
            self._prepare(path)

    def _prepare(self, path: Path) -> None:
        try:
            try:
                _use_wal(self._db)
            except sqlite3.OperationalError as error:
                if _is_locked(error):
                    raise
                # A disk that is full or read only: what is known can still be read.
                self._db.close()
                self._db = _connect_to_read(path)
                self._is_for_reading = True
            self._run("PRAGMA synchronous=FULL")
            self._migrate(path)
            self._file = _file_at(path)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; it can't be used afterwards."""
        with self._turn:
            self._db.close()

    @property
    def is_in_place(self) -> bool:
        """Whether its file still lies where it was opened: nobody removed or replaced it."""
        return self._file == _file_at(self._path)

    @property
    def is_replaced(self) -> bool:
        """Whether there is another to go by: a new file, or a disk that can be written again.

        Where no file lies there, what is known still counts.
        """
        return _file_at(self._path) not in (None, self._file) or self._can_be_written_again()

    def _can_be_written_again(self) -> bool:
        """Whether the disk was full or read only when it was opened, and is no more."""
        if not self._is_for_reading or time.monotonic() - self._tried_to_write_s < _WRITE_AGAIN_S:
            return False
        self._tried_to_write_s = time.monotonic()
        try:
            with contextlib.closing(_connect(self._path)) as db:
                _use_wal(db)
                db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            return False
        return True

    def keep_room(self) -> None:
        """Have room of its own in file and log for what must be written on a full disk.

        For a process that keeps it open: the log goes with the last that closes it.
        """
        ((free,),) = self._run("PRAGMA freelist_count")
        ((page_bytes,),) = self._run("PRAGMA page_size")
        if free * page_bytes < _ROOM_BYTES:
            with self.transaction():
                self._run("CREATE TABLE room (bytes BLOB)")
                self._run("INSERT INTO room VALUES (zeroblob(?))", (2 * _ROOM_BYTES,))
            with self.transaction():
                self._run("DROP TABLE room")
        self._run("PRAGMA wal_checkpoint(PASSIVE)")  # so that the file has its blocks, too

    def _reuse_log(self) -> None:
        """On a full disk, have the log written over from its start: that takes no more blocks."""
        disk = os.statvfs(self._path)
        if not self._is_for_reading and disk.f_bavail * disk.f_frsize < _SCARCE_BYTES:
            self._run("PRAGMA wal_checkpoint(PASSIVE)")

    def check(self) -> None:
        """Read all of the file, and see whether it is whole.

        Raises:
            DamagedError: It is not.
        """
        (first, *_) = self._run("PRAGMA quick_check(1)")
        if first[0] != "ok":
            raise _damaged(self._path, first[0])

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep this process's other threads away from the ledger for the length of the block.

        Who needs another lock inside takes it here, so that all take both in one order.
        """
        with self._turn:
            yield

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """Inside, a ledger that another process is writing is given up at once.

        For hosts: a call never waits for a writer.
        """
        with self._turn:
            ((before_ms,),) = self._db.execute("PRAGMA busy_timeout").fetchall()
            self._db.execute("PRAGMA busy_timeout=50")
            try:
                yield
            finally:
                self._db.execute(f"PRAGMA busy_timeout={before_ms}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when the block ends."""
        with self._turn:
            self._reuse_log()
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                with _telling(self._path):
                    self._db.execute("COMMIT")
            except BaseException:
                # A full disk has rolled back already; a second time would hide the cause.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _run(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._turn, _telling(self._path):
            return self._db.execute(statement, tuple(values)).fetchall()

    @contextlib.contextmanager
    def _soon(self) -> Iterator[None]:
        """A transaction that a power cut may take back: durable with the next full one.

        Nothing that comes later outlives it, and a process that dies loses nothing.
        """
        with self._turn:
            if self._db.in_transaction:
                yield
                return
            self._run("PRAGMA synchronous=NORMAL")
            try:
                with self.transaction():
                    yield
            finally:
                self._run("PRAGMA synchronous=FULL")

    def _run_soon(self, statement: str, values: Iterable[Any] = ()) -> None:
        with self._soon():
            self._run(statement, values)

    def _run_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._turn, _telling(self._path):
            self._db.executemany(statement, rows)

    def _migrate(self, path: Path) -> None:
        """Bring the schema up to date, all or nothing; what was there is backed up before."""
        newest = len(MIGRATIONS)
        if self._run("PRAGMA user_version")[0][0] == newest:
            return  # without a write: the disk may be full, or read only
        with self.transaction():
            version = int(self._run("PRAGMA user_version")[0][0])
            if version > newest:
                raise AgentError(
                    f"cannot open {path}: it has schema {version}, this agent knows {newest}",
                    hint="install the newer agent again",
                )
            if version == newest:
                return
            if version > 0:
                _back_up(path, path.with_name(f"{path.name}.backup-v{version}"))
            for migration in MIGRATIONS[version:]:
                for statement in migration.split(";\n"):
                    self._run(statement)
            self._run(f"PRAGMA user_version={newest}")


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Tell a damaged file from all else that SQLite may complain about."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_CANTOPEN:
            with open_regular(path):
                pass  # says which file, and why: SQLite says neither
        is_cut = code == sqlite3.SQLITE_IOERR_SHORT_READ
        if is_cut or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, error) from error
        if code & 0xFF in _OF_THE_DISK and str(path) not in str(error):
            error.args = (f"{path}: {error}",)
        raise


def _damaged(path: Path, why: object) -> DamagedError:
    return DamagedError(f"cannot use {path}: it is damaged ({why})")


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path, by its device and inode; None where none does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _back_up(path: Path, copy: Path) -> None:
    """Copy a ledger, in one step: a crash leaves the copy there was before, or an empty one.

    The caller's transaction keeps other writers out; this reads beside it.
    """
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch a new file to WAL; a file that has it is left as it is.

    Where several processes switch at once, SQLite tells all but one that the file is locked
    without waiting for them (``busy_timeout`` is not asked), so the waiting is done here.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return (error.sqlite_errorcode & 0xFF) == sqlite3.SQLITE_BUSY


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger that can't be written, as it lies there."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
