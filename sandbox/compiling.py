"""Compilation out of this process: bounded in time and memory, and never after a fork."""

import os
import subprocess
import sys
from pathlib import Path

from sandbox.binary import is_tiny
from sandbox.code import Code, new_memory
from sandbox.compiler import REFUSED
from sandbox.errors import BadModule, SandboxError
from sandbox.module import compile_module

TIMEOUT_S = 120.0
MEM_BYTES = 4 << 30
"""Of address space, which a compiler of 64 MiB of code stays within."""

_MOST_REASON_BYTES = 4096
_START = """
import sys
sys.path[:] = sys.argv[6:]
from sandbox.compiler import main
main(*map(int, sys.argv[1:5]), sys.argv[5])
"""


def compile_apart(payload: bytes, *, name: str) -> Code:
    """Compile a module, in a process of its own unless it is tiny.

    Args:
        payload: The module.
        name: For messages.

    Raises:
        BadModule: It is not valid, uses what the limits do not cover, or takes more time or
            memory than a compilation may.
        SandboxError: The compiler can't be started.
    """
    if is_tiny(payload):
        return Code.of(compile_module(payload, name=name))
    source, target = new_memory("module"), new_memory("code")
    try:
        with os.fdopen(source, "wb", closefd=False) as file:
            file.write(payload)
        status = _run(source, target, name)
        if status == 0:
            code, target = Code.seal(target), -1
            return code
        reason = os.pread(target, _MOST_REASON_BYTES, 0).decode("utf-8", "replace")
        if status == REFUSED and "out of memory" not in reason:
            raise BadModule(reason)
        raise BadModule(
            f"cannot load {name}: the compiler ended with {status}; "
            f"it has {MEM_BYTES} bytes of memory for {len(payload)} bytes of code"
        )
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)


def _run(source: int, target: int, name: str) -> int:
    """Run the compiler; its exit code, negative for a signal."""
    numbers = map(str, (os.getpid(), source, target, MEM_BYTES))
    paths = [str(Path(path).absolute()) for path in sys.path]
    command = [sys.executable, "-I", "-c", _START, *numbers, name, *paths]
    # a Python built with a library of its own needs to find that, and nothing else of ours
    environment = {key: value for key, value in os.environ.items() if key == "LD_LIBRARY_PATH"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(source, target),
            cwd="/",
            env=environment,
            start_new_session=True,  # Ctrl-C is for us: we end it
        )
    except OSError as error:
        raise SandboxError(f"cannot load {name}: the compiler does not start: {error}") from error
    with process:
        try:
            return process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BadModule(
                f"cannot load {name}: it takes longer than {TIMEOUT_S:g} s to compile"
            ) from None
        finally:
            process.kill()
