"""Ledgers as earlier agents left them."""

import contextlib
import sqlite3
from pathlib import Path

from agent.ledger.migrations import MIGRATIONS
from support.agent import NOW, PLUGIN_ID, REPOSITORY, generation


def raw(path: Path) -> "contextlib.closing[sqlite3.Connection]":
    """The file as any tool opens it."""
    return contextlib.closing(sqlite3.connect(path, isolation_level=None))


def write_version_1(path: Path) -> None:
    """A ledger as the first agent left it, with a row of everything that must be kept."""
    one = generation("0.1.0")
    with raw(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(MIGRATIONS[0])
        db.execute("PRAGMA user_version=1")
        db.execute(
            "INSERT INTO plugins VALUES (?, ?, '0.1.0', ?, NULL, NULL, 0)",
            (PLUGIN_ID, one.release, REPOSITORY),
        )
        db.execute(
            "INSERT INTO generations VALUES (?, ?, '0.1.0', ?, ?, ?, '[\"log\"]', ?, ?, ?, ?)",
            (
                *(PLUGIN_ID, one.release, one.stem, one.payload_sha256, one.key_id),
                *(one.digest, one.repository, NOW, NOW),
            ),
        )
        db.execute("INSERT INTO rejected VALUES (?, 'ff', '0.2.0', 'bad', ?)", (PLUGIN_ID, NOW))
        db.execute("INSERT INTO refused VALUES (?, 'sha256:0', 't', 'r', ?)", (REPOSITORY, NOW))
        db.execute("INSERT INTO first_seen VALUES (?, '0.1.0', 'sha256:1', 'r', 5)", (REPOSITORY,))
        db.execute("INSERT INTO grants VALUES (?, 'network', 1, ?)", (PLUGIN_ID, NOW))
        db.execute("INSERT INTO trust_serials VALUES ('/store', 41)")
        db.execute(
            "INSERT INTO history VALUES (1, ?, ?, 'activated', '0.1.0', ?, '')",
            (NOW, PLUGIN_ID, one.release),
        )


def write_version_2(path: Path) -> None:
    """The same as the second agent left it: an audit log had begun."""
    write_version_1(path)
    with raw(path) as db:
        db.executescript(MIGRATIONS[1])
        db.execute("INSERT INTO audit_head VALUES (1, 7, 'ab', 2, 700)")
        db.execute("PRAGMA user_version=2")


def write_version_3(path: Path) -> None:
    """The same as the third agent left it, which numbered events from 1."""
    write_version_2(path)
    with raw(path) as db:
        db.executescript(MIGRATIONS[2])
        db.execute("PRAGMA user_version=3")
