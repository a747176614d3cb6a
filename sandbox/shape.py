"""What a module needs and offers, as plain values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.capabilities import WASI_MODULE
from sandbox.log import escape_text
from sandbox.signature import WasmType


@dataclass(frozen=True, slots=True)
class Import:
    """One function that a module imports; ``kind`` is None for what is not a function."""

    module: str
    name: str
    kind: WasmType | None

    def __str__(self) -> str:
        return escape_text(f"{self.module}.{self.name}")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a module needs and offers.

    Attributes:
        imports: In the module's order.
        functions: The exported functions.
        has_memory: It exports a 32-bit memory as ``memory``.
    """

    imports: tuple[Import, ...]
    functions: Mapping[str, WasmType]
    has_memory: bool

    @property
    def uses_wasi(self) -> bool:
        """Whether it imports WASI preview 1."""
        return any(item.module == WASI_MODULE for item in self.imports)
