"""The ledger's file: opened, migrated, and used by one thread at a time."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.errors import AgentError

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE plugins (
    plugin_id TEXT PRIMARY KEY, good TEXT, floor TEXT, repository TEXT, channel TEXT,
    projected TEXT, projection_due INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE generations (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL, stem TEXT NOT NULL,
    payload_sha256 TEXT NOT NULL, key_id TEXT NOT NULL, capabilities TEXT NOT NULL,
    digest TEXT, repository TEXT, installed_at REAL NOT NULL, committed_at REAL,
    PRIMARY KEY (plugin_id, release)
) STRICT;
CREATE TABLE trials (
    plugin_id TEXT PRIMARY KEY, release TEXT NOT NULL, previous TEXT,
    started_at REAL NOT NULL, ends_at REAL NOT NULL
) STRICT;
CREATE TABLE rejected (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (plugin_id, release)
) STRICT;
CREATE TABLE refused (
    repository TEXT NOT NULL, digest TEXT NOT NULL, terms TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (repository, digest)
) STRICT;
CREATE TABLE first_seen (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT, release TEXT, at REAL NOT NULL,
    PRIMARY KEY (repository, tag)
) STRICT;
CREATE TABLE samples (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, minute INTEGER NOT NULL,
    calls INTEGER NOT NULL, failures INTEGER NOT NULL, health_failures INTEGER NOT NULL,
    PRIMARY KEY (plugin_id, release, minute)
) STRICT;
CREATE TABLE grants (
    plugin_id TEXT NOT NULL, capability TEXT NOT NULL, granted INTEGER NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (plugin_id, capability)
) STRICT;
CREATE TABLE trust_serials (store TEXT PRIMARY KEY, serial INTEGER NOT NULL) STRICT;
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, plugin_id TEXT NOT NULL,
    kind TEXT NOT NULL, version TEXT, release TEXT, detail TEXT NOT NULL
) STRICT;
CREATE TABLE decisions (
    plugin_id TEXT PRIMARY KEY, at REAL NOT NULL, candidate TEXT, outcome TEXT NOT NULL,
    step TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX history_of ON history (plugin_id, number);
"""


class Database:
    """One open ``state.db``; may be shared by threads, which take turns.

    WAL with full sync: a committed transaction survives a power cut. Every method of this
    class and of those built on it may raise ``sqlite3.Error`` where the disk or file fails.

    Args:
        path: The file; its folder exists.

    Raises:
        AgentError: The file was written by a newer version of the agent.
    """

    def __init__(self, path: Path) -> None:
        self._turn = threading.RLock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            self._run("PRAGMA journal_mode=WAL")
            self._run("PRAGMA synchronous=FULL")
            self._migrate(path)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; it can't be used afterwards."""
        with self._turn:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when the block ends."""
        with self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk has rolled back already; a second time would hide the cause.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _run(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._turn:
            return self._db.execute(statement, tuple(values)).fetchall()

    def _run_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._turn:
            self._db.executemany(statement, rows)

    def _migrate(self, path: Path) -> None:
        with self.transaction():
            version = int(self._run("PRAGMA user_version")[0][0])
            if version > _SCHEMA_VERSION:
                raise AgentError(
                    f"cannot open {path}: it has schema {version}, this agent knows "
                    f"{_SCHEMA_VERSION}",
                    hint="install the newer agent again",
                )
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._run(statement)
                self._run(f"PRAGMA user_version={_SCHEMA_VERSION}")
