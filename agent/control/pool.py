"""Threads for what blocks: few, a bounded queue before them, one hand-over each way.

anyio's threads and the standard executor cost a call 40 to 80 µs more (``benchmarks/control.py``
holds the whole), and neither bounds what waits.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.errors import BusyError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    answer: "asyncio.Future[Any]"
    begin_by: float


class Pool:
    """Runs blocking work for one event loop.

    Args:
        name: Of its threads.
        threads: How much runs at once.
        most: How much may run or wait; half of it of who is neither owner nor root.
        patience_s: How long work may wait for a thread.

    Attributes:
        name: The same.
    """

    def __init__(self, name: str, *, threads: int, most: int, patience_s: float) -> None:
        self.name = name
        self._most_threads = threads
        self._most = most
        self._patience_s = patience_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._open = 0

    async def run(self, work: Callable[[], T], *, is_owner: bool) -> T:
        """Run it on a thread; on the event loop's thread only.

        Args:
            work: It.
            is_owner: Whether the owner or root asks.

        Raises:
            BusyError: Too much waits already, or it waited too long.
        """
        if self._open >= (self._most if is_owner else self._most // 2):
            raise self._busy()
        self._open += 1
        if len(self._threads) < min(self._open, self._most_threads):
            thread = threading.Thread(
                target=self._serve,
                args=(asyncio.get_running_loop(),),
                name=f"{self.name}-{len(self._threads)}",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, answer, time.monotonic() + self._patience_s))
        return await answer

    def close(self, timeout_s: float) -> bool:
        """Let the threads end; whether all have within the time."""
        end = time.monotonic() + timeout_s
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            try:
                result = self._done(job)
            except Exception as failed:  # noqa: BLE001 - told to who waits
                error = failed
            except BaseException as stop:  # noqa: BLE001 - a host function's own; it ends the call, not the service
                error = RuntimeError(f"the work was stopped by {type(stop).__name__}")
            try:
                loop.call_soon_threadsafe(self._end, job.answer, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits
            # What a call leaves must not live until the next one.
            del job, result, error

    def _done(self, job: _Job) -> object:
        if time.monotonic() > job.begin_by:
            raise self._busy()
        return job.work()

    def _end(self, answer: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
        self._open -= 1
        if answer.done():
            return  # who asked has gone
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def _busy(self) -> BusyError:
        return BusyError(
            f"cannot answer now: {self._most_threads} requests of this kind run, and as many wait "
            "as may",
            hint="try again; control.max_calls is how many calls may run at once",
        )
