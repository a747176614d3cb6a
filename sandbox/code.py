"""Compiled code in a file that nobody changes while it is mapped: what was checked is what runs."""

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from wasmtime import Engine, Module

_DESCRIPTORS = Path("/proc/self/fd")


class Code:
    """An artefact of wasmtime's, behind a descriptor of our own.

    The file is either a sealed one in memory, or an entry of the cache, which is ours alone and
    is replaced and never written to. Engines map it: they share its pages.

    Args:
        descriptor: Open for reading; closed with this object.
        length: Of the artefact, which begins the file.
    """

    def __init__(self, descriptor: int, length: int) -> None:
        self._descriptor = descriptor
        self._length = length

    @property
    def descriptor(self) -> int:
        """Of the file, open for reading; closed with this object."""
        return self._descriptor

    @classmethod
    def of(cls, artefact: bytes) -> "Code":
        """Put an artefact into memory."""
        descriptor = new_memory("code")
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(artefact)
        return cls.seal(descriptor)

    @classmethod
    def seal(cls, descriptor: int) -> "Code":
        """Take what was written to a file of ``new_memory``; from now on nobody writes to it."""
        if hasattr(fcntl, "F_ADD_SEALS"):
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return cls(descriptor, os.fstat(descriptor).st_size)

    def module(self, engine: Engine) -> Module:
        """The code in an engine.

        Raises:
            WasmtimeError: It is no artefact of this wasmtime's.
        """
        path = _DESCRIPTORS / str(self._descriptor)
        if path.exists():
            return Module.deserialize_file(engine, str(path))
        return Module.deserialize(engine, self.read())

    def read(self) -> bytes:
        """The artefact."""
        return os.pread(self._descriptor, self._length, 0)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # at the end of the process there are no globals any more
        close(self._descriptor)


def new_memory(name: str) -> int:
    """An empty file without a path that can be sealed; gone with its last descriptor."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
