"""Takes what happens to plugins one by one, each at least once, also across restarts.

How far it came is in the ledger, so that with an older ledger that is put back it goes on from
where that one was.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto

from agent.context import Context
from agent.errors import AgentError, in_words
from agent.service.feed import Feed, Happening

_LOG = logging.getLogger("stack_composer.hooks")
_AT_ONCE = 16
_LOOK_EVERY_S = 0.5
_LAST_S = 5.0
"""For what was told to end: a command has two seconds for it."""


class Took(Enum):
    """What became of one happening."""

    DONE = auto()
    AGAIN = auto()
    """It failed, and may be tried again."""
    OVER = auto()
    """It failed, and always would."""


Take = Callable[[Context, Happening, int], Took]
"""Takes one happening; the descriptor can be read once it should come to an end."""


class Follower:
    """Follows the feed in a thread of its own.

    Args:
        reader: Its name in the ledger.
        context_of: The installation as it is now.
        feed: What happens.
        take: Takes each happening; says itself why it could not.
        pauses_s: Before each further attempt; after the last one it is passed over.
    """

    def __init__(
        self,
        reader: str,
        context_of: Callable[[], Context],
        feed: Feed,
        take: Take,
        *,
        pauses_s: Sequence[float],
    ) -> None:
        self._reader = reader
        self._context_of = context_of
        self._feed = feed
        self._take = take
        self._pauses_s = pauses_s
        self._number: int | None = None
        self._told: str | None = None
        self._stopping = threading.Event()
        self._given_up, self._give_up = os.pipe()
        self._thread = threading.Thread(target=self._follow, name=reader, daemon=True)

    def start(self) -> None:
        """Go on from where it was; the first time from here on."""
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping.set()

    def close(self, timeout_s: float) -> None:
        """Wait for what is under way, then end it: it is done again the next time."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        os.close(self._give_up)  # its other end can be read from now on
        if self._thread.ident is not None:
            self._thread.join(_LAST_S)
        if not self._thread.is_alive():
            os.close(self._given_up)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            number = self._begin()
            try:
                batch = () if number is None else self._feed.after(number, _AT_ONCE)
            except (sqlite3.Error, OSError, AgentError) as error:
                self._tell("cannot read what happened", error)
                batch = ()
            for happening in batch:
                if self._stopping.is_set() or not self._has_taken(happening):
                    return
                self._move(happening.number)
            if number is None:
                self._stopping.wait(_LOOK_EVERY_S)
            elif not batch:
                self._feed.wait(number, _LOOK_EVERY_S)

    def _begin(self) -> int | None:
        """The number to go on from; None while the ledger can't be read."""
        if self._number is None:
            try:
                ledger = self._context_of().ledger
                number = ledger.cursor(self._reader)
                self._number = ledger.newest_number() if number is None else number
            except (sqlite3.Error, OSError, AgentError) as error:
                self._tell("cannot read what happened", error)
                return None
            if number is None:
                self._move(self._number)
        return self._number

    def _has_taken(self, happening: Happening) -> bool:
        """Take one, or pass it over; False where it has to be done again the next time."""
        for pause_s in (*self._pauses_s, None):
            took = self._take(self._context_of(), happening, self._given_up)
            if took is Took.DONE:
                return True
            if took is Took.AGAIN and self._stopping.is_set():
                return False
            if took is Took.OVER or pause_s is None:
                break
            if self._stopping.wait(pause_s):
                return False
        event = happening.event
        _LOG.warning("%s: passed over %r of %s", self._reader, event.kind, event.plugin_id)
        return True

    def _move(self, number: int) -> None:
        """Keep where it is; where that can't be written it may see something once more."""
        self._number = number
        try:
            ledger = self._context_of().ledger
            with ledger.impatient():  # hosts use it, too
                ledger.move_cursor(self._reader, number)
        except (sqlite3.Error, OSError, AgentError) as error:
            self._tell("cannot keep how far it came", error)

    def _tell(self, what: str, error: Exception) -> None:
        why = in_words(error)
        if why != self._told:
            self._told = why
            _LOG.warning("%s: %s: %s; going on", self._reader, what, why)
