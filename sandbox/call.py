"""One call under every limit: arm, run, disarm, and tell how it ended."""

import time
from collections.abc import Callable

from wasmtime import TrapCode

from sandbox.cell import Cell
from sandbox.context import CallContext
from sandbox.deadline import Watchdog
from sandbox.ending import ending, trap_code
from sandbox.errors import CallError, CallStats, SandboxError
from sandbox.result import CallResult, Value
from sandbox.worker import Worker


def run_call(
    context: CallContext,
    worker: Worker,
    store: Cell,
    watchdog: Watchdog,
    body: Callable[[], Value],
) -> CallResult:
    """Run guest code in a store, with fuel and a deadline.

    Args:
        context: The call.
        worker: Whose engine the store is in.
        store: Where the guest is or will be.
        watchdog: Interrupts the engine at the deadline.
        body: Enters the guest and returns the result.

    Returns:
        The result, with what it used.

    Raises:
        CallError: The guest did not succeed; with what it used.
        SandboxError: A function or memory it needs is missing.
        BaseException: What a callback of the host raised, as it is.
    """
    context.store = store
    context.engine = worker.engine
    context.environment, context.folder = worker.environment, worker.folder
    worker.seat.context = context
    store.set_fuel(context.limits.fuel_units)
    value: Value = None
    raised: BaseException | None = None
    watchdog.arm(worker.engine, context.deadline_s)
    try:
        if context.cancelled:
            watchdog.interrupt(worker.engine)
        value = body()
    except BaseException as error:  # noqa: BLE001  # judged below, together with the context
        raised = error
    finally:
        seen = trap_code(raised) == TrapCode.INTERRUPT.name
        if watchdog.disarm(worker.engine, was_interrupted=seen):
            worker.retire()
        worker.seat.context = None
    cause = ending(context, raised)
    left = store.get_fuel() if context.fuel_left is None else context.fuel_left
    used = context.limits.fuel_units - left
    peak_bytes = store.peak_bytes()
    took_ms = (time.monotonic() - context.started_s) * 1000
    context.log.flush()
    context.store = context.engine = None
    if cause is None:
        stderr = context.stderr.decode("utf-8", "replace")
        return CallResult(value, used, peak_bytes, took_ms, stderr)
    if isinstance(cause, SandboxError):
        cause.plugin_id = context.plugin_id
    if isinstance(cause, CallError):
        cause.stats = CallStats(used, peak_bytes, took_ms)
    if cause is raised:
        raise cause
    raise cause from raised
