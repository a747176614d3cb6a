"""Runs calls in a child process: one channel a call, its guest's words heard on this side."""

import contextlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.code import Code
from sandbox.context import Ask, CallContext, StopCallError
from sandbox.errors import CallError, CallStats, MemoryExceeded, PluginPanic
from sandbox.hostfuncs.links import Answer, Bound
from sandbox.isolate import messages
from sandbox.isolate.agreed import arguments_of, require_result
from sandbox.isolate.child import Child, Folder, Kept
from sandbox.isolate.crashes import how_it_ended
from sandbox.isolate.idle import IdleWatch
from sandbox.isolate.keeper import Keeper
from sandbox.isolate.messages import Asked, Call, Ended, Said, Uses
from sandbox.isolate.nursery import Nursery
from sandbox.isolate.orders import Orders
from sandbox.isolate.wire import Channel, ChannelClosedError, Frame, FrameError
from sandbox.log import CallLog, LogRecord
from sandbox.offmain import OffMain
from sandbox.result import CallResult
from sandbox.runner import Request

GRACE_S = 1.0
"""Past its deadline a child has this long to say that the call is over; then it is killed."""

_ATTEMPTS = 3
_OVERHEAD_BYTES = 65_536
_LARGEST_FRAME_BYTES = 2**31
_MOST_ESCAPED = 16
"""Bytes of a log record as it crosses, for each byte of the budget."""


