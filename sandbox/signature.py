"""The types of a plugin's functions, as its author sees them and as wasm sees them. Pure.

Contract section 8, core ABI: a string or bytes goes in as ``(ptr i32, len i32)`` and comes
out as an ``i64`` that is ``ptr << 32 | len``.
"""

from dataclasses import dataclass

NUMBERS = ("i32", "i64", "f32", "f64")
TEXTS = ("string", "bytes")
PARAMETER_TYPES = (*TEXTS, *NUMBERS)
RESULT_TYPES = (*TEXTS, *NUMBERS, "none")


@dataclass(frozen=True, slots=True)
class WasmType:
    """A function type as the module declares it, by the names of wasm's value types."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as callers see it.

    Attributes:
        params: Each of ``PARAMETER_TYPES``.
        result: One of ``RESULT_TYPES``.
        variadic: Any number of the one parameter type (a command's arguments).
    """

    params: tuple[str, ...]
    result: str
    variadic: bool = False

    @property
    def needs_memory(self) -> bool:
        """Whether text crosses the border, so that the module must export its memory."""
        return self.needs_alloc or self.result in TEXTS

    @property
    def needs_alloc(self) -> bool:
        """Whether text goes into the guest."""
        return any(kind in TEXTS for kind in self.params)

    def lowered(self) -> WasmType:
        """The wasm type that a function of this signature has."""
        params: list[str] = []
        for kind in self.params:
            params += ["i32", "i32"] if kind in TEXTS else [kind]
        if self.result == "none":
            return WasmType(tuple(params), ())
        return WasmType(tuple(params), ("i64" if self.result in TEXTS else self.result,))

    def __str__(self) -> str:
        params = ", ".join(self.params) + ("..." if self.variadic else "")
        return f"({params}) -> {self.result}"


COMMAND = Signature(("string",), "string", variadic=True)
"""``_start``: the arguments are its argv, the result is what it wrote to stdout."""

BYTES_COMMAND = Signature(("string",), "bytes", variadic=True)
"""``_start`` of a command that declares ``[exports._start] result = "bytes"``."""


def default_signature(wasm: WasmType) -> Signature | None:
    """The signature of a function that ``[exports]`` does not name.

    Returns:
        ``(i32,i32)->i64`` is string → string, ``()->i64`` is → string, anything else its
        wasm numbers; None where a value could not cross (several results, vectors, references).
    """
    if wasm.results == ("i64",):
        if wasm.params == ("i32", "i32"):
            return Signature(("string",), "string")
        if wasm.params == ():
            return Signature((), "string")
    if len(wasm.results) > 1 or not set(wasm.params + wasm.results) <= set(NUMBERS):
        return None
    return Signature(wasm.params, wasm.results[0] if wasm.results else "none")
