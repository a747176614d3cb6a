"""The part of the ledger that has a second place in the tree, and comes back from there."""

import functools
import json
from collections.abc import Iterable
from dataclasses import astuple

from agent.ledger.grant_book import GrantBook
from agent.ledger.memory import HIGHEST_TAKEN, Committed, Held, Memory, narrowed
from agent.model import Generation, Rejection, Stop, Trial


class Recollection(GrantBook):
    """Which ledger this is, and what a tree remembers of it; see ``Database`` for errors."""

    @functools.cached_property
    def ledger_id(self) -> str:
        """Made with the ledger, at random, and never changed; another file has another one."""
        return str(self._run("SELECT id FROM ledger")[0][0])

    def remembered_ids(self) -> tuple[str, ...]:
        """Every plugin of which the tree should remember something, sorted."""
        rows = self._run("SELECT plugin_id FROM memories ORDER BY plugin_id")
        return tuple(row[0] for row in rows)

    def memory(self, plugin_id: str) -> Memory | None:
        """What the tree should remember of a plugin; None where nothing is known."""
        plugins = self._run(
            "SELECT number, floor, repository, channel, good, stop FROM memories "
            "LEFT JOIN plugins USING (plugin_id) WHERE plugin_id = ?",
            (plugin_id,),
        )
        if not plugins:
            return None
        holds = self._run("SELECT until, at FROM holds WHERE plugin_id = ?", (plugin_id,))
        rejected = self._run(
            "SELECT release, version, reason, at FROM rejected WHERE plugin_id = ? ORDER BY at",
            (plugin_id,),
        )
        committed = self._run(
            "SELECT release, version, digest, repository, installed_at, committed_at "
            "FROM generations WHERE plugin_id = ? AND committed_at IS NOT NULL "
            "ORDER BY committed_at",
            (plugin_id,),
        )
        number, floor, repository, channel, good, stop = plugins[0]
        return Memory(
            self.ledger_id,
            number,
            floor,
            repository,
            channel,
            good,
            None if stop is None else Stop(stop),
            Held(*holds[0]) if holds else None,
            self.decided(plugin_id),
            tuple(Rejection(*row) for row in rejected),
            tuple(Committed(*row) for row in committed),
        )

    def is_behind(self, plugin_id: str, written: Memory | None) -> bool:
        """Whether the tree knows more of a plugin: this ledger is an older copy, or another."""
        if written is None:
            return False
        rows = self._run("SELECT number FROM memories WHERE plugin_id = ?", (plugin_id,))
        is_newer = not rows or written.number > rows[0][0]
        return is_newer or written.ledger != self.ledger_id

    def restore(
        self,
        plugin_id: str,
        generations: Iterable[Generation],
        *,
        known: Memory | None,
        good: str | None,
        floor: str | None,
    ) -> None:
        """Write down anew what the tree says of a plugin; in one durable step.

        Args:
            plugin_id: The plugin.
            generations: Its releases that were verified again.
            known: What holds where the tree remembers more than is known here (``narrower``).
                A file beside the plugins takes away and gives nothing.
            good: The one that should serve.
            floor: The version that it must not go below.
        """
        with self.transaction():
            self._run(
                "INSERT INTO plugins (plugin_id, good, floor) VALUES (?, ?, ?) "
                "ON CONFLICT (plugin_id) DO UPDATE SET good = excluded.good, "
                "floor = excluded.floor",
                (plugin_id, good, floor),
            )
            self._run("DELETE FROM generations WHERE plugin_id = ?", (plugin_id,))
            self._run("DELETE FROM trials WHERE plugin_id = ?", (plugin_id,))
            self._run_many(
                "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        g.plugin_id,
                        g.release,
                        g.version,
                        g.stem,
                        g.payload_sha256,
                        g.key_id,
                        json.dumps(g.capabilities),
                        g.digest,
                        g.repository,
                        g.installed_at,
                        g.committed_at,
                    )
                    for g in generations
                ],
            )
            if known is not None:
                self._take_in(plugin_id, known)
            # Their copies may lie about: they are no drop-ins.
            self._run(
                "INSERT OR IGNORE INTO went_live SELECT plugin_id, release FROM generations "
                "WHERE plugin_id = ? AND (committed_at IS NOT NULL OR release IN "
                "(SELECT release FROM rejected WHERE rejected.plugin_id = generations.plugin_id))",
                (plugin_id,),
            )

    def take_in_decisions(self, plugin_id: str, known: Memory) -> None:
        """Learn of a plugin that was never installed what the tree remembers, durably."""
        with self.transaction():
            self._take_in_decided(plugin_id, known)

    def _take_in(self, plugin_id: str, known: Memory) -> None:
        self._run(
            "UPDATE plugins SET repository = coalesce(repository, ?), "
            "channel = coalesce(channel, ?), stop = ? WHERE plugin_id = ?",
            (known.repository, known.channel, known.stop and known.stop.value, plugin_id),
        )
        self._take_in_decided(plugin_id, known)

    def _take_in_decided(self, plugin_id: str, known: Memory) -> None:
        self._run("DELETE FROM rejected WHERE plugin_id = ?", (plugin_id,))
        self._run_many(
            "INSERT INTO rejected VALUES (?, ?, ?, ?, ?)",
            [(plugin_id, r.release, r.version, r.reason, r.at) for r in known.rejected],
        )
        self._run("DELETE FROM holds WHERE plugin_id = ?", (plugin_id,))
        if known.hold is not None:
            values = (plugin_id, known.hold.until, known.hold.at)
            self._run("INSERT INTO holds VALUES (?, ?, ?)", values)
        decided = narrowed(self.decided(plugin_id), known.decisions)
        self._run("DELETE FROM grants WHERE plugin_id = ?", (plugin_id,))
        self._run_many(
            "INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(plugin_id, *astuple(one)) for one in decided],
        )
        # Higher than in both places: what was there before is older from now on. Not so high that
        # it could not be read again, whatever number somebody wrote.
        self._run(
            "INSERT INTO memories VALUES (?, ?) ON CONFLICT (plugin_id) DO UPDATE "
            "SET number = max(number, excluded.number) + 1",
            (plugin_id, min(known.number, HIGHEST_TAKEN)),
        )

    def serve_instead(self, plugin_id: str, release: str | None) -> None:
        """What serves is broken: another release is good, or none; the flip follows.

        Of a plugin that is stopped no copies lie there, and none are due.
        """
        with self.transaction():
            self._run(
                "UPDATE plugins SET good = ?, projection_due = CASE WHEN stop IS NULL THEN 1 "
                "ELSE projection_due END WHERE plugin_id = ?",
                (release, plugin_id),
            )
            self._run("DELETE FROM trials WHERE plugin_id = ?", (plugin_id,))

    def begin_trial_anew(self, trial: Trial, *, at: float) -> None:
        """Let a trial begin at another time, as long as it was."""
        self._run(
            "UPDATE trials SET started_at = ?, ends_at = ? WHERE plugin_id = ? AND release = ?",
            (at, at + trial.ends_at - trial.started_at, trial.plugin_id, trial.release),
        )

    def newest_time(self) -> float | None:
        """The latest moment that was written down; None where none was."""
        rows = self._run(
            "SELECT max(at) FROM (SELECT max(at) AS at FROM history UNION ALL "
            "SELECT max(started_at) FROM trials UNION ALL "
            "SELECT max(installed_at) FROM generations)"
        )
        return None if rows[0][0] is None else float(rows[0][0])
