"""What serves, what may, what never again: written ahead of what is done to the tree.

Two rules carry crash safety and live in the callers' order (``agent.tree.activation``): the
intention is here *before* the flip, the rejection is here *before* flipping back. Times are
seconds since the epoch.
"""

import json
from collections.abc import Iterable

from agent.ledger.trial_watch import TrialWatch
from agent.model import Event, Generation, Installed, Rejection, Stop, Trial
from agent.tree.flat_model import FlatNote

_DUE_BY_INTENTION = 2
"""Copies are due once the flip has happened; 1 = they are due, 0 = they are what serves."""


class Ledger(TrialWatch):
    """Plugins, their generations, trials and rejections; see ``Database`` for errors."""

    # -- plugins and their generations

    def installed(self, plugin_id: str) -> Installed | None:
        """What is known of one plugin; None where it was never installed."""
        return self.standing(plugin_id)[0]

    def standing(self, plugin_id: str) -> tuple[Installed | None, Trial | None]:
        """What is known of one plugin, and its open trial, read at one moment."""
        rows = self._run(
            "SELECT plugin_id, good, floor, repository, channel, projected, projection_due, stop, "
            "release, previous, started_at, ends_at FROM plugins LEFT JOIN trials "
            "USING (plugin_id) WHERE plugin_id = ?",
            (plugin_id,),
        )
        if not rows:
            return None, None
        *known, due, stop = rows[0][:8]
        installed = Installed(*[*known, bool(due), None if stop is None else Stop(stop)])
        release, *rest = rows[0][8:]
        return installed, None if release is None else Trial(plugin_id, release, *rest)

    def plugin_ids(self) -> tuple[str, ...]:
        """Every plugin that was ever installed, sorted."""
        rows = self._run("SELECT plugin_id FROM plugins ORDER BY plugin_id")
        return tuple(row[0] for row in rows)

    def generation(self, plugin_id: str, release: str) -> Generation | None:
        """One sealed release."""
        found = self._generations("plugin_id = ? AND release = ?", (plugin_id, release))
        return found[0] if found else None

    def generations(self, plugin_id: str) -> tuple[Generation, ...]:
        """All sealed releases of a plugin, the newest installed first."""
        return self._generations("plugin_id = ?", (plugin_id,))

    def stem_owner(self, stem: str) -> str | None:
        """The plugin whose sealed releases hold this stem."""
        found = self._generations("stem = ?", (stem,))
        return found[0].plugin_id if found else None

    def forget_generation(self, plugin_id: str, release: str) -> None:
        """Drop a release that was pruned from the tree."""
        self._run(
            "DELETE FROM generations WHERE plugin_id = ? AND release = ?", (plugin_id, release)
        )

    def _generations(self, where: str, values: Iterable[str]) -> tuple[Generation, ...]:
        rows = self._run(
            "SELECT plugin_id, version, release, stem, payload_sha256, key_id, capabilities, "  # noqa: S608 - the condition is one of three literals above
            f"digest, repository, installed_at, committed_at FROM generations WHERE {where} "
            "ORDER BY installed_at DESC, rowid DESC",
            tuple(values),
        )
        return tuple(Generation(*[*row[:6], tuple(json.loads(row[6])), *row[7:]]) for row in rows)

    # -- trials: the write-ahead intention

    def add_generation(self, generation: Generation) -> None:
        """Write down a release that is about to be sealed; nothing serves it yet."""
        self._run(
            "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) "
            "ON CONFLICT (plugin_id, release) DO UPDATE SET digest = excluded.digest, "
            "repository = excluded.repository, installed_at = excluded.installed_at",
            (
                generation.plugin_id,
                generation.release,
                generation.version,
                generation.stem,
                generation.payload_sha256,
                generation.key_id,
                json.dumps(generation.capabilities),
                generation.digest,
                generation.repository,
                generation.installed_at,
            ),
        )

    def intend(self, generation: Generation, trial: Trial, *, channel: str | None) -> None:
        """Write down that a release is about to go live, in one durable step."""
        with self.transaction():
            self.add_generation(generation)
            self._run(
                "INSERT INTO plugins (plugin_id, repository, channel, projection_due) "
                "VALUES (?, ?, ?, ?) ON CONFLICT (plugin_id) DO UPDATE SET "
                "repository = coalesce(excluded.repository, repository), "
                "channel = excluded.channel, projection_due = CASE projection_due "
                "WHEN 0 THEN excluded.projection_due ELSE projection_due END",
                (generation.plugin_id, generation.repository, channel, _DUE_BY_INTENTION),
            )
            # What serves on trial is about to be left.
            self._run(
                "INSERT OR IGNORE INTO went_live SELECT plugin_id, release FROM trials "
                "WHERE plugin_id = ?",
                (generation.plugin_id,),
            )
            # A release that was live before starts its count anew.
            self._run(
                "DELETE FROM samples WHERE plugin_id = ? AND release = ?",
                (generation.plugin_id, generation.release),
            )
            self._run(
                "INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?)",
                (trial.plugin_id, trial.release, trial.previous, trial.started_at, trial.ends_at),
            )

    def abandon_trial(self, plugin_id: str) -> None:
        """The flip never happened: forget the intention, and that copies were due by it."""
        with self.transaction():
            self._run("DELETE FROM trials WHERE plugin_id = ?", (plugin_id,))
            self._run(
                "UPDATE plugins SET projection_due = 0 WHERE plugin_id = ? AND projection_due = ?",
                (plugin_id, _DUE_BY_INTENTION),
            )

    def is_due(self, plugin_id: str, *, is_void: bool) -> bool:
        """Whether the flat copies must be refreshed.

        Args:
            plugin_id: The plugin.
            is_void: The open intention never came to its flip: copies that were due by it alone
                were not touched, and what lies there may be a drop-in.
        """
        rows = self._run("SELECT projection_due FROM plugins WHERE plugin_id = ?", (plugin_id,))
        due = rows[0][0] if rows else 0
        return bool(due) and not (is_void and due == _DUE_BY_INTENTION)

    def commit(self, generation: Generation, *, floor: str, at: float) -> None:
        """The release is good: the trial ends, the floor rises."""
        trial = self.trial(generation.plugin_id)
        with self.transaction():
            self._run(
                "UPDATE plugins SET good = ?, floor = ? WHERE plugin_id = ?",
                (generation.release, floor, generation.plugin_id),
            )
            self._run(
                "UPDATE generations SET committed_at = ? WHERE plugin_id = ? AND release = ?",
                (at, generation.plugin_id, generation.release),
            )
            self._note_live(generation)
            self._run("DELETE FROM trials WHERE plugin_id = ?", (generation.plugin_id,))
            over = trial.previous if trial else None
            self._tell(generation, "committed", f"floor {floor}", at=at, beside=over)

    def turn_back(
        self,
        rejected: Generation,
        *,
        target: str | None,
        reason: str,
        at: float,
        kind: str = "rolled back",
    ) -> None:
        """Reject what was live and name what serves instead; ``kind``: the history's word."""
        with self.transaction():
            self._tell(rejected, kind, reason, at=at, beside=target)
            self._reject(rejected.plugin_id, rejected.release, rejected.version, reason, at)
            self._note_live(rejected)
            self._run(
                "UPDATE plugins SET good = ?, projection_due = 1 WHERE plugin_id = ?",
                (target, rejected.plugin_id),
            )
            # What was gone back to by name is wanted again, whatever was said of it before.
            self._run(
                "DELETE FROM rejected WHERE plugin_id = ? AND release = ?",
                (rejected.plugin_id, target),
            )
            self._run("DELETE FROM trials WHERE plugin_id = ?", (rejected.plugin_id,))

    def projected(self, plugin_id: str, release: str | None, note: FlatNote | None = None) -> None:
        """The flat copies now hold this release; soon durable: else they are refreshed again.

        ``note`` says how they look.
        """
        with self._soon():
            self._run(
                "UPDATE plugins SET projected = ?, projection_due = 0 WHERE plugin_id = ?",
                (release, plugin_id),
            )
            self._run("DELETE FROM flat_sets WHERE plugin_id = ?", (plugin_id,))
            if note is not None:
                self.note_flat_set(note)

    def project_again(self, plugin_id: str) -> None:
        """The flat copies must be refreshed before they are believed."""
        self._run("UPDATE plugins SET projection_due = 1 WHERE plugin_id = ?", (plugin_id,))

    def _tell(
        self, generation: Generation, kind: str, detail: str, *, at: float, beside: str | None
    ) -> None:
        """Into the history, with what happens itself: who follows it misses nothing by a crash."""
        plugin_id, version, release = generation.plugin_id, generation.version, generation.release
        other = self.generation(plugin_id, beside) if beside else None
        over = other.version if other else None
        self.record(Event(at, plugin_id, kind, version, release, detail, over))

    def renew(self, generation: Generation) -> None:
        """A sealed release was signed anew: its key and digest are these now, its copies due."""
        with self.transaction():
            self._run(
                "UPDATE generations SET key_id = ?, digest = ?, repository = ? "
                "WHERE plugin_id = ? AND release = ?",
                (
                    generation.key_id,
                    generation.digest,
                    generation.repository,
                    generation.plugin_id,
                    generation.release,
                ),
            )
            self.project_again(generation.plugin_id)

    # -- out of service

    def stop(self, plugin_id: str, stop: Stop, event: Event) -> None:
        """Write down that a plugin serves no more, and why, in one durable step."""
        with self.transaction():
            self._run(
                "INSERT INTO plugins (plugin_id, projection_due, stop) VALUES (?, 1, ?) "
                "ON CONFLICT (plugin_id) DO UPDATE SET projection_due = 1, stop = excluded.stop",
                (plugin_id, stop.value),
            )
            self.record(event)

    def stopped(self, plugin_id: str) -> None:
        """A disabled plugin is gone from where hosts look; its trial ended without a verdict."""
        with self.transaction():
            self._run("DELETE FROM trials WHERE plugin_id = ?", (plugin_id,))
            self.projected(plugin_id, None)

    def start(self, plugin_id: str, event: Event) -> None:
        """Write down that a disabled plugin is about to serve again, if anything of it is good."""
        with self.transaction():
            self._run(
                "UPDATE plugins SET stop = NULL, projection_due = good IS NOT NULL "
                "WHERE plugin_id = ?",
                (plugin_id,),
            )
            self.record(event)

    def forget(self, plugin_id: str) -> None:
        """A plugin is removed. Floor, rejections, denials and history outlive it."""
        with self.transaction():
            for table in ("generations", "trials", "samples", "holds", "flat_sets"):
                self._run(f"DELETE FROM {table} WHERE plugin_id = ?", (plugin_id,))  # noqa: S608 - literals above
            self._run("DELETE FROM grants WHERE plugin_id = ? AND granted", (plugin_id,))
            self._run(
                "UPDATE plugins SET good = NULL, repository = NULL, channel = NULL, "
                "projected = NULL, projection_due = 0, stop = NULL WHERE plugin_id = ?",
                (plugin_id,),
            )

    # -- what is not taken again

    def reject(self, plugin_id: str, release: str, version: str, *, reason: str, at: float) -> None:
        """Remember a release that failed, so that it is not offered again unasked."""
        with self.transaction():
            self._reject(plugin_id, release, version, reason, at)

    def _reject(self, plugin_id: str, release: str, version: str, reason: str, at: float) -> None:
        self._run(
            "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?)",
            (plugin_id, release, version, reason, at),
        )

    def absolve(self, generation: Generation) -> None:
        """A rejected release was named, and serves again."""
        self._run(
            "DELETE FROM rejected WHERE plugin_id = ? AND release = ?",
            (generation.plugin_id, generation.release),
        )

    def rejections(self, plugin_id: str) -> dict[str, Rejection]:
        """The rejected releases of a plugin, by release."""
        rows = self._run(
            "SELECT release, version, reason, at FROM rejected WHERE plugin_id = ?", (plugin_id,)
        )
        return {row[0]: Rejection(*row) for row in rows}
