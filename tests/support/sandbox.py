"""Plugins written as WebAssembly text, loaded through the sandbox's own door."""

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wasmtime import wat2wasm

from agent.files import Files
from sandbox import Admission, ForeignCode, Limits, LogRecord, Plugin, PluginFiles, Sandbox
from sandbox.admission import Isolation
from sandbox.isolate.process import ProcessRunner
from sandbox.manifest import PluginManifest, parse_manifest
from sandbox.raw import _engines

HOST_VERSION = "0.1.0"

_WAIT_S = 30
_OF_THE_ENGINE = {"anon_inode:[eventpoll]", "anon_inode:[eventfd]"}
"""What wasmtime opens once in a process, with the first guest that reads stdin."""

CODE = "/memfd:code (deleted)"
"""A module's compiled code, as a descriptor's link shows it."""

_where: list[Isolation] = ["inline"]

BUMP = """
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 1024))
  (func $alloc (export "alloc") (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (global.get $heap) (local.get $len)))
    (local.get $at))
"""
"""A memory of two pages and an allocator that never frees."""

ECHO = f"""(module {BUMP}
  (func (export "run") (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
            (i64.extend_i32_u (local.get $len)))))"""
"""``run`` gives back its string."""

READ_FILE = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "open") (param i32 i32) (result i32)
    (call $open (i32.const 3) (i32.const 0) (local.get 0) (local.get 1)
      (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
  (func (export "create") (param i32 i32) (result i32)
    (call $open (i32.const 3) (i32.const 0) (local.get 0) (local.get 1)
      (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)))
  (func (export "run") (param i32 i32) (result i64)
    (if (call $open (i32.const 3) (i32.const 0) (local.get 0) (local.get 1)
      (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)) (then unreachable))
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.const 1024))
    (drop (call $read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))
    (i64.or (i64.const 4398046511104) (i64.extend_i32_u (i32.load (i32.const 16))))))"""
"""``run`` reads a file below ``/plugin/data``; ``open`` and ``create`` give the error's number."""

READ_EXPORTS = """
[exports.open]
params = ["string"]
result = "i32"
[exports.create]
params = ["string"]
result = "i32"
"""


def host_call(name: str, params: str, body: str, *, module: str = "stack_composer_v1") -> str:
    """A plugin whose ``run`` gives back the answer of one host function."""
    return f"""(module (import "{module}" "{name}" (func $host {params} (result i64))) {BUMP}
      (data (i32.const 0) "text")
      (func (export "run") (result i64) (call $host {body})))"""


def satisfies(version: str, requirement: str) -> bool:
    """Stand in for Cargo's requirement syntax: ``>=`` and a version, nothing else."""
    if not requirement.startswith(">="):
        message = f"not a requirement: {requirement}"
        raise ValueError(message)
    return tuple(version.split(".")) >= tuple(requirement[2:].split("."))


def parse(data: bytes, name: str) -> PluginManifest:
    """Parse a manifest as a 0.1.0 host does."""
    return parse_manifest(data, name=name, host_version=HOST_VERSION, satisfies=satisfies)


def manifest_text(extra: str = "", *, without: str = "", **plugin: str) -> str:
    """A whole manifest; ``plugin`` replaces keys of ``[plugin]`` by TOML values."""
    keys: dict[str, str] = {
        "id": '"org.example.hello"',
        "version": '"0.1.0"',
        "wasm_target": '"wasm32-wasi"',
        "signature": '"file:hello.sig"',
        "capabilities": "[]",
        "entry": '"run"',
    }
    keys.update(plugin)
    lines = [f"{key} = {value}" for key, value in keys.items() if key != without]
    meta = "" if "[meta]" in extra else '[meta]\nname = "Hello"\n'
    return "[plugin]\n" + "\n".join(lines) + "\n" + meta + extra


def plugin_files(wat: str | bytes, extra: str = "", **plugin: str) -> PluginFiles:
    """The bytes of a plugin; ``wat`` is text to assemble, or a payload as it is."""
    payload = bytes(wat2wasm(wat)) if isinstance(wat, str) else wat
    manifest = manifest_text(extra, **plugin).encode()
    return PluginFiles("hello", payload, None, manifest, Path("/nowhere"))


@contextmanager
def sandbox(
    admission: Admission | None = None,
    *,
    cache_dir: Path | None = None,
    on_log: Callable[[LogRecord], None] | None = None,
    on_foreign_code: Callable[[ForeignCode], None] | None = None,
    max_module_bytes: int = 1 << 20,
    on_crash_loop: Callable[[str, str, str], None] | None = None,
    stands_in: bool = False,
) -> Iterator[Sandbox]:
    """A sandbox that admits every plugin as told."""
    verdict = admission or admit()
    box = Sandbox(
        verify=lambda _: verdict,
        parse=parse,
        cache_dir=cache_dir,
        files=Files(),
        max_module_bytes=max_module_bytes,
        on_log=on_log,
        on_crash_loop=on_crash_loop,
        on_foreign_code=on_foreign_code,
        stands_in=stands_in,
    )
    try:
        yield box
    finally:
        box.close()


def zygote_of(plugin: Plugin) -> int:
    """The process that forks the child of a plugin in one of its own."""
    assert isinstance(plugin._runner, ProcessRunner)
    process = plugin._runner._nursery._process
    assert process is not None
    return process.pid


def descendants(of: int | None = None) -> set[int]:
    """The processes that this one has started, and those they have, as far as they are not over.

    Args:
        of: Another process that they shall be of.
    """
    root = os.getpid() if of is None else of
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # after the name, which is in brackets and may hold anything
                state, parent = (entry / "stat").read_text("utf-8").rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def descriptors() -> set[tuple[str, str]]:
    """This process's open descriptors and what is behind them."""
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            links.add((entry.name, str(entry.readlink())))
    return links


@contextmanager
def nothing_left() -> Iterator[None]:
    """At the end of the block there is no thread, process or descriptor more than before."""
    threads, open_before, running_before = set(threading.enumerate()), descriptors(), descendants()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(_WAIT_S)
        assert not thread.is_alive(), thread
    gc.collect()  # an error holds its traceback, and that a plugin
    left = {item for item in descriptors() - open_before if item[1] not in _OF_THE_ENGINE}
    # an engine that rests after a deadline holds the code that it ran last
    code = {item for item in left if item[1] == CODE}
    assert len(code) <= len(_engines._resting), code
    assert left == code, left - code
    assert not descendants() - running_before


@contextmanager
def running(isolation: Isolation) -> Iterator[None]:
    """Where plugins run whose admission does not say."""
    _where.append(isolation)
    try:
        yield
    finally:
        _where.pop()


def admit(
    *granted: str,
    log: bool = True,
    data_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
    isolation: Isolation | None = None,
    **limits: int,
) -> Admission:
    """What an operator says: capabilities beside ``log``, limits that differ, and where it runs.

    Without a word on that it is where ``running`` says.
    """
    return Admission(
        granted=frozenset(granted) | ({"log"} if log else set()),
        limits=Limits(**limits),
        data_dir=data_dir,
        settings=settings or {},
        isolation=isolation or _where[-1],
    )


@contextmanager
def loaded(
    wat: str | bytes,
    admission: Admission | None = None,
    *,
    extra: str = "",
    on_log: Callable[[LogRecord], None] | None = None,
    **plugin: str,
) -> Iterator[Plugin]:
    """A plugin, loaded; closed with its sandbox at the end."""
    with sandbox(admission, on_log=on_log) as box:
        yield box.load(plugin_files(wat, extra, **plugin))
