"""What a plugin can ask for, and the core imports behind each name (contract section 8). Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.signature import WasmType

ABI = 1
"""The host ABI this version speaks."""

ABI_MODULE = f"stack_composer_v{ABI}"
HOST_MODULES = (ABI_MODULE, "env")
"""Where host functions are imported from; ``env`` is read as an alias."""

_I64 = ("i64",)
_TEXT = ("i32", "i32")


@dataclass(frozen=True, slots=True)
class HostImport:
    """One importable host function.

    Attributes:
        capability: What the plugin needs to be granted.
        types: The wasm types it may be declared with; the import's own chooses.
    """

    capability: str
    types: tuple[WasmType, ...]


CORE_IMPORTS: dict[str, HostImport] = {
    "host_log": HostImport("log", (WasmType(("i32", *_TEXT), ()),)),
    "host_retrieval_search": HostImport("retrieval", (WasmType((*_TEXT, "i32"), _I64),)),
    "host_llm_chat": HostImport("llm", (WasmType(_TEXT, _I64),)),
    "host_llm_next": HostImport("llm", (WasmType(("i64",), _I64),)),
    # two parameters: NUL-terminated strings
    "host_plan": HostImport("plan", (WasmType((*_TEXT, *_TEXT), _I64), WasmType(_TEXT, _I64))),
    "host_fetch": HostImport("network", (WasmType((*_TEXT, *_TEXT), _I64),)),
}

CAPABILITIES: dict[str, tuple[str, ...]] = {
    "log": ("host_log",),
    "retrieval": ("host_retrieval_search",),
    "llm": ("host_llm_chat", "host_llm_next"),
    "plan": ("host_plan",),
    "network": ("host_fetch",),
    "fs_read": (),  # WASI file calls on a read-only folder; there is no import of ours
}

WASI_MODULE = "wasi_snapshot_preview1"

WASI_IMPORTS = frozenset({
    *("args_get", "args_sizes_get", "environ_get", "environ_sizes_get"),
    *("clock_res_get", "clock_time_get", "poll_oneoff", "random_get", "sched_yield"),
    *("fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get"),
    *("fd_fdstat_set_flags", "fd_fdstat_set_rights", "fd_filestat_get"),
    *("fd_filestat_set_size", "fd_filestat_set_times", "fd_pread", "fd_prestat_dir_name"),
    *("fd_prestat_get", "fd_pwrite", "fd_read", "fd_readdir", "fd_renumber", "fd_seek"),
    *("fd_sync", "fd_tell", "fd_write"),
    *("path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_link"),
    *("path_open", "path_readlink", "path_remove_directory", "path_rename", "path_symlink"),
    *("path_unlink_file", "proc_exit", "proc_raise"),
    *("sock_accept", "sock_recv", "sock_send", "sock_shutdown"),
})  # fmt: skip
"""All of preview 1; what has no meaning here is importable and answers an error."""


def effective(requested: Iterable[str], granted: Iterable[str]) -> frozenset[str]:
    """What a plugin may do: requested ∩ granted, and ``log`` unless it is denied."""
    allowed = frozenset(granted)
    return (frozenset(requested) | {"log"}) & allowed
