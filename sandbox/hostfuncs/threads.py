"""Threads that run an application's functions: a call can stop waiting, a thread can't be killed.

They are daemons, so that a function that never returns does not keep the process from its end.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue

from sandbox.context import CallContext

_LOG = logging.getLogger("stack_composer.sandbox")

_MOST_IDLE = 8
MOST_OVERDUE = 16
"""Of each function: with so many calls that nobody waits for any more it is taken to hang."""


class Errand:
    """One run of a function.

    Attributes:
        ended: It has; ``text`` or ``error`` says how.
        text: What it returned.
        error: What it raised.
    """

    __slots__ = ("abandoned", "ended", "error", "name", "text", "wake", "work")

    def __init__(self, name: str, work: Callable[[], str]) -> None:
        self.name = name
        self.work = work
        self.wake = threading.Event()
        self.ended = self.abandoned = False
        self.text = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work; nothing that it raises ends the thread."""
        try:
            self.text = self.work()
        except BaseException as error:  # noqa: BLE001  # told to whoever waits
            self.error = error


class Threads:
    """Lends threads, and keeps a few that are idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Errand | None]] = []
        self._overdue: Counter[str] = Counter()
        self._closed = False

    def run(
        self, context: CallContext, name: str, work: Callable[[], str], timeout_s: float | None
    ) -> Errand | None:
        """Run a function and wait, at most until the call's deadline.

        Args:
            context: The call.
            name: The function's.
            work: Calls it.
            timeout_s: How long to wait at most; None = as long as the call may take.

        Returns:
            The errand, which has not ended where ``timeout_s`` was over first; None where too
            many earlier calls of the function hang.

        Raises:
            StopCallError: The call's deadline came first, or its caller stopped waiting.
        """
        errand = Errand(name, work)
        with self._lock:
            if self._overdue[name] >= MOST_OVERDUE:
                return None
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(
                target=self._serve, args=(inbox,), name="sandbox-host-function", daemon=True
            ).start()
        inbox.put(errand)
        try:
            context.wait_for(errand.wake, timeout_s)
        finally:
            self._leave(errand, context)
        return errand

    def close(self) -> None:
        """Let the threads end, those in a function when it returns."""
        with self._lock:
            self._closed = True
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()

    def _leave(self, errand: Errand, context: CallContext) -> None:
        with self._lock:
            if errand.ended:
                return
            errand.abandoned = True
            self._overdue[errand.name] += 1
            hanging = self._overdue[errand.name]
        if context.tell_once(errand.name):
            _LOG.warning(
                "the host function %s has not returned in time for %s; %d of its calls still "
                "run, from %d on it is not called any more",
                errand.name,
                context.plugin_id,
                hanging,
                MOST_OVERDUE,
            )

    def _serve(self, inbox: "SimpleQueue[Errand | None]") -> None:
        while (errand := inbox.get()) is not None:
            errand.run()
            with self._lock:
                errand.ended = True
                if errand.abandoned:
                    self._overdue[errand.name] -= 1
            errand.wake.set()
            if errand.abandoned and errand.error is not None:
                kind = type(errand.error).__name__
                _LOG.warning("the host function %s failed when it was late: %s", errand.name, kind)
            del errand  # an idle thread keeps nobody's arguments alive
            with self._lock:
                if self._closed or len(self._idle) >= _MOST_IDLE:
                    return
                self._idle.append(inbox)
