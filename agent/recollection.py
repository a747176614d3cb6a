"""The part of the ledger that has a second place in the tree, and comes back from there."""

import json
from collections.abc import Iterable

from agent.database import Database
from agent.memory import Committed, Memory
from agent.model import Generation, Rejection, Trial
from agent.requirement import is_newer


class Recollection(Database):
    """Which ledger this is, and what a tree remembers of it; see ``Database`` for errors."""

    @property
    def ledger_id(self) -> str:
        """Made with the ledger, at random; another file has another one."""
        return str(self._run("SELECT id FROM ledger")[0][0])

    def memory(self, plugin_id: str) -> Memory | None:
        """What the tree should remember of a plugin; None where nothing is known."""
        plugins = self._run(
            "SELECT number, floor, repository, channel FROM memories "
            "LEFT JOIN plugins USING (plugin_id) WHERE plugin_id = ?",
            (plugin_id,),
        )
        if not plugins:
            return None
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
        number, floor, repository, channel = plugins[0]
        return Memory(
            self.ledger_id,
            number,
            floor,
            repository,
            channel,
            tuple(Rejection(*row) for row in rejected),
            tuple(Committed(*row) for row in committed),
        )

    def take_in(self, plugin_id: str, known: Memory) -> None:
        """Learn from the tree what this ledger does not know, because another was lost.

        What the tree says of rejections is the newer; the floor never falls.
        """
        with self.transaction():
            rows = self._run("SELECT floor FROM plugins WHERE plugin_id = ?", (plugin_id,))
            floor = rows[0][0] if rows else None
            if known.floor is not None and (floor is None or is_newer(known.floor, floor)):
                floor = known.floor
            self._run(
                "INSERT INTO plugins (plugin_id, floor, repository, channel) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (plugin_id) DO UPDATE SET floor = excluded.floor, "
                "repository = coalesce(repository, excluded.repository), "
                "channel = coalesce(channel, excluded.channel)",
                (plugin_id, floor, known.repository, known.channel),
            )
            self._run("DELETE FROM rejected WHERE plugin_id = ?", (plugin_id,))
            self._run_many(
                "INSERT INTO rejected VALUES (?, ?, ?, ?, ?)",
                [(plugin_id, r.release, r.version, r.reason, r.at) for r in known.rejected],
            )
            self._run(
                "INSERT INTO memories VALUES (?, ?) "
                "ON CONFLICT (plugin_id) DO UPDATE SET number = excluded.number + 1",
                (plugin_id, known.number),
            )

    def restore(
        self,
        plugin_id: str,
        generations: Iterable[Generation],
        *,
        good: str | None,
        floor: str | None,
    ) -> None:
        """Write down anew what the sealed releases of a plugin say; in one durable step.

        Args:
            plugin_id: The plugin.
            generations: Its releases that were verified again.
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
            # Their copies may lie about: they are no drop-ins.
            self._run(
                "INSERT OR IGNORE INTO went_live SELECT plugin_id, release FROM generations "
                "WHERE plugin_id = ? AND (committed_at IS NOT NULL OR release IN "
                "(SELECT release FROM rejected WHERE rejected.plugin_id = generations.plugin_id))",
                (plugin_id,),
            )

    def serve_instead(self, plugin_id: str, release: str | None) -> None:
        """What serves is broken: another release is good, or none; the flip follows."""
        with self.transaction():
            self._run(
                "UPDATE plugins SET good = ?, projection_due = 1 WHERE plugin_id = ?",
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
