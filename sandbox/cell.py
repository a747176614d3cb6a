"""How the sandbox speaks with the engine: one interface, two ways.

``raw`` calls the engine's library itself and is what runs; ``plain`` uses nothing but
wasmtime's public API and takes its place where ``raw`` does not fit the installed wasmtime.
"""

from collections.abc import Callable
from typing import Protocol

from wasmtime import Config, Engine, InstancePre, Linker

from sandbox.limits import Limits
from sandbox.shape import Shape
from sandbox.signature import WasmType

Number = int | float
"""A value as wasm has it; an integer may be given signed or unsigned and comes back signed."""

Crossing = Callable[..., int | None]
"""A host function as the engine sees it: ``crossing(caller, *numbers)``; raises nothing."""


class Cell(Protocol):
    """A store with every limit set, and the one instance in it. For one thread at a time.

    A method after ``close`` raises; none may be called while another thread runs in it.
    """

    def start(self) -> None:
        """Make the instance; its start function runs.

        Raises:
            Exception: Whatever the binding has for a trap; ``ending`` reads it.
        """

    def exports(self, name: str) -> bool:
        """Whether the module exports a function of that name."""

    def call(self, name: str, *numbers: Number) -> Number | None:
        """Call an exported function; raises as ``start`` does.

        Args:
            name: A function that ``exports``.
            numbers: One for each of its parameters.
        """

    def call_back(self, caller: object, name: str, *numbers: Number) -> Number | None:
        """The same from within a host function, which may be within the start function."""

    def find_memory(self, caller: object) -> bool:
        """Learn of the memory from within a host function; False = none is exported."""

    def size_bytes(self) -> int:
        """The size of the exported memory now; 0 without one."""

    def peak_bytes(self) -> int:
        """The memory at its largest: it never shrinks, so its size now; 0 without an instance.

        Of a memory that is not exported only what it began with is known: it may have grown,
        to its limit at most.
        """

    def read(self, pointer: int, length: int) -> bytes:
        """Copy out of the memory; the bounds were checked."""

    def write(self, pointer: int, data: bytes) -> None:
        """Copy into the memory; the bounds were checked."""

    def get_fuel(self) -> int:
        """The fuel that is left."""

    def set_fuel(self, units: int) -> None:
        """Replace the fuel that is left."""

    def close(self) -> None:
        """Free all of it."""


class Link(Protocol):
    """A module with its imports, in one engine: opens cells, one at a time."""

    def open(self, limits: Limits) -> Cell:
        """A cell without fuel, whose epoch deadline is the next tick.

        Args:
            limits: All but the fuel and the time are set.
        """


class Way(Protocol):
    """One of the two."""

    def new_engine(self, config: Config) -> Engine:
        """An engine in which there is one instance at a time, of a module of usual size."""

    def new_wide_engine(self, config: Config) -> Engine:
        """The same for a module of any size."""

    def rest(self, engine: Engine) -> None:
        """Take an engine back that may yet be interrupted."""

    def define(
        self, linker: Linker, place: tuple[str, str], kind: WasmType, crossing: Crossing
    ) -> None:
        """Put a host function into a linker.

        Args:
            linker: Of one engine.
            place: Module and name.
            kind: Its type; a result is an i32 or an i64.
            crossing: It.
        """

    def link(self, engine: Engine, instances: InstancePre, shape: Shape) -> Link:
        """Make a link of what wasmtime has linked."""
