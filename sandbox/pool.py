"""Room for one instance in an engine, cleaned between calls: to map it anew costs more than a call.

By wasmtime's private bindings, as ``raw``. Without it each instance takes its memory from the
operating system and gives it back.
"""

import mmap
import resource
import weakref

from wasmtime import Config, Engine, _ffi

from sandbox.count import Count
from sandbox.limits import Limits
from sandbox.timers import IS_AVAILABLE, TimedEngine

_MOST = Limits()
_ENTRY_BYTES = 8
WRITABLE_BYTES = _MOST.tables * _MOST.table_elements * _ENTRY_BYTES
"""What of a pool can be written to from the start: its tables. ``RLIMIT_DATA`` counts that."""

_SPARE_BYTES = 16 << 20
"""What an engine takes beside its pool, by far."""

_RESERVED_BYTES = 16 << 30
"""More address space than a pool takes; next to nothing of it is memory."""

_MOST_POOLS = 2_000
"""Each holds a few of the 65,530 mappings that a process may have."""

_SIZES = {
    "total_core_instances": 1,
    "total_memories": 1,
    "total_gc_heaps": 0,
    "total_stacks": 0,  # the default is a thousand, with mappings each
    "total_component_instances": 0,
    "total_tables": 8,
    "max_tables_per_module": 100,
    "table_elements": 1_000_000,
    "max_core_instance_size": 64 << 20,
    # wiped and kept, which spares a small guest its page faults
    "linear_memory_keep_resident": 128 << 10,
    "table_keep_resident": 8 << 10,
}


_KIND = TimedEngine if IS_AVAILABLE else Engine


_pools = Count()


def new_engine(config: Config) -> Engine:
    """An engine with a pool for one instance, or without one where there is no room for it."""
    if _pools.add(1) > _MOST_POOLS or not _has_room():
        _pools.add(-1)
        return new_wide_engine(config)
    _add_pool(config)
    engine = _KIND(config)
    weakref.finalize(engine, _pools.add, -1)
    return engine


def new_wide_engine(config: Config) -> Engine:
    """An engine without a pool."""
    return _KIND(config)


def _add_pool(config: Config) -> None:
    pool = _ffi.wasmtime_pooling_allocation_config_new()
    try:
        for name, value in _SIZES.items():
            getattr(_ffi, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
        _ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    finally:
        _ffi.wasmtime_pooling_allocation_config_delete(pool)


def _has_room() -> bool:
    """Whether a pool can be mapped: the library ends the process where it can't."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return False
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    try:
        mmap.mmap(-1, _RESERVED_BYTES, flags=flags, prot=0).close()
        mmap.mmap(-1, WRITABLE_BYTES + _SPARE_BYTES, flags=flags, prot=writable).close()
    except OSError:
        return False
    return True