class ProcessRunner:
    """Runs the calls of one plugin in a child process of its own.

    Args:
        orders: What the child is told.
        code: The compiled module, whose file the child is given.
        data_dir: What the plugin sees of the disk; None = nothing.
        ask: Whether a call may use a capability whose grant has an end.
        nursery: Forks the child.
        off_main: Keeps the waiting off the main thread, where Ctrl-C lands.
        idle: Stops the child when nobody calls, and keeps one ahead.
        answer: Runs a function of the application.
        on_log: Takes the plugin's log records, on the thread of the call.
        on_loop: Told once, when the child crashed too often to be started again.
    """

    def __init__(
        self,
        orders: Orders,
        code: Code,
        data_dir: Path | None,
        ask: Ask,
        *,
        nursery: Nursery,
        off_main: OffMain,
        idle: IdleWatch,
        answer: Answer,
        on_log: Callable[[LogRecord], None],
        on_loop: Callable[[str], None],
    ) -> None:
        self._token = token = orders.token
        self._bounded, self._ask = token.bounded, ask
        self._stem = orders.stem
        self._nursery = nursery
        self._off_main = off_main
        self._answer = answer
        self._on_log = on_log
        self._bound = {k.name: k for k in orders.links.values() if isinstance(k, Bound)}
        longest = min(token.limits.output_bytes, _LARGEST_FRAME_BYTES) + token.limits.log_bytes
        if self._bound:
            longest += token.limits.mem_bytes
        self._longest = min(longest + _OVERHEAD_BYTES, _LARGEST_FRAME_BYTES)
        self._numbers = itertools.count(1)

        def make_child(folder: Folder | None, deadline_s: float, *, ahead: bool) -> Child:
            return Child(nursery, code, folder, orders, deadline_s, ahead=ahead)

        self.keeper = Keeper(
            token.plugin_id,
            make_child,
            data_dir,
            idle,
            on_loop,
        )

    def run(self, request: Request) -> CallResult:
        """Run one call; raises as ``Runner.run`` does."""
        token = self._token
        self._nursery.wait_until_ready()  # a call's time begins then
        context = CallContext(
            plugin_id=token.plugin_id,
            func=request.func,
            limits=token.limits,
            allowed=token.capabilities,
            argv=(self._stem,),
            log=CallLog(token.plugin_id, 0, self._on_log),
            is_command=False,
            own_limits=token.own_limits,
            bounded=self._bounded,
            ask=self._ask,
        )
        running: list[tuple[Child, int]] = []

        def stop() -> None:
            context.cancel()
            for child, number in running:
                child.stop(number)

        try:
            ended = self._off_main.run(lambda: self._run(context, request, running), stop=stop)
            return _result(context, ended)
        except CallError as error:
            error.plugin_id = token.plugin_id
            if not error.stats.took_ms:  # the child told of no end
                error.stats = CallStats(took_ms=_took_ms(context))
            raise

    def close(self) -> None:
        """Take no more calls; the child goes now, or with its last call."""
        self.keeper.close()

    def _run(
        self, context: CallContext, request: Request, running: list[tuple[Child, int]]
    ) -> Ended:
        if sum(len(text) for text in request.args if isinstance(text, bytes)) > (
            context.limits.mem_bytes
        ):
            raise MemoryExceeded(
                f"cannot call {context.func}: its arguments are longer than its "
                f"{context.limits.mem_bytes} bytes; raise limits.mem_bytes"
            )
        lost: list[Callable[[], object]] = []
        try:
            return self._try(context, request, running, lost)
        finally:
            for bury in lost:
                bury()

    def _try(
        self,
        context: CallContext,
        request: Request,
        running: list[tuple[Child, int]],
        lost: list[Callable[[], object]],
    ) -> Ended:
        while True:
            try:
                kept, channel = self.keeper.lend(context.deadline_s)
            except TimeoutError:
                raise context.overdue() from None
            number = next(self._numbers)
            running[:] = [(kept.child, number)]
            is_usable = False
            try:
                if context.cancelled:
                    raise context.overdue()
                ended = self._converse(context, request, kept.child, channel, number)
                is_usable = channel.is_quiet
                return ended
            except _NotDeliveredError:  # it died before it had the call
                lost.append(self.keeper.lost(kept))
                if len(lost) == _ATTEMPTS:
                    raise self._panic(context, kept) from None
            except TimeoutError:
                self.keeper.crashed(kept)
                raise context.overdue() from None
            except (ChannelClosedError, FrameError) as error:
                raise self._panic(context, kept) from error
            finally:
                self.keeper.give_back(kept, channel, is_usable=is_usable)

    def _converse(
        self, context: CallContext, request: Request, child: Child, channel: Channel, number: int
    ) -> Ended:
        call = Call(
            number=number,
            started_s=context.started_s,
            func=request.func,
            enters=request.signature is not None,
            throw_away=request.throw_away,
            args=request.args,
        )
        until_s = context.deadline_s + GRACE_S
        left_bytes = _MOST_ESCAPED * (context.limits.log_bytes + _OVERHEAD_BYTES)
        try:
            channel.send(*call.frame(), deadline_s=until_s)
            frame = channel.receive(self._longest, deadline_s=until_s)
        except ChannelClosedError as error:
            if error.is_unread:
                raise _NotDeliveredError from error
            raise
        while True:
            came_s = time.monotonic()
            told = messages.read_told(frame)
            if isinstance(told, Ended):
                if told.result is not None:
                    require_result(told.result.value, request.signature)
                return told
            if isinstance(told, Said):
                left_bytes -= len(told.message) + 1
                if left_bytes < 0:
                    raise FrameError("more log than its budget")
                self._say(context, child, number, told)
            elif isinstance(told, Uses):
                channel.send(*messages.answer_frame(context.refusal(told.word)), deadline_s=until_s)
            else:
                channel.send(*self._tell(context, told), deadline_s=until_s)
            # what this side did meanwhile is not held against the child, and gives it no more
            until_s += time.monotonic() - came_s
            frame = channel.receive(self._longest, deadline_s=until_s)

    def _say(self, context: CallContext, child: Child, number: int, said: Said) -> None:
        if context.ended:
            return
        try:
            self._on_log(LogRecord(context.plugin_id, said.level, said.message, said.source))
        # the host's failure, which comes out to the caller as it is
        except BaseException as error:  # noqa: BLE001
            context.fail(error)
            child.stop(number)

    def _tell(self, context: CallContext, asked: Asked) -> Frame:
        """Run a function of the application; whether the plugin may is asked again here."""
        bound = self._bound.get(asked.name)
        if bound is None:
            raise FrameError("a function that is not linked")
        arguments = arguments_of(bound, asked.arguments)
        text = None
        if not context.ended:
            with contextlib.suppress(StopCallError):
                context.demand(bound.capability)
                text = self._answer(asked.name, context, arguments)
        return messages.answer_frame(text)

    def _panic(self, context: CallContext, kept: Kept) -> PluginPanic:
        code = self.keeper.crashed(kept)
        error = PluginPanic(
            f"cannot finish {context.func}: the process of {context.plugin_id} ended: "
            f"{how_it_ended(code)}",
            signal=-code if code is not None and code < 0 else 0,
        )
        error.stats = CallStats(took_ms=_took_ms(context))
        return error


class _NotDeliveredError(Exception):
    """The child was gone before it had the whole call."""


def _result(context: CallContext, ended: Ended) -> CallResult:
    """What a call gave, as this side sees it: what went wrong here comes first."""
    result, took_ms = ended.result, _took_ms(context)
    cause: BaseException | None = context.error or ended.error
    if cause is None and context.remaining_s <= 0:
        cause = context.overdue()
    if cause is None and result is not None:
        return CallResult(
            result.value, result.fuel_used, result.memory_peak_bytes, took_ms, result.stderr
        )
    if isinstance(cause, CallError):
        used = ended.error.stats if isinstance(ended.error, CallError) else CallStats()
        if result is not None:
            used = CallStats(result.fuel_used, result.memory_peak_bytes)
        cause.stats = CallStats(used.fuel_used, used.memory_peak_bytes, took_ms)
    raise cause or AssertionError


def _took_ms(context: CallContext) -> float:
    return (time.monotonic() - context.started_s) * 1000
