"""A plugin's child process: the inline runner, served over channels."""

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from sandbox.code import Code
from sandbox.context import CallContext, StopCallError
from sandbox.deadline import Watchdog
from sandbox.errors import MemoryExceeded, SandboxError
from sandbox.hostfuncs.table import bodies
from sandbox.inline import InlineRunner, Runtime
from sandbox.isolate.lockdown import lock_down
from sandbox.isolate.messages import Asked, Call, Ended, Said, Uses, read_answer, read_call
from sandbox.isolate.orders import MAX_ORDERS_BYTES, Orders, read_orders
from sandbox.isolate.wire import Channel, ChannelClosedError
from sandbox.log import LogRecord
from sandbox.offmain import OffMain
from sandbox.pool import WRITABLE_BYTES
from sandbox.runner import Request
from sandbox.worker import Surroundings, Worker

MOST_CHANNELS = 8
"""Calls at once in one child; the others wait for their turn, within their deadlines."""

_LONGEST_BYTES = 2**32 - 1
_CONTROL_BYTES = 64
_OWN_BYTES = 128 * 1024 * 1024
_STACK_BYTES = 8 * 1024 * 1024
OPEN, STOP = b"open", b"stop "


def serve(
    control: int, first: int, code: int, folder: int | None, key: bytes, *, ahead: bool
) -> None:
    """Serve the host until it closes the control socket.

    Args:
        control: A socket of whole messages: further channels, and calls to stop.
        first: The first channel, on which the orders come.
        code: The file with the compiled module, which nobody writes to.
        folder: The folder behind ``/plugin/data``, open.
        key: What the token is sealed with.
        ahead: The first call is some time away: make it quick.
    """
    channel = Channel(socket.socket(fileno=first))
    orders = read_orders(channel.receive(MAX_ORDERS_BYTES), key)
    limits, size = orders.token.limits, os.fstat(code).st_size
    per_call = limits.mem_bytes + WRITABLE_BYTES + _STACK_BYTES + 2 * size
    lock_down(data_bytes=_OWN_BYTES + MOST_CHANNELS * per_call, folder=folder, code=code)
    threading.stack_size(_STACK_BYTES)
    child = Served(orders, code, size, folder)
    child.open(channel, rehearses=ahead)
    with socket.socket(fileno=control) as orders_to_come:
        while True:
            message, given, _, _ = socket.recv_fds(orders_to_come, _CONTROL_BYTES, 1)
            if message == OPEN and given:
                child.open(Channel(socket.socket(fileno=given[0])))
            elif message.startswith(STOP):
                child.stop(int(message.removeprefix(STOP)))
            else:  # the host has closed it, or is gone
                return


class Served:
    """The one plugin of this process.

    Args:
        orders: What it may do and how it is linked.
        code: The compiled module.
        size: Its bytes.
        folder: What it may read.
    """

    def __init__(self, orders: Orders, code: int, size: int, folder: int | None) -> None:
        self._orders = orders
        self._here = threading.local()
        self._lock = threading.Lock()
        self._running: dict[int, CallContext] = {}
        compiled = Code(code, size)
        surroundings = Surroundings(
            environment=orders.environment,
            data_dir=None if folder is None else Path(f"/proc/self/fd/{folder}"),
            functions=bodies(orders.links, self._ask),
        )
        self._runner = InlineRunner(
            orders.token,
            orders.stem,
            lambda: Worker(compiled, orders.shape, surroundings, name=orders.name),
            Runtime(Watchdog(), OffMain(), self._say),
            ask=self._may_use,
            reused=orders.reused,
        )

    def open(self, channel: Channel, *, rehearses: bool = False) -> None:
        """Serve a further channel, on a thread of its own; its call tells what fails before."""

        def attend() -> None:
            if rehearses:
                with contextlib.suppress(SandboxError):
                    self._runner.rehearse()
            self._attend(channel)

        threading.Thread(target=attend, daemon=True).start()

    def stop(self, number: int) -> None:
        """End the call of that number, if it still runs."""
        with self._lock:
            context = self._running.get(number)
        if context is not None:
            self._runner.stop(context)

    def _attend(self, channel: Channel) -> None:
        self._here.channel = channel
        try:
            while True:
                call = read_call(channel.receive(_LONGEST_BYTES))
                channel.send(*self._run(call).frame())
        except ChannelClosedError:  # the host waits no more
            channel.close()

    def _run(self, call: Call) -> Ended:
        signature = self._orders.signatures[call.func] if call.enters else None
        request = Request(call.func, signature, call.args, call.throw_away)
        context = self._runner.begin(request)
        context.started_s = call.started_s
        with self._lock:
            self._running[call.number] = context
        try:
            return Ended(self._runner.enter(context, request))
        except SandboxError as error:
            return Ended(None, error)
        except MemoryError:
            return Ended(
                None, MemoryExceeded(f"cannot finish {call.func}: its process is out of memory")
            )
        except ChannelClosedError:
            raise
        # the host is told of every end, and this thread serves on
        except BaseException as error:  # noqa: BLE001
            kind = type(error).__name__
            return Ended(None, SandboxError(f"cannot finish {call.func}: {kind}: {error}"))
        finally:
            with self._lock:
                del self._running[call.number]

    def _say(self, record: LogRecord) -> None:
        channel: Channel = self._here.channel
        channel.send(*Said(record.level, record.source, record.message).frame())

    def _may_use(self, capability: str, _counted: set[str]) -> str | None:
        """Have the host say whether, and count it."""
        channel: Channel = self._here.channel
        channel.send(*Uses(capability).frame())
        return read_answer(channel.receive(_LONGEST_BYTES))

    def _ask(self, name: str, context: CallContext, arguments: Sequence[object]) -> str:
        """Have the host run a function of the application.

        Raises:
            StopCallError: The host ended the call.
        """
        channel: Channel = self._here.channel
        channel.send(*Asked(name, tuple(arguments)).frame())
        text = read_answer(channel.receive(_LONGEST_BYTES))
        if text is None:
            context.fail(SandboxError(f"cannot finish {context.func}: the host ended it"))
            raise StopCallError
        return text
