"""What can go wrong in the sandbox, as types: one root, a subclass where a caller branches."""

import signal as signals
from dataclasses import dataclass


class SandboxError(Exception):
    """The root of every error that leaves the sandbox.

    Attributes:
        plugin_id: The plugin it is about, once that is known.
    """

    def __init__(self, message: str, *, plugin_id: str | None = None) -> None:
        super().__init__(message)
        self.plugin_id = plugin_id


class PluginNotFoundError(SandboxError):
    """The manifest or the module it names is not there (exit 3)."""


class ManifestError(SandboxError):
    """The manifest is not what contract section 2 says; names the file and the key (exit 6)."""


class IncompatibleError(SandboxError):
    """The plugin is well formed and this host cannot run it: ABI, kind, import (exit 8)."""


class BadModule(SandboxError):  # noqa: N818  # the name the contract gives it
    """The payload is not a module the sandbox accepts (exit 6)."""


class MissingExport(SandboxError):  # noqa: N818  # the name the contract gives it
    """A function or memory that a call needs is not exported (exit 3)."""


class ArgumentError(SandboxError):
    """The number or the type of a call's arguments is wrong (exit 2)."""


class RegistrationError(SandboxError):
    """A host function of the application can't be registered as it is (exit 2)."""


class TokenError(SandboxError):
    """Bytes that should be a sealed capability token are none."""


class CrashLoopError(SandboxError):
    """The plugin's process crashes, and is not started again now (exit 8).

    Attributes:
        retry_after_s: Seconds until it is; None = not in this load of the plugin.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None, plugin_id: str | None = None
    ) -> None:
        super().__init__(message, plugin_id=plugin_id)
        self.retry_after_s = retry_after_s


class UnhealthyError(SandboxError):
    """The health function answered, and its number was not 0 (exit 9)."""


@dataclass(frozen=True, slots=True)
class CallStats:
    """What a call used.

    Attributes:
        fuel_used: Units of fuel, host work included.
        memory_peak_bytes: The linear memory at its largest; where the module does not export
            it, what it began with: it may have grown since.
        took_ms: Wall time from request to result.
    """

    fuel_used: int = 0
    memory_peak_bytes: int = 0
    took_ms: float = 0.0


class CallError(SandboxError):
    """A call that began and did not succeed.

    Attributes:
        stats: What it had used when it ended.
    """

    def __init__(self, message: str, *, plugin_id: str | None = None) -> None:
        super().__init__(message, plugin_id=plugin_id)
        self.stats = CallStats()


class FuelExhausted(CallError):  # noqa: N818  # the name the contract gives it
    """The call used up its fuel (exit 1)."""


class MemoryExceeded(CallError):  # noqa: N818  # the name the contract gives it
    """The call needed more memory than its limit (exit 1)."""


class DeadlineExceeded(CallError):  # noqa: N818  # the name the contract gives it
    """The call took longer than its wall time, host functions included (exit 124)."""


class GuestTrap(CallError):  # noqa: N818  # the name the contract gives it
    """The guest trapped.

    Attributes:
        code: The trap's name, such as ``UNREACHABLE`` or ``MEMORY_OUT_OF_BOUNDS``.
    """

    def __init__(self, message: str, *, code: str, plugin_id: str | None = None) -> None:
        super().__init__(message, plugin_id=plugin_id)
        self.code = code


class PluginPanic(GuestTrap):
    """The plugin's process died under the call; the host did not.

    Attributes:
        signal: What it died of; 0 where it ended by itself.
    """

    def __init__(self, message: str, *, signal: int, plugin_id: str | None = None) -> None:
        super().__init__(message, code=_signal_name(signal), plugin_id=plugin_id)
        self.signal = signal


class CapabilityDenied(CallError):  # noqa: N818  # the name the contract gives it
    """The guest called a host function that it was not granted, or not any more (exit 8).

    Attributes:
        capability: What was missing.
    """

    def __init__(self, message: str, *, capability: str, plugin_id: str | None = None) -> None:
        super().__init__(message, plugin_id=plugin_id)
        self.capability = capability


class GuestExit(CallError):  # noqa: N818  # sibling of the names the contract gives
    """A command ended with an exit code other than 0.

    Attributes:
        code: That code.
    """

    def __init__(self, message: str, *, code: int, plugin_id: str | None = None) -> None:
        super().__init__(message, plugin_id=plugin_id)
        self.code = code


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:  # a real-time signal, or none at all
        return f"SIGNAL_{number}" if number else "PROCESS_ENDED"
