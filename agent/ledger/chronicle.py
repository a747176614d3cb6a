"""What happened to plugins, in order, and how far each reader of it has come."""

from dataclasses import astuple

from agent.ledger.database import Database
from agent.model import Event


class Chronicle(Database):
    """The history; its numbers only rise, in a ledger made anew too. See ``Database``."""

    def record(self, event: Event) -> None:
        """Append to the history; soon durable, like the audit log's line on the same at once."""
        self._run_soon(
            "INSERT INTO history (at, plugin_id, kind, version, release, detail, beside) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            astuple(event),
        )

    def history(self, plugin_id: str, *, limit: int = 1000) -> tuple[Event, ...]:
        """The latest events of a plugin, oldest first."""
        rows = self._run(
            "SELECT at, plugin_id, kind, version, release, detail, beside FROM history "
            "WHERE plugin_id = ? ORDER BY number DESC LIMIT ?",
            (plugin_id, limit),
        )
        return tuple(Event(*row) for row in reversed(rows))

    def newest_number(self) -> int:
        """The number of the event that was recorded last; that of none where none was."""
        return int(self._run("SELECT seq FROM sqlite_sequence WHERE name = 'history'")[0][0])

    def history_after(self, number: int, limit: int) -> tuple[tuple[int, Event], ...]:
        """The events of all plugins that follow a number, each with its own, oldest first."""
        rows = self._run(
            "SELECT number, at, plugin_id, kind, version, release, detail, beside FROM history "
            "WHERE number > ? ORDER BY number LIMIT ?",
            (number, limit),
        )
        return tuple((row[0], Event(*row[1:])) for row in rows)

    def was_recorded(self, plugin_id: str, kind: str, release: str | None) -> bool:
        """Whether something happened to a release of a plugin before."""
        rows = self._run(
            "SELECT 1 FROM history WHERE plugin_id = ? AND kind = ? AND release IS ? LIMIT 1",
            (plugin_id, kind, release),
        )
        return bool(rows)

    # -- readers

    def cursor(self, reader: str) -> int | None:
        """The number of the last event that a reader is done with; None before the first."""
        rows = self._run("SELECT number FROM cursors WHERE reader = ?", (reader,))
        return int(rows[0][0]) if rows else None

    def move_cursor(self, reader: str, number: int) -> None:
        """A reader is done with this event and all before; soon durable: it may see one again."""
        self._run_soon("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (reader, number))
