"""A plugin's call as spans and figures: ``plugin.call`` and, for a trap, ``plugin.panic``.

Contract §9.
"""

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
    plugin_id, name = plugin.manifest.id, function or plugin.manifest.entry
    with telemetry.span("plugin.call", plugin_id=plugin_id) as span:
        span.set_attribute("plugin.version", plugin.manifest.version)
        span.set_attribute("plugin.release", plugin.release)
        span.set_attribute("plugin.function", name)
        span.set_attribute("plugin.fuel.limit", plugin.limits.fuel_units)
        try:
            result = plugin.call(function, args)
        except CallError as error:
            telemetry.metrics.called(plugin_id, name, error.stats.took_ms, error)
            span.set_attribute("plugin.fuel.used", error.stats.fuel_used)
            span.set_attribute("plugin.memory.peak_bytes", error.stats.memory_peak_bytes)
            if isinstance(error, CapabilityDenied):
                span.set_attribute("plugin.capability", error.capability)
            if isinstance(error, GuestTrap):
                with telemetry.span("plugin.panic", plugin_id=plugin_id) as panic:
                    panic.set_attribute("plugin.version", plugin.manifest.version)
                    panic.set_attribute("plugin.release", plugin.release)
                    panic.set_attribute("plugin.function", name)
                    panic.set_attribute("plugin.trap.code", error.code)
            raise
        telemetry.metrics.called(plugin_id, name, result.took_ms)
        span.set_attribute("plugin.fuel.used", result.fuel_used)
        span.set_attribute("plugin.memory.peak_bytes", result.memory_peak_bytes)
        return result
