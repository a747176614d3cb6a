"""Compiled code by payload: from the cache where it is ours, else compiled now."""

import contextlib
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from wasmtime import WasmtimeError

from sandbox.admission import Admission
from sandbox.aot import AotCache, Files, ForeignCodeError
from sandbox.binary import beginning
from sandbox.code import Code
from sandbox.compiling import compile_apart
from sandbox.engine import binding, new_engine
from sandbox.errors import BadModule
from sandbox.manifest import PluginManifest
from sandbox.module import check_format, refuse_vectors, shape_of
from sandbox.shape import Shape


@dataclass(frozen=True, slots=True)
class ForeignCode:
    """Compiled code in the cache that was not used.

    Attributes:
        plugin_id: The plugin that was loaded.
        version: Its version.
        release: The release's SHA-256 in hex; empty for a folder that nobody signed.
        reason: What is wrong with the file, which it names.
    """

    plugin_id: str
    version: str
    release: str
    reason: str


@dataclass(frozen=True, slots=True)
class Build:
    """A module, compiled.

    Attributes:
        code: The compiled code.
        shape: What the module needs and offers.
        payload_sha256: What it was compiled from, in hex.
        is_new: It was compiled just now.
    """

    code: Code
    shape: Shape
    payload_sha256: str
    is_new: bool


class Builds:
    """Gets modules compiled.

    Args:
        cache_dir: Where compiled code is kept, in a folder of its own; None = nowhere.
        files: Writes the cache.
        max_module_bytes: The largest payload that is compiled.
        on_foreign_code: Told of what lies in the cache and is not ours.
    """

    def __init__(
        self,
        cache_dir: Path | None,
        files: Files,
        max_module_bytes: int,
        on_foreign_code: Callable[[ForeignCode], None] | None,
    ) -> None:
        self._cache = AotCache(cache_dir / "aot", files, binding()) if cache_dir else None
        self._max_module_bytes = max_module_bytes
        self._on_foreign_code = on_foreign_code

    def get(self, payload: bytes, manifest: PluginManifest, admission: Admission) -> Build:
        """The compiled code of a payload.

        Args:
            payload: The module.
            manifest: Whose payload it is.
            admission: Its release, for what is told of the cache.

        Raises:
            BadModule: Too long, not a valid module, or not of the manifest's target.
            IncompatibleError: A component.
        """
        name = f"{manifest.id} {manifest.version}"
        check_format(payload, name=name, max_module_bytes=self._max_module_bytes)
        if manifest.wasm_target == "wasm32-wasip2":
            raise BadModule(
                f"cannot load {name}: it is a core module, and plugin.wasm_target says "
                "wasm32-wasip2"
            )
        digest = hashlib.sha256(payload).hexdigest()
        code = self._kept(digest, manifest, admission)
        if code is not None:
            # sealed code that this wasmtime does not take after all is compiled again
            with contextlib.suppress(WasmtimeError):
                return Build(code, _shape(code, payload, name), digest, is_new=False)
        code = compile_apart(payload, name=name)
        return Build(code, _shape(code, payload, name), digest, is_new=True)

    def keep(self, build: Build) -> None:
        """Put what was compiled just now into the cache; a disk that refuses is no error."""
        if self._cache is not None and build.is_new:
            self._cache.store(build.payload_sha256, build.code.read())

    def prune(self, keep: Collection[str]) -> None:
        """Remove compiled code, but for these payloads' (SHA-256 in hex).

        Raises:
            OSError: An entry can't be removed.
        """
        if self._cache is not None:
            self._cache.prune(keep)

    def forget(self, payload_sha256: str) -> None:
        """Remove the compiled code of a payload.

        Raises:
            OSError: An entry can't be removed.
        """
        if self._cache is not None:
            self._cache.remove(payload_sha256)

    def _kept(self, digest: str, manifest: PluginManifest, admission: Admission) -> Code | None:
        try:
            return None if self._cache is None else self._cache.load(digest)
        except ForeignCodeError as error:
            if self._on_foreign_code:
                found = ForeignCode(manifest.id, manifest.version, admission.release, str(error))
                self._on_foreign_code(found)
            return None


def _shape(code: Code, payload: bytes, name: str) -> Shape:
    refuse_vectors(payload, name=name)
    shape = shape_of(code.module(new_engine()), name=name)
    least_bytes, starts = beginning(payload)
    return replace(shape, least_memory_bytes=least_bytes, starts=starts)
