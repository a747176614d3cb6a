"""Where calls run: a fresh instance each, or one that is kept between them."""

import threading
from collections.abc import Callable
from typing import Protocol

from sandbox.call import run_call
from sandbox.context import CallContext
from sandbox.deadline import Watchdog
from sandbox.guest import Guest
from sandbox.result import CallResult, Value
from sandbox.worker import Worker, WorkerPool

Enter = Callable[[Guest], Value]
"""What a call does with its guest."""


class Instances(Protocol):
    """Runs calls of one plugin."""

    def run(self, context: CallContext, enter: Enter) -> CallResult:
        """Run one call; raises as ``run_call`` does."""

    def warm(self) -> None:
        """Have a worker ready; raises as ``Worker`` does."""

    def rehearse(self, context: CallContext) -> None:
        """The same, and make an instance in it that no call gets; raises as ``run_call`` does."""

    def close(self) -> None:
        """Let go of what no call uses; what runs is let go of at its end."""


class FreshInstances:
    """One new instance per call, in a store that goes with it."""

    def __init__(self, make_worker: Callable[[], Worker], watchdog: Watchdog) -> None:
        self._pool = WorkerPool(make_worker)
        self._watchdog = watchdog

    def run(self, context: CallContext, enter: Enter) -> CallResult:
        """Run one call in a new instance; raises as ``run_call`` does."""
        worker = self._pool.take()
        try:
            store = worker.new_store(context)
            try:
                return run_call(
                    context,
                    worker,
                    store,
                    self._watchdog,
                    lambda: enter(Guest.open(store, context)),
                )
            finally:
                worker.end(store)
        finally:
            self._pool.give_back(worker)

    def warm(self) -> None:
        """Have a worker ready; raises as ``Worker`` does."""
        self._pool.give_back(self._pool.take())

    def rehearse(self, context: CallContext) -> None:
        """The same, and make an instance in it that no call gets; raises as ``run_call`` does."""
        worker = self._pool.take()
        _rehearse(context, worker, self._watchdog)
        self._pool.give_back(worker)

    def close(self) -> None:
        """Drop the idle workers."""
        self._pool.close()


class KeptInstance:
    """One instance whose state lives on from call to call, until one of them fails."""

    def __init__(self, make_worker: Callable[[], Worker], watchdog: Watchdog) -> None:
        self._make_worker = make_worker
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._ready: Worker | None = None
        self._kept: tuple[Worker, Guest] | None = None
        self._closed = False

    def run(self, context: CallContext, enter: Enter) -> CallResult:
        """Run one call when the others are done; raises as ``run_call`` does.

        Raises:
            DeadlineExceeded: The others took all of this call's time.
        """
        if not self._lock.acquire(timeout=context.remaining_s):
            error = context.overdue()
            error.plugin_id = context.plugin_id
            raise error
        try:
            return self._run(context, enter)
        finally:
            self._lock.release()
            if self._closed:
                self.close()

    def warm(self) -> None:
        """Have the worker of the first call ready; raises as ``Worker`` does."""
        self._ready = self._make_worker()

    def rehearse(self, context: CallContext) -> None:
        """The same, and make an instance in it that no call gets; raises as ``run_call`` does."""
        worker = self._make_worker()
        _rehearse(context, worker, self._watchdog)
        self._ready = worker

    def close(self) -> None:
        """Drop the instance, unless a call is in it: then that call does when it ends."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._discard()
            finally:
                self._lock.release()

    def _run(self, context: CallContext, enter: Enter) -> CallResult:
        if self._kept is not None and not self._kept[0].suits(context):
            self._discard()
        worker, guest = self._kept or (self._ready or self._make_worker(), None)
        self._ready = None
        store = guest.store if guest else worker.new_store(context)

        def body() -> Value:
            nonlocal guest
            if guest is None:
                guest = Guest.open(store, context)
            return enter(guest)

        try:
            result = run_call(context, worker, store, self._watchdog, body)
        except BaseException:
            # its state is arbitrary now
            self._kept = None
            worker.end(store)
            raise
        if guest is not None:
            self._kept = (worker, guest)
        return result

    def _discard(self) -> None:
        self._ready = None
        if self._kept is not None:
            worker, guest = self._kept
            worker.end(guest.store)
            self._kept = None


def _rehearse(context: CallContext, worker: Worker, watchdog: Watchdog) -> None:
    if worker.starts:
        return  # an instance would run the guest's code, for which nobody asked
    store = worker.new_store(context)
    try:
        run_call(context, worker, store, watchdog, store.start)
    finally:
        worker.end(store)
