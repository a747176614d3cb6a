"""From payload to compiled module: format, compilation, and the check of its imports."""

import re
from collections.abc import Collection

from wasmtime import FuncType, MemoryType, Module, WasmtimeError

from sandbox.binary import has_vectors_at_its_border
from sandbox.capabilities import (
    ABI,
    ABI_MODULE,
    CORE_IMPORTS,
    HOST_MODULES,
    WASI_IMPORTS,
    WASI_MODULE,
)
from sandbox.engine import new_engine
from sandbox.errors import BadModule, IncompatibleError
from sandbox.log import escape_text
from sandbox.shape import MEMORY, Import, Shape
from sandbox.signature import WasmType

_MAGIC = b"\0asm"
_CORE_VERSION = b"\x01\x00\x00\x00"
_COMPONENT_VERSION = b"\x0d\x00\x01\x00"

_MOST_ITEMS = 2_000
"""Of imports and of exports: the binding wraps each export again for every instance."""

_ABI_MODULE = re.compile(r"stack_composer_v([0-9]{1,9})")
_SHOWN_CHARACTERS = 300


def check_format(payload: bytes, *, name: str, max_module_bytes: int) -> None:
    """Refuse a payload that is too long or not a core module.

    Raises:
        BadModule: Too long, or not WebAssembly.
        IncompatibleError: A component; this version runs core modules only.
    """
    if len(payload) > max_module_bytes:
        raise BadModule(
            f"cannot load {name}: got {len(payload)} bytes, expected at most {max_module_bytes}; "
            "see sandbox.max_module_bytes"
        )
    version = payload[4:8]
    if not payload.startswith(_MAGIC) or version not in {_CORE_VERSION, _COMPONENT_VERSION}:
        raise BadModule(f"cannot load {name}: it is not a WebAssembly module")
    if version == _COMPONENT_VERSION:
        raise IncompatibleError(
            f"cannot load {name}: it is a component, this version runs core modules only; "
            "build it for wasm32-wasip1"
        )


def compile_module(payload: bytes, *, name: str) -> bytes:
    """Compile a core module to an artefact that ``Module.deserialize`` takes.

    Raises:
        BadModule: It is not valid, or uses a feature that the limits do not cover.
    """
    try:
        return bytes(Module(new_engine(), payload).serialize())
    except WasmtimeError as error:
        reason = escape_text(" ".join(str(error).split()))[:_SHOWN_CHARACTERS]
        raise BadModule(f"cannot load {name}: not a valid module: {reason}") from error


def refuse_vectors(payload: bytes, *, name: str) -> None:
    """Refuse a module with vectors at its border: asked for their type, the binding aborts.

    Args:
        payload: The module, compiled before.
        name: For messages.

    Raises:
        BadModule: A function that it imports or exports takes or returns a v128.
    """
    try:
        found = has_vectors_at_its_border(payload)
    except ValueError as error:
        raise BadModule(f"cannot load {name}: not a valid module: {error}") from error
    if found:
        raise BadModule(
            f"cannot load {name}: it imports or exports a function that takes or returns v128, "
            "expected i32, i64, f32 and f64 only"
        )


def shape_of(module: Module, *, name: str) -> Shape:
    """What a module needs and offers, as far as wasmtime tells; ask ``refuse_vectors`` before.

    Raises:
        BadModule: It has more imports or exports than any sane module.
    """
    imports, exports = module.imports, module.exports
    if len(imports) > _MOST_ITEMS or len(exports) > _MOST_ITEMS:
        raise BadModule(
            f"cannot load {name}: got {len(imports)} imports and {len(exports)} exports, "
            f"expected at most {_MOST_ITEMS} of each"
        )
    memories = [item.name for item in exports if isinstance(item.type, MemoryType)]
    return Shape(
        imports=tuple(Import(i.module, i.name or "", _wasm_type(i.type)) for i in imports),
        functions={
            item.name: kind for item in exports if (kind := _wasm_type(item.type)) is not None
        },
        memory=MEMORY if MEMORY in memories else next(iter(memories), None),
    )


def check_imports(shape: Shape, functions: Collection[Import], *, name: str) -> None:
    """Refuse a module that imports what no host function provides.

    Args:
        shape: The module's.
        functions: Those of its imports that are not the sandbox's own, and are provided.
        name: For messages.

    Raises:
        IncompatibleError: Names the import, and whether it is a newer ABI's.
    """
    for item in shape.imports:
        abi = _ABI_MODULE.fullmatch(item.module)
        if abi and item.module != ABI_MODULE:
            raise IncompatibleError(
                f"cannot load {name}: it imports {item} of host ABI {int(abi[1])}, this host has "
                f"{ABI}; upgrade the host or take an older version of the plugin"
            )
        if item.module == WASI_MODULE and item.name in WASI_IMPORTS and item.kind:
            continue  # the linker compares these types
        if item in functions:
            continue
        if item.module not in HOST_MODULES or item.name not in CORE_IMPORTS or not item.kind:
            raise IncompatibleError(
                f"cannot load {name}: it imports {item}, which no host function provides"
            )
        expected = CORE_IMPORTS[item.name].types
        if item.kind not in expected:
            raise IncompatibleError(
                f"cannot load {name}: it imports {item} as {item.kind}, "
                f"expected {' or '.join(map(str, expected))}"
            )


def _wasm_type(kind: object) -> WasmType | None:
    if not isinstance(kind, FuncType):
        return None
    return WasmType(tuple(map(str, kind.params)), tuple(map(str, kind.results)))
