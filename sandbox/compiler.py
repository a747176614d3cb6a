"""The compiler, in a process of its own: a module can take all the time and memory it finds.

The parent (``compiling``) spawns it for one module and kills it when its time is over. The
memory is bounded by the operating system; what is too much ends this process and no other.
"""

import ctypes
import os
import resource
import signal
import sys

from sandbox.errors import BadModule
from sandbox.module import compile_module

REFUSED = 3
"""The exit code where the module is not one; the reason is in place of the artefact."""

_PR_SET_PDEATHSIG = 1


def main(parent: int, source: int, target: int, mem_bytes: int, name: str) -> None:
    """Compile one module.

    Args:
        parent: The process that waits for it.
        source: A descriptor with the module.
        target: One for the artefact, or for the reason why there is none.
        mem_bytes: The address space it may use, and the largest artefact.
        name: For messages.
    """
    _confine(parent, mem_bytes)
    payload = os.pread(source, os.fstat(source).st_size, 0)
    try:
        result, code = compile_module(payload, name=name), 0
    except BadModule as error:
        result, code = str(error).encode(), REFUSED
    with os.fdopen(target, "wb") as file:
        file.write(result)
    raise SystemExit(code)


def _confine(parent: int, mem_bytes: int) -> None:
    if sys.platform == "linux":
        # its parent may be killed while it works, or was before this line
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(1)
    for limit, most in (
        (resource.RLIMIT_AS, mem_bytes),
        (resource.RLIMIT_FSIZE, mem_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
