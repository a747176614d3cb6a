"""Why a call ended, told from its context, the clock, the fuel and the trap, in that order.

What comes out of the binding is the last thing to believe: it can be the exception of a
host function on another thread.
"""

import errno

from wasmtime import Trap, TrapCode, WasmtimeError

from sandbox.context import CallContext, StopCallError
from sandbox.errors import GuestExit, GuestTrap, MemoryExceeded, SandboxError
from sandbox.log import escape_text

_FULL_PARTS = 16
_SHOWN_CHARACTERS = 300
_NO_MEMORY = f"(os error {errno.ENOMEM})"


def ending(context: CallContext, raised: BaseException | None) -> BaseException | None:
    """The error of a call, or None where it succeeded.

    Args:
        context: The call, its store still open.
        raised: What came out of the guest or of reading its result.
    """
    if context.error is not None:
        if not isinstance(context.error, Trap | WasmtimeError):
            return context.error
        raised = context.error  # the guest's alloc trapped within a host function
    elif context.exit_code is not None and (context.exit_code or not context.is_command):
        code = context.exit_code
        return GuestExit(f"cannot finish {context.func}: it ended with exit code {code}", code=code)
    if isinstance(raised, SandboxError):
        return raised
    if raised is None or isinstance(raised, StopCallError):
        return context.overdue() if context.remaining_s <= 0 else None
    return _trap(context, raised)


def _trap(context: CallContext, raised: BaseException) -> SandboxError:
    code = trap_code(raised)
    if code is None and context.require_store().get_fuel() == 0:
        code = TrapCode.OUT_OF_FUEL.name
    elif code is None and context.remaining_s <= 0:
        code = TrapCode.INTERRUPT.name
    if code == TrapCode.INTERRUPT.name or context.cancelled:
        return context.overdue()
    if code == TrapCode.OUT_OF_FUEL.name:
        return context.exhausted()
    text = escape_text(" ".join(str(raised).split()))[:_SHOWN_CHARACTERS]
    if _is_full(context) or "exceeds memory limits" in text or "exceeds table limits" in text:
        return MemoryExceeded(
            f"cannot finish {context.func}: it needs more memory than its "
            f"{context.limits.mem_bytes} bytes; {context.remedy('mem_bytes')}"
        )
    if is_starved(raised):
        return starved(f"finish {context.func}")
    return GuestTrap(
        f"cannot finish {context.func}: the guest trapped: {code or text}", code=code or "UNKNOWN"
    )


def is_starved(raised: BaseException) -> bool:
    """Whether the operating system refused the engine memory."""
    return _NO_MEMORY in str(raised)


def starved(what: str) -> MemoryExceeded:
    """The error of what could not be done then."""
    return MemoryExceeded(f"cannot {what}: the operating system gives its process no more memory")


def trap_code(raised: BaseException | None) -> str | None:
    """The name of a trap's code; None where it has none, or is no trap."""
    if not isinstance(raised, Trap):
        return None
    try:
        code = raised.trap_code
    except ValueError:  # a code that the binding has no name for
        return None
    return code.name if code else None


def _is_full(context: CallContext) -> bool:
    """Whether the guest filled its memory, so that it most likely trapped for want of it.

    A refused growth is -1 in the guest and nothing here. Allocators grow by more than a
    page, so that the last growth that fitted can end a little below the limit.
    """
    limit = context.limits.mem_bytes
    return context.require_store().peak_bytes() > limit - limit // _FULL_PARTS
