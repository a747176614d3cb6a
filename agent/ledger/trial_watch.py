"""Open trials, and how often a service died while it ran one: a part of the ledger."""

from agent.ledger.observations import Observations
from agent.model import Generation, Trial


class TrialWatch(Observations):
    """Armed while a service runs a release on trial; see ``Database`` for errors."""

    def trial(self, plugin_id: str) -> Trial | None:
        """The open trial of a plugin."""
        rows = self._run(
            "SELECT plugin_id, release, previous, started_at, ends_at FROM trials "
            "WHERE plugin_id = ?",
            (plugin_id,),
        )
        return Trial(*rows[0]) if rows else None

    def trials(self) -> tuple[Trial, ...]:
        """All open trials."""
        rows = self._run("SELECT plugin_id, release, previous, started_at, ends_at FROM trials")
        return tuple(Trial(*row) for row in rows)

    def went_live(self, plugin_id: str, release: str) -> bool:
        """Whether a sealed release has served, and was left or committed: copies may lie about."""
        rows = self._run(
            "SELECT 1 FROM went_live JOIN generations USING (plugin_id, release) "
            "WHERE plugin_id = ? AND release = ?",
            (plugin_id, release),
        )
        return bool(rows)

    def _note_live(self, generation: Generation) -> None:
        self._run(
            "INSERT OR IGNORE INTO went_live VALUES (?, ?)",
            (generation.plugin_id, generation.release),
        )

    def arm_trial(self, plugin_id: str) -> None:
        """Note, durably, that the service is about to run the release on trial, if one is."""
        rows = self._run(
            "SELECT 1 FROM trials LEFT JOIN watched_trials USING (plugin_id, release) "
            "WHERE plugin_id = ? AND coalesce(is_armed, 0) = 0",
            (plugin_id,),
        )
        if rows:
            self._run(
                "INSERT INTO watched_trials "
                "SELECT plugin_id, release, 0, 1 FROM trials WHERE plugin_id = ? "
                "ON CONFLICT DO UPDATE SET is_armed = 1",
                (plugin_id,),
            )

    def disarm_trials(self) -> None:
        """The service ends in good order: whatever is on trial did not end it."""
        self._run("UPDATE watched_trials SET is_armed = 0 WHERE is_armed")

    def count_deaths(self) -> dict[str, int]:
        """A service begins: count the death of one that did not end in good order.

        Returns:
            Plugin → how often a service died while it ran the release that is on trial still.
        """
        with self.transaction():
            self._run(
                "DELETE FROM watched_trials WHERE (plugin_id, release) NOT IN "
                "(SELECT plugin_id, release FROM trials)"
            )
            self._run("UPDATE watched_trials SET deaths = deaths + 1, is_armed = 0 WHERE is_armed")
            return dict(self._run("SELECT plugin_id, deaths FROM watched_trials WHERE deaths"))
