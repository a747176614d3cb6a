"""What of a module can be called: its exports against the manifest's ``[exports]``. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sandbox.arguments import Lowered
from sandbox.errors import BadModule, MissingExport
from sandbox.manifest import PluginManifest
from sandbox.shape import Shape
from sandbox.signature import COMMAND, Signature, WasmType, default_signature

START = "_start"
INITIALIZE = "_initialize"
ALLOC = "alloc"
DEALLOC = "dealloc"

_INTERNAL = {
    INITIALIZE: WasmType((), ()),
    ALLOC: WasmType(("i32",), ("i32",)),
    DEALLOC: WasmType(("i32", "i32"), ()),
}


def signatures(manifest: PluginManifest, shape: Shape) -> Mapping[str, Signature]:
    """The callable functions by name.

    Raises:
        MissingExport: ``entry``, ``[health]`` or ``[exports]`` names what is not a function of
            the module.
        BadModule: ``[exports]`` says another type than the module, or a function that has a
            meaning of its own in the ABI has the wrong type.
    """
    name = f"{manifest.id} {manifest.version}"
    found: dict[str, Signature] = {}
    for func, wasm in shape.functions.items():
        expected = WasmType((), ()) if func == START else _INTERNAL.get(func)
        if expected and wasm != expected:
            raise BadModule(f"cannot load {name}: {func} is {wasm}, expected {expected}")
        signature = COMMAND if func == START else default_signature(wasm)
        if signature and func not in _INTERNAL:
            found[func] = signature
    for func, signature in manifest.exports.items():
        declared = shape.functions.get(func)
        if declared is None or func in _INTERNAL:
            raise _missing(name, f"[exports.{func}]", func, found)
        if func != START and declared != signature.lowered():
            raise BadModule(
                f"cannot load {name}: [exports.{func}] says {signature}, which is "
                f"{signature.lowered()}, and the module has {declared}"
            )
        found[func] = signature
    if manifest.entry not in found:
        raise _missing(name, "plugin.entry", manifest.entry, found)
    if manifest.health and manifest.health.func not in found:
        raise _missing(name, "health.func", manifest.health.func, found)
    return MappingProxyType(found)


def require_abi(func: str, signature: Signature, lowered: Sequence[Lowered], shape: Shape) -> None:
    """Check that text can cross, before the call.

    Raises:
        MissingExport: The module lacks the ``memory`` or the ``alloc`` that this call needs.
    """
    if func == START:
        return
    if not shape.has_memory and signature.needs_memory:
        raise MissingExport(f"cannot call {func}: the module does not export 'memory'")
    if ALLOC not in shape.functions and any(isinstance(i, bytes) and i for i in lowered):
        raise MissingExport(f"cannot call {func}: the module does not export alloc(len i32) -> i32")


def _missing(name: str, key: str, func: str, found: Mapping[str, Signature]) -> MissingExport:
    offered = ", ".join(found) or "no function that can be called"
    return MissingExport(
        f"cannot load {name}: {key} names {func!r}, which the module does not export; "
        f"it exports {offered}"
    )
