"""The host functions that no provider serves: denied, they trap; granted, they answer ``err``.

Contract section 8: a host function whose provider isn't set up answers ``unavailable``.
"""

import json

from sandbox import memory
from sandbox.context import CallContext
from sandbox.errors import GuestTrap
from sandbox.hostfuncs import border

_MOST_STREAMS = 64


def _unavailable(capability: str) -> str:
    return border.err("unavailable", f"this host has no provider for {capability!r}")


def retrieval_search(
    context: CallContext, caller: object, pointer: int, length: int, _most: int
) -> int:
    """``host_retrieval_search``: no index to search."""
    context.demand("retrieval")
    border.read_text(context, caller, pointer, length)
    return border.reply(context, caller, _unavailable("retrieval"))


def llm_chat(context: CallContext, caller: object, pointer: int, length: int) -> int:
    """``host_llm_chat``: a handle; the failure is what its first ``next`` says.

    Raises:
        GuestTrap: Out of bounds, not UTF-8, or too many handles.
        StopCallError: Not granted, or no fuel for it.
    """
    context.demand("llm")
    border.read_text(context, caller, pointer, length)
    if len(context.streams) >= _MOST_STREAMS:
        raise GuestTrap(
            f"cannot open another stream: {_MOST_STREAMS} are open", code="TOO_MANY_HANDLES"
        )
    handle = len(context.streams) + 1
    context.streams[handle] = [json.dumps({"ok": None}), _unavailable("llm")]
    return handle


def llm_next(context: CallContext, caller: object, handle: int) -> int:
    """``host_llm_next``: the failure first, then the end.

    Raises:
        GuestTrap: A handle that was never given out.
        StopCallError: Not granted, or no fuel for it.
    """
    context.demand("llm")
    answers = context.streams.get(handle)
    if answers is None:
        raise GuestTrap(f"cannot go on with handle {handle}", code="UNKNOWN_HANDLE")
    return border.reply(context, caller, answers.pop() if len(answers) > 1 else answers[0])


def plan(context: CallContext, caller: object, *texts: int) -> int:
    """``host_plan``: no planner; four parameters, or two pointers to NUL-terminated text."""
    context.demand("plan")
    if len(texts) == 4:  # noqa: PLR2004  # two pointers with their lengths
        border.read_text(context, caller, texts[0], texts[1])
        border.read_text(context, caller, texts[2], texts[3])
    else:
        memory.find(context, caller)
        for pointer in texts:
            longest = context.limits.output_bytes
            text = memory.read_c_text(context, pointer, longest_bytes=longest)
            context.charge(len(text) * border.BYTE_FUEL)
    return border.reply(context, caller, _unavailable("plan"))


def fetch(
    context: CallContext, caller: object, url: int, url_length: int, body: int, body_length: int
) -> int:
    """``host_fetch``: no way out."""
    context.demand("network")
    border.read_text(context, caller, url, url_length)
    border.read_text(context, caller, body, body_length)
    return border.reply(context, caller, _unavailable("network"))
