"""Compilation in a process of its own: bounded, and no trouble of ours where it fails."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from sandbox import BadModule, SandboxError, compiling
from sandbox.binary import imports, is_tiny
from sandbox.compiling import compile_apart
from sandbox.engine import new_engine
from support.sandbox import ECHO, plugin_files, sandbox
from support.wasm import BOMB, module, number, section, variables

LARGE = (
    "(module "
    + "".join(f'(func (export "f{n}") (result i32) i32.const {n})' for n in range(400))
    + ")"
)


def test_a_module_is_compiled_apart() -> None:
    """The code that comes back is what this process would have made, sealed."""
    payload = bytes(wat2wasm(LARGE))
    assert not is_tiny(payload)
    code = compile_apart(payload, name="x")
    names = [item.name for item in code.module(new_engine()).exports]
    assert names == [f"f{n}" for n in range(400)]
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(code._descriptor, b"x", 0)


def test_what_is_no_module_is_told_as_before() -> None:
    """The reason crosses from the compiler."""
    payload = bytes(wat2wasm(LARGE))[:-1] + b"\xff"
    with pytest.raises(BadModule, match="cannot load x: not a valid module"):
        compile_apart(payload, name="x")


def test_only_small_modules_are_compiled_here() -> None:
    """What costs a compiler much in few bytes counts, and data counts nothing."""
    assert is_tiny(bytes(wat2wasm(ECHO)))
    assert is_tiny(module(variables(500), variables(500)))
    assert not is_tiny(module(variables(500), variables(501)))
    assert not is_tiny(module(variables(2**32 - 1)))
    assert is_tiny(
        module(variables(1), more=section(11) + b"\0" + number(9000) + b"\x01x" + bytes(8998))
    )
    assert not is_tiny(module(*[variables(1)] * 1000))
    assert is_tiny(b"\0asm")
    assert is_tiny(b"\0asm\x01\0\0\0\x0a\x05\xff\xff\xff\xff\xff")


def test_a_number_without_an_end_is_no_number() -> None:
    """A module of nothing but one is told at once, however long it is."""
    endless = b"\0asm\x01\0\0\0\x01" + b"\xff" * 5_000_000
    assert is_tiny(endless)
    with pytest.raises(ValueError, match="too long"):
        imports(endless)


def test_imports_are_read_without_the_engine() -> None:
    """Their modules and names; a module that ends too early is told."""
    text = """(module (import "a" "b" (func)) (import "c" "memory" (memory 1 2))
      (import "d" "table" (table 1 funcref)) (import "e" "global" (global i32)))"""
    payload = bytes(wat2wasm(text))
    assert imports(payload) == [("a", "b"), ("c", "memory"), ("d", "table"), ("e", "global")]
    assert imports(bytes(wat2wasm(ECHO))) == []
    with pytest.raises(ValueError, match="ends too early"):
        imports(payload[:-3])


def test_a_compilation_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is refused when its time is over, and its process is gone."""
    monkeypatch.setattr(compiling, "TIMEOUT_S", 0.3)
    with pytest.raises(BadModule, match=r"longer than 0\.3 s to compile"):
        compile_apart(BOMB, name="x")


def test_a_compilation_has_a_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs more is refused; we live on."""
    monkeypatch.setattr(compiling, "MEM_BYTES", 32 << 20)
    with pytest.raises(BadModule, match="33554432 bytes of memory"):
        compile_apart(bytes(wat2wasm(LARGE)), name="x")


def test_without_a_compiler_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that Python can't be started from is told so."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with sandbox() as box, pytest.raises(SandboxError, match="the compiler does not start"):
        box.load(plugin_files(bytes(wat2wasm(LARGE)), entry='"f0"'))


def test_loads_of_many_threads_compile_side_by_side() -> None:
    """Each has a process of its own, and no descriptor is left."""
    payload = bytes(wat2wasm(LARGE))
    before = len(list(Path("/proc/self/fd").iterdir()))
    threads = [
        threading.Thread(target=compile_apart, args=(payload,), kwargs={"name": "x"})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_compiler_ends_with_its_parent() -> None:
    """Killed in the middle of a compilation, a host leaves no process behind."""
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path[:0] = {[str(root), str(root / 'tests')]!r}\n"
        "from support.wasm import module, variables\n"
        "from sandbox.compiling import compile_apart\n"
        "compile_apart(module(*[variables(50_000)] * 60_000), name='bomb')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (found := children.read_text().split()):
            assert process.poll() is None
        child = Path(f"/proc/{found[0]}/stat")
        process.kill()
        process.wait(30)
    until_s = time.monotonic() + 60  # minutes before the compilation could end
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until_s
