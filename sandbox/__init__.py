"""How plugins run: manifest, capabilities, limits, engine, host functions.

The names below load on first use, so that reading a manifest does not load the engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.builds import ForeignCode
    from sandbox.capabilities import CAPABILITIES
    from sandbox.discovery import PluginFiles, find_sets, read_set
    from sandbox.errors import (
        ArgumentError,
        BadModule,
        CallError,
        CallStats,
        CapabilityDenied,
        CrashLoopError,
        DeadlineExceeded,
        FuelExhausted,
        GuestExit,
        GuestTrap,
        IncompatibleError,
        ManifestError,
        MemoryExceeded,
        MissingExport,
        PluginNotFoundError,
        PluginPanic,
        RegistrationError,
        SandboxError,
        UnhealthyError,
    )
    from sandbox.limits import Limits, RequestedLimits
    from sandbox.log import LogRecord, escape_text
    from sandbox.manifest import PluginManifest, parse_manifest
    from sandbox.plugin import Plugin
    from sandbox.result import CallResult
    from sandbox.sandbox import Admission, Sandbox
    from sandbox.signature import Signature
    from sandbox.slot import Slot

_HOMES = {
    "Admission": "sandbox",
    "ArgumentError": "errors",
    "BadModule": "errors",
    "CAPABILITIES": "capabilities",
    "CallError": "errors",
    "CallResult": "result",
    "CallStats": "errors",
    "CapabilityDenied": "errors",
    "CrashLoopError": "errors",
    "DeadlineExceeded": "errors",
    "ForeignCode": "builds",
    "FuelExhausted": "errors",
    "GuestExit": "errors",
    "GuestTrap": "errors",
    "IncompatibleError": "errors",
    "Limits": "limits",
    "LogRecord": "log",
    "ManifestError": "errors",
    "MemoryExceeded": "errors",
    "MissingExport": "errors",
    "Plugin": "plugin",
    "PluginFiles": "discovery",
    "PluginManifest": "manifest",
    "PluginNotFoundError": "errors",
    "PluginPanic": "errors",
    "RegistrationError": "errors",
    "RequestedLimits": "limits",
    "Sandbox": "sandbox",
    "SandboxError": "errors",
    "Signature": "signature",
    "Slot": "slot",
    "UnhealthyError": "errors",
    "escape_text": "log",
    "find_sets": "discovery",
    "parse_manifest": "manifest",
    "read_set": "discovery",
}

__all__ = [
    "CAPABILITIES",
    "Admission",
    "ArgumentError",
    "BadModule",
    "CallError",
    "CallResult",
    "CallStats",
    "CapabilityDenied",
    "CrashLoopError",
    "DeadlineExceeded",
    "ForeignCode",
    "FuelExhausted",
    "GuestExit",
    "GuestTrap",
    "IncompatibleError",
    "Limits",
    "LogRecord",
    "ManifestError",
    "MemoryExceeded",
    "MissingExport",
    "Plugin",
    "PluginFiles",
    "PluginManifest",
    "PluginNotFoundError",
    "PluginPanic",
    "RegistrationError",
    "RequestedLimits",
    "Sandbox",
    "SandboxError",
    "Signature",
    "Slot",
    "UnhealthyError",
    "escape_text",
    "find_sets",
    "parse_manifest",
    "read_set",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever that name is
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
