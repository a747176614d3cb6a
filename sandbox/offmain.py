"""Guest calls of the main thread run on another one: Ctrl-C is raised in the main thread.

An exception that is raised while native code is on the stack can take the process down.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


class OffMain:
    """Runs guest calls: those of the main thread elsewhere, all others where they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def run(self, call: Callable[[], T], *, stop: Callable[[], None]) -> T:
        """Run a call and return what it returns.

        Args:
            call: Runs the guest.
            stop: Ends the guest; called when the wait for it is interrupted.

        Raises:
            KeyboardInterrupt: Ctrl-C came meanwhile; the guest has ended.
            BaseException: Whatever ``call`` raises.
        """
        if threading.current_thread() is not threading.main_thread():
            return call()
        begun, ended = threading.Event(), threading.Event()

        def work() -> T:
            begun.set()
            try:
                return call()
            finally:
                ended.set()

        try:
            # what the caller is in, such as a span, holds for callbacks of the call too
            future = self._open().submit(contextvars.copy_context().run, work)
            wait([future])
        except BaseException:
            stopped = False
            # Also where it came while the call was handed over: a call that has yet to begin
            # finds that it was stopped. A second Ctrl-C must not leave a guest behind either.
            while not stopped or (begun.is_set() and not ended.is_set()):
                with contextlib.suppress(KeyboardInterrupt):
                    stop()
                    stopped = True
                    if begun.is_set():
                        ended.wait()
            raise
        return future.result()

    def close(self) -> None:
        """Let the thread end."""
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
                self._executor = None

    def _open(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                # one thread: there is one main thread to wait for it
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="sandbox-guest")
            return self._executor
