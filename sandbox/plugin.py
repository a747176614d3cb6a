"""A loaded plugin: what it offers, and calls to it from any thread."""

from collections.abc import Mapping, Sequence

from sandbox import arguments
from sandbox.admission import Admission
from sandbox.arguments import Argument
from sandbox.errors import MissingExport, SandboxError, UnhealthyError
from sandbox.exports import START, require_abi
from sandbox.limits import Limits
from sandbox.manifest import PluginManifest
from sandbox.result import CallResult, Value
from sandbox.runner import Request, Runner
from sandbox.shape import Shape
from sandbox.signature import Signature
from sandbox.token import Token


class Plugin:
    """A verified, compiled plugin, made by ``Sandbox.load``.

    Calls may come from any thread and run side by side, each in a store of its own; those
    to an instance that is ``reused`` wait for each other, within their deadlines. Where they
    run is the runner's.

    Attributes:
        manifest: Its manifest.
        admission: What the operator lets it do.
        token: What it is allowed: requested and granted, within the lower of both limits.
        notes: Where the manifest's requests differ from the module's imports, for people.
    """

    def __init__(
        self,
        manifest: PluginManifest,
        admission: Admission,
        token: Token,
        shape: Shape,
        offered: Mapping[str, Signature],
        runner: Runner,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.manifest = manifest
        self.admission = admission
        self.token = token
        self.notes = notes
        self._shape = shape
        self._signatures = offered
        self._runner = runner
        self._closed = False

    @property
    def release(self) -> str:
        """The release's SHA-256 in hex; empty for a folder that nobody signed."""
        return self.token.release

    @property
    def effective(self) -> frozenset[str]:
        """The capabilities it has: requested ∩ granted, and ``log`` if granted."""
        return self.token.capabilities

    @property
    def limits(self) -> Limits:
        """The operator's bounds, lowered where the plugin asked for less."""
        return self.token.limits

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
                ``DeadlineExceeded``, ``GuestTrap``, ``CapabilityDenied`` or ``GuestExit``;
                ``PluginPanic`` where its process died.
            CrashLoopError: Its process died too often.
            SandboxError: The plugin is closed.
        """
        request = self._request(func or self.manifest.entry, args, throw_away=False)
        self._refuse_closed()
        return self._runner.run(request)

    def probe(self) -> None:
        """Try the plugin in a throw-away instance: instantiate it, and call ``[health]``.

        Raises:
            UnhealthyError: The health function returned a number other than 0.
            CallError: The plugin trapped, or did not return within limits.
            CrashLoopError: Its process died too often.
            SandboxError: The plugin is closed.
        """
        health = self.manifest.health
        if health is None:
            self._refuse_closed()
            self._runner.run(Request("the start of the plugin", None, throw_away=True))
            return
        request = self._request(health.func, health.args, throw_away=True)
        self._refuse_closed()
        result = self._runner.run(request)
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
        self._runner.close()
        if self.admission.purse is not None:
            self.admission.purse.close()

    def _request(self, func: str, args: Sequence[Argument], *, throw_away: bool) -> Request:
        try:
            signature = self._signatures.get(func)
            if signature is None:
                raise MissingExport(
                    f"cannot call {func}: {self.manifest.id} does not export it; "
                    f"it exports {', '.join(self._signatures)}"
                )
            lowered = arguments.lower(func, signature, args)
            require_abi(func, signature, lowered, self._shape)
            if func == START:  # what argv can't carry is told here, wherever it runs
                arguments.argv(func, self.manifest.stem, lowered)
        except SandboxError as error:
            error.plugin_id = self.manifest.id
            raise
        return Request(func, signature, tuple(lowered), throw_away)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise SandboxError(
                f"cannot call {self.manifest.id}: it is closed", plugin_id=self.manifest.id
            )
