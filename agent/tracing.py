"""A plugin's call as spans: ``plugin.call`` and, for a trap, ``plugin.panic`` (contract §9)."""

from collections.abc import Sequence

from agent.telemetry import Telemetry
from sandbox import CallError, CallResult, CapabilityDenied, GuestTrap, Plugin


def traced_call(
    telemetry: Telemetry,
    plugin: Plugin,
    function: str | None,
    args: Sequence[str | int | float | bytes],
) -> CallResult:
    """Call a plugin; where nobody listens, without any cost of telemetry.

    Raises:
        sandbox.SandboxError: As of ``Plugin.call``.
    """
    if not telemetry.is_on:
        return plugin.call(function, args)
    with telemetry.span("plugin.call", plugin_id=plugin.manifest.id) as span:
        span.set_attribute("plugin.version", plugin.manifest.version)
        span.set_attribute("plugin.release", plugin.release)
        span.set_attribute("plugin.function", function or plugin.manifest.entry)
        span.set_attribute("plugin.fuel.limit", plugin.limits.fuel_units)
        try:
            result = plugin.call(function, args)
        except CallError as error:
            span.set_attribute("plugin.fuel.used", error.stats.fuel_used)
            span.set_attribute("plugin.memory.peak_bytes", error.stats.memory_peak_bytes)
            if isinstance(error, CapabilityDenied):
                span.set_attribute("plugin.capability", error.capability)
            if isinstance(error, GuestTrap):
                with telemetry.span("plugin.panic", plugin_id=plugin.manifest.id) as panic:
                    panic.set_attribute("plugin.trap.code", error.code)
            raise
        span.set_attribute("plugin.fuel.used", result.fuel_used)
        span.set_attribute("plugin.memory.peak_bytes", result.memory_peak_bytes)
        return result
