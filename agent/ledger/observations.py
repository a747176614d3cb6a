"""What was seen, counted, decided and done: the part of the ledger that no flip waits for."""

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from agent.errors import PolicyError
from agent.ledger.recollection import Recollection
from agent.model import AuditHead, Decision, FirstSeen, Hold, Kind, Outcome, Refusal, Samples
from agent.tree.flat_model import FlatNote


class Observations(Recollection):
    """First looks, refusals, samples, holds, decisions; see ``Database`` for errors."""

    def refuse(self, repository: str, refusal: Refusal, *, terms: str) -> None:
        """Remember a candidate that was refused, and the terms it was judged under."""
        self._run(
            "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                repository,
                refusal.tag,
                refusal.digest,
                terms,
                refusal.code,
                refusal.reason,
                refusal.at,
            ),
        )

    def refusals(self, repository: str, *, terms: str, since: float) -> tuple[Refusal, ...]:
        """What was refused under these terms since a time."""
        rows = self._run(
            "SELECT tag, digest, code, reason, at FROM refused "
            "WHERE repository = ? AND terms = ? AND at >= ?",
            (repository, terms, since),
        )
        return tuple(Refusal(*row) for row in rows)

    # -- what waits for consent

    def note_pending(
        self, repository: str, tag: str, pending: Outcome, *, terms: str, at: float
    ) -> None:
        """Remember what a run said of a candidate that waits, and the terms it was said under."""
        cause = pending.error
        self._run(
            "INSERT OR REPLACE INTO awaited VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                repository,
                tag,
                pending.digest,
                terms,
                pending.after,
                pending.release,
                pending.detail,
                cause and cause.message,
                cause and cause.hint,
                at,
            ),
        )

    def pending(
        self, repository: str, tag: str, *, plugin_id: str, terms: str, since: float
    ) -> Outcome | None:
        """What was said of a candidate that waits, under these terms, since a time."""
        rows = self._run(
            "SELECT detail, version, release, digest, message, hint FROM awaited "
            "WHERE repository = ? AND tag = ? AND terms = ? AND at >= ?",
            (repository, tag, terms, since),
        )
        if not rows:
            return None
        detail, version, release, digest, message, hint = rows[0]
        cause = PolicyError(message, reason="consent", hint=hint)
        found = Outcome(plugin_id, Kind.PENDING, "consent", detail, after=version, error=cause)
        return replace(found, release=release, digest=digest)

    # -- first seen

    def see_tags(self, repository: str, tags: Iterable[str], *, at: float) -> dict[str, FirstSeen]:
        """Note tags; the time of the first look is kept for ever. Returns all, as ``seen``."""
        known = self.seen(repository)
        fresh = [(repository, tag, at) for tag in tags if tag not in known]
        if not fresh:
            return known
        with self.transaction():
            self._run_many(
                "INSERT OR IGNORE INTO first_seen (repository, tag, at) VALUES (?, ?, ?)", fresh
            )
        return self.seen(repository)

    def see_release(
        self, repository: str, tag: str, digest: str, release: str, *, at: float
    ) -> None:
        """Note what a version's tag named when it was believed.

        The first look stays the first; the same release signed anew has another digest.
        """
        self._run(
            "INSERT INTO first_seen (repository, tag, digest, release, at) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest, "
            "release = excluded.release WHERE digest IS NULL OR release IS NULL "
            "OR release = excluded.release",
            (repository, tag, digest, release, at),
        )

    def seen(self, repository: str) -> dict[str, FirstSeen]:
        """Tag → what it named at the first look, in a repository."""
        rows = self._run(
            "SELECT tag, at, digest, release FROM first_seen WHERE repository = ?", (repository,)
        )
        return {tag: FirstSeen(*rest) for tag, *rest in rows}

    def remember_serial(self, store: str, serial: int) -> int:
        """The highest serial that is known of a trust store, this one included.

        One that can't be written now, because the disk is full or another process writes, is
        not known by that: it must keep nobody from judging by that store.
        """
        known = self.highest_serial(store)
        if known is None or serial > known:
            with contextlib.suppress(sqlite3.OperationalError), self.impatient():
                self._run("INSERT OR REPLACE INTO trust_serials VALUES (?, ?)", (store, serial))
                return serial
        return known or 0

    def highest_serial(self, store: str) -> int | None:
        """The highest serial ever seen of a trust store; None where none was."""
        rows = self._run("SELECT serial FROM trust_serials WHERE store = ?", (store,))
        return int(rows[0][0]) if rows else None

    # -- the flat files of the plugin folder

    def flat_notes(self) -> dict[str, FlatNote]:
        """What is known of flat sets, by stem."""
        rows = self._run(
            "SELECT stem, plugin_id, stamp, at, terms, version, outcome, code, reason, detail, "
            "hint FROM flat_sets"
        )
        return {row[0]: FlatNote(*row) for row in rows}

    def note_flat_set(self, note: FlatNote) -> None:
        """Remember a flat set as it lies there now."""
        self._run(
            "INSERT OR REPLACE INTO flat_sets (stem, plugin_id, stamp, at, terms, version, "
            "outcome, code, reason, detail, hint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                note.stem,
                note.plugin_id,
                note.stamp,
                note.at,
                note.terms,
                note.version,
                note.outcome,
                note.code,
                note.reason,
                note.detail,
                note.hint,
            ),
        )

    # -- samples

    def add_samples(self, rows: Iterable[tuple[str, str, int, Samples]]) -> None:
        """Add counted calls: (plugin id, release, minute since the epoch, counts)."""
        with self.transaction():
            self._run_many(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, "
                "failures = failures + excluded.failures, "
                "health_failures = health_failures + excluded.health_failures",
                [
                    (plugin_id, release, minute, s.calls, s.failures, s.health_failures)
                    for plugin_id, release, minute, s in rows
                ],
            )

    def samples(self, plugin_id: str, release: str) -> Samples:
        """The calls counted for a release."""
        rows = self._run(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(failures), 0), "
            "coalesce(sum(health_failures), 0) FROM samples "
            "WHERE plugin_id = ? AND release = ?",
            (plugin_id, release),
        )
        return Samples(*rows[0])

    # -- holds

    def hold(self, plugin_id: str, *, until: float | None, at: float) -> None:
        """Record ``agent hold``, in the place of an earlier one; None = until ``agent unhold``."""
        self._run("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (plugin_id, until, at))

    def unhold(self, plugin_id: str) -> None:
        """Forget ``agent hold``."""
        self._run("DELETE FROM holds WHERE plugin_id = ?", (plugin_id,))

    def hold_of(self, plugin_id: str) -> Hold | None:
        """What ``agent hold`` recorded, over or not."""
        rows = self._run("SELECT until FROM holds WHERE plugin_id = ?", (plugin_id,))
        return Hold(*rows[0]) if rows else None

    # -- decisions

    def note_decision(self, decision: Decision) -> None:
        """Keep what the last run decided for a plugin; soon durable: the next run says it again."""
        self._run_soon(
            "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                decision.plugin_id,
                decision.at,
                decision.candidate,
                decision.outcome,
                decision.step,
                decision.reason,
                decision.detail,
            ),
        )

    def decision(self, plugin_id: str) -> Decision | None:
        """What the last run decided for a plugin."""
        rows = self._run("SELECT * FROM decisions WHERE plugin_id = ?", (plugin_id,))
        return Decision(*rows[0]) if rows else None

    # -- the audit log's end

    def audit_head(self) -> AuditHead:
        """Where the audit log ends; all zeros where it was never written."""
        rows = self._run("SELECT lines, hash, segment, size_bytes FROM audit_head")
        return AuditHead(*rows[0]) if rows else AuditHead()

    def move_audit_head(self, head: AuditHead) -> None:
        """The audit log now ends here."""
        self._run(
            "INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?, ?, ?)",
            (head.lines, head.hash, head.segment, head.size_bytes),
        )

    def audit_uncovered(self) -> tuple[tuple[int, int], ...]:
        """First and last of the lines that were beyond an earlier head, and nobody answered for."""
        return tuple(self._run("SELECT first, last FROM audit_uncovered ORDER BY first"))

    def note_audit_uncovered(self, first: int, last: int) -> None:
        """Lines were found beyond the head; until somebody answers for them."""
        self._run("INSERT OR REPLACE INTO audit_uncovered VALUES (?, ?)", (first, last))

    def cover_audit(self) -> None:
        """Somebody answered for all lines there are."""
        self._run("DELETE FROM audit_uncovered")

    def audited_refusal(self, plugin_id: str, version: str) -> str | None:
        """What the audit log says last of a refused or failed version."""
        rows = self._run(
            "SELECT said FROM audit_refusals WHERE plugin_id = ? AND version = ?",
            (plugin_id, version),
        )
        return str(rows[0][0]) if rows else None

    def remember_audited_refusal(self, plugin_id: str, version: str, said: str) -> None:
        """The same is not written again until the plugin has changed."""
        self._run(
            "INSERT OR REPLACE INTO audit_refusals VALUES (?, ?, ?)", (plugin_id, version, said)
        )

    def forget_audited_refusals(self, plugin_id: str) -> None:
        """The plugin has changed: a refusal like an earlier one is news again."""
        if self._run("SELECT 1 FROM audit_refusals WHERE plugin_id = ?", (plugin_id,)):
            self._run("DELETE FROM audit_refusals WHERE plugin_id = ?", (plugin_id,))
