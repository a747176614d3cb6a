"""What a call gives back."""

from dataclasses import dataclass

Value = str | int | float | bytes | None
"""A result as Python sees it; None for a function without one."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call that succeeded.

    Attributes:
        value: The result; a command's is what it wrote to stdout.
        fuel_used: Units of fuel, host work included.
        memory_peak_bytes: The linear memory at its largest; where the module does not export
            it, what it began with: it may have grown since.
        took_ms: Wall time from request to result.
        stderr: What a command wrote to stderr, control characters not yet escaped.
    """

    value: Value
    fuel_used: int
    memory_peak_bytes: int
    took_ms: float
    stderr: str = ""
