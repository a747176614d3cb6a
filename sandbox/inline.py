"""Runs calls in this process."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox import arguments
from sandbox.context import Ask, CallContext
from sandbox.deadline import Watchdog
from sandbox.exports import START
from sandbox.guest import Guest
from sandbox.instances import FreshInstances, Instances, KeptInstance
from sandbox.log import CallLog, LogRecord
from sandbox.offmain import OffMain
from sandbox.result import CallResult, Value
from sandbox.runner import Request
from sandbox.token import Token
from sandbox.worker import Worker


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all plugins of a process share.

    Attributes:
        watchdog: Keeps the deadlines.
        off_main: Keeps guests off the main thread.
        on_log: Takes the plugins' log records.
    """

    watchdog: Watchdog
    off_main: OffMain
    on_log: Callable[[LogRecord], None]


class InlineRunner:
    """Runs the calls of one plugin in this process.

    Args:
        token: What a call may do.
        stem: The first argument of a command.
        make_worker: Links the module.
        runtime: Shared with other plugins.
        ask: Whether a call may use a capability whose grant has an end.
        reused: Calls share one instance, and wait for each other.
    """

    def __init__(
        self,
        token: Token,
        stem: str,
        make_worker: Callable[[], Worker],
        runtime: Runtime,
        *,
        ask: Ask,
        reused: bool,
    ) -> None:
        self._token = token
        self._stem = stem
        self._runtime = runtime
        self._bounded, self._ask = token.bounded, ask
        self._fresh = FreshInstances(make_worker, runtime.watchdog)
        self._instances: Instances = self._fresh
        if reused:
            self._instances = KeptInstance(make_worker, runtime.watchdog)

    def warm(self) -> None:
        """Link the module now and not at the first call.

        Raises:
            IncompatibleError: An import has another type than the host's function.
        """
        self._instances.warm()

    def rehearse(self) -> None:
        """Have the first call find all there, as far as that goes without the guest's own code.

        Raises:
            SandboxError: It can't be linked or instantiated; the first call says so too.
        """
        context = self.begin(Request("the rehearsal", None))
        context.bounded = frozenset()  # nothing is used: no grant is counted
        self._instances.rehearse(context)

    def run(self, request: Request) -> CallResult:
        """Run one call; raises as ``Runner.run`` does."""
        context = self.begin(request)
        return self._runtime.off_main.run(
            lambda: self.enter(context, request), stop=lambda: self.stop(context)
        )

    def begin(self, request: Request) -> CallContext:
        """The state of a call that starts now."""
        token, is_command = self._token, request.func == START
        argv: tuple[str, ...] = (self._stem,)
        if is_command:
            argv = arguments.argv(request.func, self._stem, request.args)
        return CallContext(
            plugin_id=token.plugin_id,
            func=request.func,
            limits=token.limits,
            allowed=token.capabilities,
            argv=argv,
            log=CallLog(token.plugin_id, token.limits.log_bytes, self._runtime.on_log),
            is_command=is_command,
            own_limits=token.own_limits,
            bounded=self._bounded,
            ask=self._ask,
        )

    def enter(self, context: CallContext, request: Request) -> CallResult:
        """Run a call that has begun, on this thread; raises as ``Runner.run`` does."""
        # a command can't be started twice in one instance
        apart = request.throw_away or context.is_command
        instances = self._fresh if apart else self._instances
        free = instances is not self._fresh

        def go(guest: Guest) -> Value:
            if request.signature is None:
                return None
            if context.is_command:
                return guest.run_command(context, request.signature)
            return guest.invoke(context, request.signature, request.args, free=free)

        return instances.run(context, go)

    def stop(self, context: CallContext) -> None:
        """End a call now, from another thread."""
        context.cancel()
        if context.engine is not None:
            self._runtime.watchdog.interrupt(context.engine)

    def close(self) -> None:
        """Drop what no call uses."""
        self._fresh.close()
        self._instances.close()
