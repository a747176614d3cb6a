"""The functions that an application brings, and what stands in for them elsewhere."""

import json
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.capabilities import CAPABILITIES
from sandbox.context import CallContext, StopCallError
from sandbox.errors import RegistrationError
from sandbox.grammar import CAPABILITY
from sandbox.hostfuncs import border
from sandbox.hostfuncs.hints import Form, form_of
from sandbox.hostfuncs.threads import Threads
from sandbox.log import escape_text
from sandbox.signature import NUMBERS, WasmType

_LOG = logging.getLogger("stack_composer.sandbox")

_RESERVED = "host_"
_LONGEST_MS = 2**31 - 1
_SHOWN_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class HostFunction:
    """A function of the application that embeds the sandbox, importable by its name.

    Attributes:
        name: What modules import.
        capability: What a plugin needs to be granted to call it.
        call: The function.
        form: How it is called from wasm.
        timeout_s: How long a call of it may take; None = as long as the plugin's call may.
    """

    name: str
    capability: str
    call: Callable[..., object]
    form: Form
    timeout_s: float | None

    @classmethod
    def of(
        cls,
        call: Callable[..., object],
        *,
        name: str,
        capability: str,
        timeout_ms: int | None = None,
    ) -> "HostFunction":
        """Check a function, its name and its capability.

        Raises:
            RegistrationError: One of them can't be used; says which, and what can.
        """
        what = f"cannot register the host function {name!r}"
        if not _is_free(str(name)):
            raise RegistrationError(
                f"{what}: expected a name of a-z, 0-9 and _, as 'lookup'; those that begin with "
                f"{_RESERVED!r} are the sandbox's own"
            )
        if CAPABILITY.fullmatch(str(capability)) is None:
            raise RegistrationError(
                f"{what}: its capability is {capability!r}, expected a word of a-z, 0-9 and _"
            )
        if capability in CAPABILITIES:
            raise RegistrationError(
                f"{what}: its capability {capability!r} is the sandbox's own, expected another "
                f"word than {', '.join(CAPABILITIES)}"
            )
        # bool is an int in Python
        whole = isinstance(timeout_ms, int) and not isinstance(timeout_ms, bool)
        if timeout_ms is not None and not (whole and 1 <= timeout_ms <= _LONGEST_MS):
            raise RegistrationError(
                f"{what}: timeout_ms is {timeout_ms!r}, expected a whole number from 1 "
                f"to {_LONGEST_MS}"
            )
        timeout_s = None if timeout_ms is None else timeout_ms / 1000
        return cls(name, capability, call, form_of(call, name), timeout_s)


def can_stand_in(name: str, kind: WasmType) -> bool:
    """Whether an application could provide a function of that name and type."""
    return _is_free(name) and set(kind.params) <= set(NUMBERS) and kind.results in {(), ("i64",)}


def _is_free(name: str) -> bool:
    return CAPABILITY.fullmatch(name) is not None and not name.startswith(_RESERVED)


def answer(
    function: HostFunction, context: CallContext, threads: Threads, arguments: Sequence[object]
) -> str:
    """Run a function and tell the guest: ``ok`` and what it returned, or ``err`` and why not.

    Args:
        function: It.
        context: The call.
        threads: Run it.
        arguments: As its form says.

    Raises:
        StopCallError: The call has ended meanwhile.
    """

    def work() -> str:
        value = function.call(*arguments)
        # here too, because a value may have code of its own
        return json.dumps({"ok": value if function.form.answers else None}, allow_nan=False)

    name = function.name
    errand = threads.run(context, name, work, function.timeout_s)
    if errand is None:
        return border.err("unavailable", f"earlier calls of {name!r} have not returned yet")
    if not errand.ended:
        return border.err("timeout", f"{name!r} took longer than {function.timeout_s} s")
    if isinstance(errand.error, Exception):
        _tell(function, context, errand.error)
        return border.err("failed", f"{name!r} failed; the host's log says why")
    if errand.error is not None:  # KeyboardInterrupt and its like are for our caller
        context.fail(errand.error)
        raise StopCallError
    longest = context.limits.output_bytes
    if len(errand.text) > longest:
        return border.err("too_long", f"the answer of {name!r} is longer than {longest} bytes")
    return errand.text


def _tell(function: HostFunction, context: CallContext, error: Exception) -> None:
    """Log why a function failed: once a call, because a guest can call it in a loop."""
    if not context.tell_once(function.name):
        return
    # the guest's own text may be in the exception, and in no other line
    lines = traceback.format_tb(error.__traceback__)
    reason = "".join(traceback.format_exception_only(error)).strip()[:_SHOWN_CHARACTERS]
    _LOG.error(
        "the host function %s failed for %s: %s\n%s",
        function.name,
        context.plugin_id,
        escape_text(reason),
        "".join(lines),
    )
