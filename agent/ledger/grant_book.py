"""What was granted and denied by command, and how far: a part of the ledger."""

from agent.ledger.chronicle import Chronicle
from agent.ledger.memory import Decided

_SHARE = 8
"""A process sets aside one part in so many of what is left: others shall find some."""


class GrantBook(Chronicle):
    """``agent grant`` and ``agent deny``, and the calls that are left; see ``Database``."""

    def decided(self, plugin_id: str) -> tuple[Decided, ...]:
        """What ``agent grant`` and ``agent deny`` said of a plugin, by capability."""
        rows = self._run(
            "SELECT capability, granted, at, until, max_calls, calls_left, serial FROM grants "
            "WHERE plugin_id = ? ORDER BY capability",
            (plugin_id,),
        )
        return tuple(Decided(row[0], bool(row[1]), *row[2:]) for row in rows)

    def decide(
        self,
        plugin_id: str,
        capability: str,
        *,
        granted: bool,
        at: float,
        until: float | None = None,
        max_calls: int | None = None,
    ) -> None:
        """Record ``agent grant`` or ``agent deny``; the later takes back the earlier."""
        self._run(
            "INSERT OR REPLACE INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, "
            "CASE WHEN ? THEN lower(hex(randomblob(8))) END)",
            (
                plugin_id,
                capability,
                int(granted),
                at,
                until,
                max_calls,
                max_calls,
                (until, max_calls) != (None, None),
            ),
        )

    def decisions(self, plugin_id: str, *, at: float | None = None) -> dict[str, bool]:
        """Capability → granted (True) or denied (False).

        Args:
            plugin_id: The plugin.
            at: Leave out the grants that are over by then, or used up; None = none of them.
        """
        found = self.decided(plugin_id)
        return {d.capability: d.granted for d in found if at is None or d.is_in_force(at)}

    def set_aside(self, plugin_id: str, capability: str, serial: str, *, most: int) -> int:
        """Take some calls of a counted grant for one process; durable before it counts.

        Args:
            plugin_id: The plugin.
            capability: The word.
            serial: Of the grant: another one has its own calls.
            most: So many at most, and no more than an eighth of what is left, rounded up.

        Returns:
            How many; 0 where none is left, or the grant is not there any more.
        """
        with self.transaction():
            rows = self._run(
                "SELECT calls_left FROM grants WHERE plugin_id = ? AND capability = ? "
                "AND serial = ?",
                (plugin_id, capability, serial),
            )
            left = rows[0][0] if rows else 0
            taken = min(-(-left // _SHARE), most)
            if taken:
                self._add_calls(plugin_id, capability, serial, -taken)
        return taken

    def give_back(self, plugin_id: str, capability: str, serial: str, calls: int) -> None:
        """Give back what was set aside and not used."""
        with self.transaction():
            self._add_calls(plugin_id, capability, serial, calls)

    def _add_calls(self, plugin_id: str, capability: str, serial: str, calls: int) -> None:
        self._run(
            "UPDATE grants SET calls_left = calls_left + ? WHERE plugin_id = ? "
            "AND capability = ? AND serial = ?",
            (calls, plugin_id, capability, serial),
        )
