"""What happens to plugins, whoever does it: the service, a command, or an application.

The ledger's history is read on by its numbers. So nothing is queued for anybody: who follows
remembers a number, and comes back with it, after a restart too.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.context import Context
from agent.errors import AgentError, in_words
from agent.model import Event

_LOG = logging.getLogger("stack_composer.service")


@dataclass(frozen=True, slots=True)
class Happening:
    """One event; its number is higher than that of any before."""

    number: int
    event: Event


class Feed:
    """Follows the ledger of the config in force; all methods may be called from any thread.

    A number that is higher than any in the ledger was given out by one that is gone: an older
    copy was put back. Who comes with it goes on with what was recorded since that one was met;
    what it holds of before was told already.

    Args:
        context_of: The installation as it is now. Whoever runs it lets go of a ledger that was
            replaced (``Context.let_go_of_replaced``).
    """

    def __init__(self, context_of: Callable[[], Context]) -> None:
        self._context_of = context_of
        self._last: int | None = None
        self._met = 0
        self._told: str | None = None
        self._reading = threading.Lock()
        self._moved = threading.Condition()

    def poll(self) -> None:
        """Look whether anything happened, and wake who waits; never raises for a ledger's fault.

        One that can't be read is told once, and looked at again the next time.
        """
        try:
            with self._reading:
                self._learn(self._context_of().ledger.newest_number())
        except (sqlite3.Error, OSError, AgentError) as error:
            why = in_words(error)
            if why != self._told:
                self._told = why
                _LOG.warning("cannot follow what happens to plugins: %s; trying again", why)
        else:
            self._told = None

    def last(self) -> int:
        """The newest number known; 0 before the first look."""
        with self._moved:
            return self._last or 0

    def after(self, number: int, limit: int) -> tuple[Happening, ...]:
        """What happened after a number, oldest first.

        Args:
            number: Of the event that was read last; 0 = from the beginning.
            limit: So many at most.

        Raises:
            AgentError, OSError, sqlite3.Error: The ledger can't be read.
        """
        with self._reading:
            ledger = self._context_of().ledger
            self._learn(ledger.newest_number())
            found = ledger.history_after(self._place(number), limit)
            if found:  # some may be newer than the look before
                self._learn(max(found[-1][0], self.last()))
        return tuple(Happening(*one) for one in found)

    def wait(self, number: int, timeout_s: float) -> bool:
        """Wait until something newer than a number is known; whether there is.

        Args:
            number: As of ``after``.
            timeout_s: How long at most.
        """
        with self._moved:
            return self._moved.wait_for(lambda: self._is_newer_than(number), timeout_s)

    def _learn(self, newest: int) -> None:
        with self._moved:
            if self._last is None or newest < self._last:
                self._met = newest
            if newest != self._last:
                self._last = newest
                self._moved.notify_all()

    def _place(self, number: int) -> int:
        """Where who comes with a number goes on."""
        with self._moved:
            return max(number, 0) if number <= (self._last or 0) else self._met

    def _is_newer_than(self, number: int) -> bool:
        return self._last is not None and self._last > self._place(number)
