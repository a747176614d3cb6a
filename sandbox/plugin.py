"""A loaded plugin: what it offers, and calls to it from any thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sandbox import arguments
from sandbox.admission import Admission
from sandbox.arguments import Argument, Lowered
from sandbox.capabilities import effective
from sandbox.context import CallContext
from sandbox.deadline import Watchdog
from sandbox.errors import MissingExport, SandboxError, UnhealthyError
from sandbox.exports import START, require_abi, signatures
from sandbox.guest import Guest
from sandbox.instances import Enter, FreshInstances, Instances, KeptInstance
from sandbox.log import CallLog, LogRecord
from sandbox.manifest import PluginManifest
from sandbox.offmain import OffMain
from sandbox.result import CallResult, Value
from sandbox.shape import Shape
from sandbox.signature import Signature
from sandbox.worker import Worker


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all plugins of a sandbox share.

    Attributes:
        watchdog: Keeps the deadlines.
        off_main: Keeps guests off the main thread.
        on_log: Takes the plugins' log records.
    """

    watchdog: Watchdog
    off_main: OffMain
    on_log: Callable[[LogRecord], None]


class Plugin:
    """A verified, compiled plugin, made by ``Sandbox.load``.

    Calls may come from any thread and run side by side, each in a store of its own; those
    to an instance that is ``reused`` wait for each other, within their deadlines.

    Attributes:
        manifest: Its manifest.
        admission: What the operator lets it do.
        effective: The capabilities it has: requested ∩ granted, and ``log`` if granted.
        limits: The operator's bounds, lowered where the plugin asked for less.
    """

    def __init__(
        self,
        manifest: PluginManifest,
        admission: Admission,
        shape: Shape,
        make_worker: Callable[[], Worker],
        runtime: Runtime,
    ) -> None:
        self.manifest = manifest
        self.admission = admission
        self.effective = effective(manifest.capabilities, admission.granted)
        self.limits = admission.limits.lowered_by(manifest.limits)
        self._shape = shape
        self._signatures = signatures(manifest, shape)
        self._runtime = runtime
        self._fresh = FreshInstances(make_worker, runtime.watchdog)
        self._instances: Instances = self._fresh
        if manifest.instance == "reused":
            self._instances = KeptInstance(make_worker, runtime.watchdog)
        self._closed = False

    @property
    def release(self) -> str:
        """The release's SHA-256 in hex; empty for a folder that nobody signed."""
        return self.admission.release

    def warm(self) -> None:
        """Link the module now and not at the first call.

        Raises:
            IncompatibleError: An import has another type than the host's function.
        """
        self._fresh.warm()

    def exports(self) -> Mapping[str, Signature]:
        """The functions that can be called, with what they take and give."""
        return self._signatures

    def call(self, func: str | None = None, args: Sequence[Argument] = ()) -> CallResult:
        """Call a function (contract section 8, core ABI).

        Args:
            func: An exported function; None = the manifest's ``entry``.
            args: One value per parameter; numbers may be given as their text.

        Returns:
            The result, and what the call used.

        Raises:
            MissingExport: No such function, or no ``alloc`` or ``memory`` for its text.
            ArgumentError: The arguments don't fit.
            CallError: The call did not succeed: ``FuelExhausted``, ``MemoryExceeded``,
                ``DeadlineExceeded``, ``GuestTrap``, ``CapabilityDenied`` or ``GuestExit``.
            SandboxError: The plugin is closed.
        """
        func = func or self.manifest.entry
        # a command can't be started twice in one instance
        instances = self._fresh if func == START else self._instances
        return self._call(func, args, instances)

    def probe(self) -> None:
        """Try the plugin in a throw-away instance: instantiate it, and call ``[health]``.

        Raises:
            UnhealthyError: The health function returned a number other than 0.
            CallError: The plugin trapped, or did not return within limits.
            SandboxError: The plugin is closed.
        """
        health = self.manifest.health
        if health is None:
            self._run(self._context("the start of the plugin", []), lambda _: None, self._fresh)
            return
        result = self._call(health.func, health.args, self._fresh)
        if not self.is_healthy_result(result.value):
            raise UnhealthyError(
                f"cannot take {self.manifest.id} {self.manifest.version} for healthy: "
                f"{health.func} returned {result.value!r}, expected 0",
                plugin_id=self.manifest.id,
            )

    @staticmethod
    def is_healthy_result(value: Value) -> bool:
        """Whether a result means health: a number must be 0, text and nothing are fine."""
        return value == 0 if isinstance(value, int | float) else True

    def close(self) -> None:
        """Take no more calls and let the code go; calls that run are left to end."""
        self._closed = True
        self._fresh.close()
        self._instances.close()

    def _call(self, func: str, args: Sequence[Argument], instances: Instances) -> CallResult:
        try:
            signature = self._signatures.get(func)
            if signature is None:
                raise MissingExport(
                    f"cannot call {func}: {self.manifest.id} does not export it; "
                    f"it exports {', '.join(self._signatures)}"
                )
            lowered = arguments.lower(func, signature, args)
            require_abi(func, signature, lowered, self._shape)
            context = self._context(func, lowered)
        except SandboxError as error:
            error.plugin_id = self.manifest.id
            raise
        free = instances is not self._fresh

        def enter(guest: Guest) -> Value:
            if context.is_command:
                return guest.run_command(context, signature)
            return guest.invoke(context, signature, lowered, free=free)

        return self._run(context, enter, instances)

    def _run(self, context: CallContext, enter: Enter, instances: Instances) -> CallResult:
        if self._closed:
            raise SandboxError(
                f"cannot call {self.manifest.id}: it is closed", plugin_id=self.manifest.id
            )

        def stop() -> None:
            context.cancel()
            if context.engine is not None:
                self._runtime.watchdog.interrupt(context.engine)

        return self._runtime.off_main.run(lambda: instances.run(context, enter), stop=stop)

    def _context(self, func: str, lowered: Sequence[Lowered]) -> CallContext:
        is_command = func == START
        stem = self.manifest.stem
        return CallContext(
            plugin_id=self.manifest.id,
            func=func,
            limits=self.limits,
            allowed=self.effective,
            argv=arguments.argv(func, stem, lowered) if is_command else (stem,),
            log=CallLog(self.manifest.id, self.limits.log_bytes, self._runtime.on_log),
            is_command=is_command,
        )
