"""The cache of compiled code. An entry is native code, so each is authenticated.

wasmtime loads an artefact with a flipped byte and runs it. Every entry therefore ends with a
seal, made with a key of this folder over the artefact, the module's digest and what it was
compiled for; one that doesn't fit is told, and the module is compiled again. What is mapped
later is the file that was checked, by its descriptor: entries are replaced and never written to.
"""

import contextlib
import fcntl
import hashlib
import hmac
import mmap
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from sandbox.code import Code
from sandbox.reading import open_regular

_KEY_BYTES = 32
_SEAL_BYTES = hashlib.sha256().digest_size
_MAX_ENTRY_BYTES = 1 << 30
_MAPPING = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # all of it is read at once
_PURPOSE = b"stack-composer-aot/v2\n"


class ForeignCodeError(Exception):
    """What lies in the cache is not what it put there; the message is the reason."""


class Files(Protocol):
    """The writes that the cache needs."""

    def make_folder(self, path: Path, *, mode: int = ...) -> None:
        """Create a folder and its parents."""

    def write_atomic(self, path: Path, data: bytes, *, mode: int = ...) -> None:
        """Replace a file in one step."""

    def remove(self, path: Path) -> None:
        """Remove a file that may be gone."""


class AotCache:
    """Compiled modules by payload digest, in a folder of the user's own.

    The cache is a convenience: where the disk fails it misses, and nothing else.

    Args:
        folder: Made with mode 0700; a key is kept in it with mode 0600.
        files: Writes to the disk.
        binding: What the entries are good for; see ``engine.binding``.
    """

    def __init__(self, folder: Path, files: Files, binding: bytes) -> None:
        self._folder = folder
        self._files = files
        self._binding = binding

    def load(self, payload_sha256: str) -> Code | None:
        """The compiled module, or None where there is none.

        Raises:
            ForeignCodeError: There is an entry, and it does not carry our seal.
        """
        key = self._key()
        if key is None:
            return None
        path = self._entry(payload_sha256)
        try:
            with open_regular(path) as (file, status):
                if not _is_own(status):
                    raise ForeignCodeError(f"{path} is not the user's alone")
                if not _SEAL_BYTES < status.st_size <= _MAX_ENTRY_BYTES:
                    raise ForeignCodeError(f"{path} has {status.st_size} bytes")
                length = status.st_size - _SEAL_BYTES
                with mmap.mmap(file.fileno(), 0, _MAPPING, mmap.PROT_READ) as content:
                    self._check(key, payload_sha256, content, length, path)
                return Code(os.dup(file.fileno()), length)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ForeignCodeError(f"{path} can't be read: {error.strerror}") from error

    def _check(
        self, key: bytes, payload_sha256: str, content: mmap.mmap, length: int, path: Path
    ) -> None:
        with memoryview(content) as view, view[:length] as artefact, view[length:] as seal:
            if not hmac.compare_digest(seal, self._seal(key, payload_sha256, artefact)):
                raise ForeignCodeError(f"{path} does not carry the seal of this cache")

    def store(self, payload_sha256: str, artefact: bytes) -> None:
        """Keep a compiled module; a disk that refuses is no error."""
        key = self._key()
        if key is None:
            return
        seal = self._seal(key, payload_sha256, artefact)
        with contextlib.suppress(OSError):
            self._files.write_atomic(self._entry(payload_sha256), artefact + seal, mode=0o600)

    def prune(self, keep: Collection[str]) -> None:
        """Remove every entry whose payload digest is not in ``keep``, of any wasmtime.

        Raises:
            OSError: An entry can't be removed.
        """
        if not self._folder.is_dir():
            return
        for path in self._folder.glob("*.aot"):
            if path.name.partition("-")[0] not in keep:
                self._files.remove(path)

    def remove(self, payload_sha256: str) -> None:
        """Remove the entries of a payload, of any wasmtime.

        Raises:
            OSError: One can't be removed.
        """
        for path in self._folder.glob(f"{payload_sha256}-*.aot"):
            self._files.remove(path)

    def _entry(self, payload_sha256: str) -> Path:
        return self._folder / f"{payload_sha256}-{self._binding.hex()[:16]}.aot"

    def _seal(self, key: bytes, payload_sha256: str, artefact: bytes | memoryview) -> bytes:
        seal = hmac.new(key, _PURPOSE, hashlib.sha256)
        seal.update(self._binding + bytes.fromhex(payload_sha256))
        seal.update(artefact)
        return seal.digest()

    def _key(self) -> bytes | None:
        path = self._folder / "key"
        try:
            self._files.make_folder(self._folder, mode=0o700)
            folder = self._folder.stat()
            if not _is_own(folder):
                return None  # others could read the key, and seal code of their own
            return _read_key(path) or self._new_key(path)
        except OSError:
            return None

    def _new_key(self, path: Path) -> bytes:
        """The one key, whoever makes it: with two, good entries would be taken for foreign."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            key = _read_key(path)
            if key is None:
                key = secrets.token_bytes(_KEY_BYTES)
                self._files.write_atomic(path, key, mode=0o600)
            return key
        finally:
            os.close(folder)


def _read_key(path: Path) -> bytes | None:
    key = _read_own(path, _KEY_BYTES)
    return key if key is not None and len(key) == _KEY_BYTES else None


def _read_own(path: Path, longest: int) -> bytes | None:
    """Read a regular file that is the user's alone; None for any other."""
    try:
        with open_regular(path) as (file, status):
            if not _is_own(status) or status.st_size > longest:
                return None
            return file.read(longest)
    except OSError:
        return None


def _is_own(status: os.stat_result) -> bool:
    """Whether a file is the user's alone."""
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
