"""``host_log``: a record in the host's log."""

from wasmtime import Caller

from sandbox.context import CallContext
from sandbox.hostfuncs import border


def host_log(context: CallContext, caller: Caller, level: int, pointer: int, length: int) -> None:
    """Log a message of the guest.

    Raises:
        GuestTrap: Out of bounds, or not UTF-8.
        StopCallError: Not granted, or no fuel for it.
    """
    context.demand("log")
    message = border.read_text(context, caller, pointer, length)
    context.log.record(level, message.encode("utf-8"), "host_log")
