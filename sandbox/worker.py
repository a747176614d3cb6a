"""A worker: one engine with one module linked into it, for one call at a time."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wasmtime import Engine, Linker, Module, WasmtimeError

from sandbox.capabilities import HOST_MODULES, WASI_MODULE
from sandbox.cell import Cell, Way
from sandbox.code import Code
from sandbox.context import CallContext
from sandbox.ending import is_starved, starved
from sandbox.engine import new_engine
from sandbox.errors import IncompatibleError, SandboxError
from sandbox.folder import Folder
from sandbox.hostfuncs import border, files, program, unprovided, wasi
from sandbox.hostfuncs.log import host_log
from sandbox.log import escape_text
from sandbox.shape import Import, Shape
from sandbox.way import best

_BODIES: dict[str, border.Body] = {
    "host_log": host_log,
    "host_retrieval_search": unprovided.retrieval_search,
    "host_llm_chat": unprovided.llm_chat,
    "host_llm_next": unprovided.llm_next,
    "host_plan": unprovided.plan,
    "host_fetch": unprovided.fetch,
}

_WASI = wasi.CALLS | files.CALLS | program.CALLS
"""All of preview 1: wasmtime's own would cost no fuel."""

_MOST_IDLE = 8


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every instance of a plugin sees.

    Attributes:
        environment: WASI environment variables.
        data_dir: What ``/plugin/data`` shows, read only; None = no files at all.
        functions: The host functions behind its imports that are not the sandbox's own.
    """

    environment: Mapping[str, str]
    data_dir: Path | None
    functions: Mapping[Import, border.Body]


class Worker:
    """An engine, the module in it, and everything linked, ready for instances.

    Args:
        code: The compiled module.
        shape: What it imports.
        surroundings: What its instances see.
        name: For messages.

    Raises:
        IncompatibleError: An import has another type than the host's function.
        MemoryExceeded: The operating system has no memory for it.
    """

    def __init__(self, code: Code, shape: Shape, surroundings: Surroundings, *, name: str) -> None:
        self._way = way = best()
        self.is_spent = False
        self.seat = border.Seat()
        self.folder: Folder | None = None
        self._surroundings = surroundings
        self._uses_wasi = shape.uses_wasi
        self.starts = shape.starts
        variables = surroundings.environment.items()
        self.environment = [f"{key}={value}\0".encode() for key, value in variables]
        try:
            self.engine, module = _settled(way, code)
            linker = Linker(self.engine)
            _define(way, linker, self.seat, shape, surroundings)
            self._link = way.link(self.engine, linker.instantiate_pre(module), shape)
        except WasmtimeError as error:
            if is_starved(error):
                raise starved(f"load {name}") from error
            reason = escape_text(" ".join(str(error).split()))
            raise IncompatibleError(f"cannot load {name}: {reason}") from error

    def new_store(self, context: CallContext) -> Cell:
        """A store with every limit set, whose epoch deadline is the next tick."""
        store = self._link.open(context.limits)
        if self._uses_wasi:
            self.folder = self._open_folder(context)
        return store

    def end(self, store: Cell) -> None:
        """Free a store, and what its guest had open; again is fine."""
        store.close()
        if self.folder is not None:
            self.folder.close_all()
            self.folder = None

    def suits(self, context: CallContext) -> bool:
        """Whether what its last store shows of files is still granted, for one more call in it."""
        return self.folder is None or context.refusal("fs_read") is None

    def retire(self) -> None:
        """Serve no further call: the deadline of the last may yet interrupt the engine."""
        self.is_spent = True
        self._way.rest(self.engine)

    def _open_folder(self, context: CallContext) -> Folder | None:
        path = self._surroundings.data_dir
        # whether a guest reads can't be seen: to show it the folder counts
        if path is None or not path.is_dir() or context.refusal("fs_read") is not None:
            return None
        try:
            return Folder(path)
        except OSError as error:
            raise SandboxError(f"cannot open {path} for the plugin: {error.strerror}") from error


class WorkerPool:
    """Lends workers; keeps those that are idle, up to a few."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._most_idle = _MOST_IDLE

    def take(self) -> Worker:
        """A worker that nobody else uses until it is given back."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        return worker or self._make()

    def give_back(self, worker: Worker) -> None:
        """Keep a worker for the next call, or let it go."""
        with self._lock:
            if not worker.is_spent and len(self._idle) < self._most_idle:
                self._idle.append(worker)

    def close(self) -> None:
        """Drop the idle workers; one that is lent goes when its call ends."""
        with self._lock:
            self._most_idle = 0
            self._idle.clear()


def _settled(way: Way, code: Code) -> tuple[Engine, Module]:
    """The module in an engine that has room for it."""
    engine = new_engine(way.new_engine)
    with contextlib.suppress(WasmtimeError):
        return engine, code.module(engine)
    engine = new_engine(way.new_wide_engine)
    return engine, code.module(engine)


def _define(
    way: Way,
    linker: Linker,
    seat: border.Seat,
    shape: Shape,
    surroundings: Surroundings,
) -> None:
    for item in dict.fromkeys(shape.imports):  # a module may import a function twice
        if item.module == WASI_MODULE:
            border.define(way, linker, seat, (WASI_MODULE, item.name), *_WASI[item.name])
        elif item.module in HOST_MODULES and item.kind is not None:
            body = surroundings.functions.get(item) or _BODIES[item.name]
            border.define(way, linker, seat, (item.module, item.name), item.kind, body)
