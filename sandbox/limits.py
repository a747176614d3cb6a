"""The bounds of a call. Every one is finite: there is no value that means "no limit"."""

from dataclasses import dataclass, fields, replace

_LARGEST = 2**63 - 1
"""wasmtime takes 64 bits and wraps silently: 2**64 fuel would be none, -1 would be all."""


@dataclass(frozen=True, slots=True)
class RequestedLimits:
    """What a manifest's ``[limits]`` asks for; None = the operator's."""

    fuel_units: int | None = None
    mem_bytes: int | None = None
    wall_timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use (contract section 6).

    Attributes:
        fuel_units: Units of fuel, about one per wasm instruction, host work charged too.
        mem_bytes: All linear memories together.
        wall_timeout_ms: Milliseconds from request to result, host functions included.
        table_elements: Elements of each table.
        instances: Instances in a store.
        memories: Linear memories in a store; more than one would multiply ``mem_bytes``.
        tables: Tables in a store.
        output_bytes: The largest result, stdout of a command included.
        log_bytes: What a call may log; the rest is dropped, and one record says so.

    Raises:
        ValueError: A bound is not a whole number from 1 to 2**63 - 1.
    """

    fuel_units: int = 10_000_000
    mem_bytes: int = 268_435_456
    wall_timeout_ms: int = 5_000
    table_elements: int = 1_000_000
    instances: int = 1
    memories: int = 1
    tables: int = 8
    output_bytes: int = 1_048_576
    log_bytes: int = 65_536

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # bool is an int in Python, and `fuel_units = true` is a mistake in a config
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole and 1 <= value <= _LARGEST):
                raise ValueError(
                    f"cannot limit {field.name}: got {value!r}, "
                    f"expected a whole number from 1 to {_LARGEST}"
                )

    def lowering(self, requested: RequestedLimits) -> frozenset[str]:
        """The names of the bounds that the plugin asked to be lower than these."""
        wishes = ((field.name, getattr(requested, field.name)) for field in fields(requested))
        return frozenset(n for n, wish in wishes if wish is not None and wish < getattr(self, n))

    def lowered_by(self, requested: RequestedLimits) -> "Limits":
        """These limits, with each bound the plugin asked for where that is lower.

        Raises:
            ValueError: A requested bound is out of range.
        """
        lower: dict[str, int] = {}
        for field in fields(requested):
            wish = getattr(requested, field.name)
            if wish is not None:
                lower[field.name] = min(wish, getattr(self, field.name))
        return replace(self, **lower)
