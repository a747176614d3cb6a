"""The engine's configuration: what wasm may be, and that fuel and epochs are on."""

import hashlib
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from wasmtime import Config, Engine

_OFF = (
    "wasm_threads",  # a shared memory is outside the store's limits
    "shared_memory",
    "wasm_multi_memory",  # the memory limit is per memory
    "wasm_memory64",  # the ABI's pointers are 32 bits
    "wasm_gc",  # a heap of its own, beside the memory limit
    "wasm_function_references",
    "wasm_exceptions",
    "wasm_stack_switching",
    "wasm_component_model",
    "gc_support",
)

_STACK_BYTES = 512 * 1024
"""Of the calling thread's stack, which must be larger: 8 MiB is usual, 16 MiB here aborts."""


def new_engine(make: Callable[[Config], Engine] = Engine) -> Engine:
    """An engine with fuel, epochs and only the wasm features the limits cover.

    Args:
        make: Makes it; may choose what code does not depend on.
    """
    config = Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.max_wasm_stack = _STACK_BYTES
    for feature in _OFF:
        setattr(config, feature, False)
    return make(config)


def binding() -> bytes:
    """What compiled code is good for: this wasmtime, this configuration, this processor."""
    parts = (
        version("wasmtime"),
        ",".join(_OFF),
        str(_STACK_BYTES),
        platform.system(),
        platform.machine(),
        _processor_features(),
    )
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _processor_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    names = ("flags", "Features")
    return next((line for line in lines if line.startswith(names)), platform.processor())
