"""What a module needs and offers, as plain values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.capabilities import WASI_MODULE
from sandbox.log import escape_text
from sandbox.signature import WasmType

MEMORY = "memory"


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
        memory: What its memory, of which it has one at most, is exported as; ``memory`` if it
            is so too, None if it is not exported.
        least_memory_bytes: What its memory begins with.
        starts: It has a start function, or may have one: an instance runs it.
    """

    imports: tuple[Import, ...]
    functions: Mapping[str, WasmType]
    memory: str | None = None
    least_memory_bytes: int = 0
    starts: bool = True

    @property
    def has_memory(self) -> bool:
        """Whether it exports its memory as ``memory``, which the ABI goes by."""
        return self.memory == MEMORY

    @property
    def uses_wasi(self) -> bool:
        """Whether it imports WASI preview 1."""
        return any(item.module == WASI_MODULE for item in self.imports)
