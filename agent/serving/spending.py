"""The calls that counted grants are good for: set aside from the ledger, spent in memory.

A process takes a part of what is left in one transaction and gives back the rest when it lets
go of the plugin. What it holds when it dies is lost: never is more spent than was granted.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.errors import AgentError, BusyError, translated
from agent.ledger.memory import Decided
from agent.tree.remembering import refuse_behind, remembering
from sandbox.allowance import used_up

if TYPE_CHECKING:
    from agent.context import Context

_LOCK_S = 0.2
_MOST_HELD = 64
"""What a process that dies takes along, of each counted grant, at most."""
_ASK_AGAIN_AFTER_S = 1.0


class Purse:
    """What one load of a plugin may spend; from any thread.

    Args:
        context: The installation.
        plugin_id: The plugin.
        counted: Its counted grants, by capability.
    """

    def __init__(self, context: "Context", plugin_id: str, counted: Mapping[str, Decided]) -> None:
        self._context = context
        self._plugin_id = plugin_id
        self._counted = counted
        self._lock = threading.Lock()
        self._held = dict.fromkeys(counted, 0)
        self._refused: dict[str, tuple[float, str]] = {}
        self._closed = False

    def spend(self, capability: str) -> str | None:
        """Count one call; None, or why it can't be."""
        with self._lock:
            if not self._held[capability]:
                refused = self._refused.get(capability)
                if refused is not None and time.monotonic() < refused[0]:
                    return refused[1]
                reason = self._fill(capability)
                if reason is not None:
                    self._refused[capability] = (time.monotonic() + _ASK_AGAIN_AFTER_S, reason)
                    return reason
            self._held[capability] -= 1
        return None

    def close(self) -> None:
        """Give back what was set aside; what still runs is counted one by one."""
        with self._lock:
            self._closed = True
            for capability, calls in self._held.items():
                if calls:
                    self._held[capability] = 0
                    self._give_back(capability, calls)

    def _fill(self, capability: str) -> str | None:
        """Set calls aside; why not, where there are none to have."""
        grant, taken = self._counted[capability], 0

        def take() -> None:
            nonlocal taken
            taken = self._context.ledger.set_aside(
                self._plugin_id,
                capability,
                grant.serial or "",
                most=1 if self._closed else _MOST_HELD,
            )

        try:
            self._change(take)
        except Exception as error:
            cause = translated(error)
            if cause is None:
                raise
            return f"its calls can't be counted: {cause.message}"
        self._held[capability] = taken
        return None if taken else used_up(grant.max_calls or 0)

    def _give_back(self, capability: str, calls: int) -> None:
        serial = self._counted[capability].serial or ""
        try:
            self._change(
                lambda: self._context.ledger.give_back(self._plugin_id, capability, serial, calls)
            )
        except Exception as error:
            if translated(error) is None:
                raise
            # They are lost, as those of a process that dies.

    def _change(self, step: Callable[[], None]) -> None:
        """Change the count in the ledger and beside it.

        Where another agent is at the tree, the ledger alone: what lies beside it follows with
        the next change.

        Raises:
            AgentError, OSError, sqlite3.Error: It can't be changed here.
        """
        context = self._context
        context.let_go_of_replaced()
        problem: AgentError | None = context.stranger()
        if problem is not None:
            raise problem
        try:
            with (
                context.tree.lock(timeout_s=_LOCK_S),
                remembering(context.ledger, context.tree, self._plugin_id),
            ):
                step()
        except BusyError:
            refuse_behind(context.ledger, context.tree, self._plugin_id)
            step()
