"""The state of one call, shared by the caller and the host functions the guest calls.

What ends a call is recorded here and not raised through wasmtime: its binding keeps the
exception of a host function in one variable for all threads, and another thread can get it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wasmtime import Engine

from sandbox.cell import Cell
from sandbox.errors import CapabilityDenied, DeadlineExceeded, FuelExhausted
from sandbox.folder import Folder
from sandbox.limits import Limits
from sandbox.log import CallLog

Ask = Callable[[str, set[str]], str | None]
"""Why a capability whose grant has an end can't be used now; see ``Allowance.refusal``."""


def _nothing_ends(_capability: str, _counted: set[str]) -> str | None:
    return None


class StopCallError(Exception):
    """Unwinds a host function after the call's end has been recorded; never leaves it."""


@dataclass(slots=True)
class CallContext:
    """One call: what it may do, what it has done, and why it ended.

    Attributes:
        plugin_id: For errors and records.
        func: The function that was asked for.
        limits: The call's bounds.
        allowed: The capabilities it may use.
        argv: A command's stem and arguments.
        log: Takes what the guest says.
        is_command: ``_start`` runs: stdout is the result.
        own_limits: The names of those bounds that the plugin itself asked for.
        started_s: ``time.monotonic()`` at the request.
        store: The call's store and its instance, once there is one.
        engine: Where the guest runs, once it is armed.
        environment: What the guest sees of settings, each ended by a NUL as in its memory.
        folder: What the guest sees of the disk; None = nothing.
        error: What a host function ended the call with.
        exit_code: What the guest gave to ``proc_exit``.
        fuel_left: The fuel at that end.
        host_fuel: What host functions were charged.
        stdout: What a command wrote so far.
        stderr: The same for stderr, cut at the log's budget.
        streams: Handles given out by ``host_llm_chat``, with what is left to say.
        bounded: Those capabilities that have an end; ``refusal`` asks each time.
        ask: Why one of them can't be used now; see ``Allowance.refusal``.
        counted: Those of them for which this call was counted.
        told: The application's functions whose failure in this call has been logged.
        replying: A host function is in the guest's ``alloc``.
        cancelled: The caller no longer waits.
        waiting: What a host function waits for.
    """

    plugin_id: str
    func: str
    limits: Limits
    allowed: frozenset[str]
    argv: tuple[str, ...]
    log: CallLog
    is_command: bool
    own_limits: frozenset[str] = frozenset()
    started_s: float = field(default_factory=time.monotonic)
    store: Cell | None = None
    engine: Engine | None = None
    environment: Sequence[bytes] = ()
    folder: Folder | None = None
    error: BaseException | None = None
    exit_code: int | None = None
    fuel_left: int | None = None
    host_fuel: int = 0
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    streams: dict[int, list[str]] = field(default_factory=dict)
    bounded: frozenset[str] = frozenset()
    ask: Ask = _nothing_ends
    counted: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    replying: bool = False
    cancelled: bool = False
    waiting: threading.Event | None = None

    @property
    def arguments(self) -> Sequence[bytes]:
        """The arguments, each ended by a NUL as in the guest's memory."""
        return [text.encode() + b"\0" for text in self.argv]

    @property
    def deadline_s(self) -> float:
        """When the call must be over, on the clock of ``time.monotonic()``."""
        return self.started_s + self.limits.wall_timeout_ms / 1000

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline; 0 once it has passed."""
        return max(0.0, self.deadline_s - time.monotonic())

    @property
    def ended(self) -> bool:
        """Whether a host function has ended the call."""
        return self.error is not None or self.exit_code is not None

    def charge(self, units: int) -> None:
        """Take fuel for host work.

        Raises:
            StopCallError: There was not enough; the call has ended.
        """
        store = self.require_store()
        left = store.get_fuel() - units
        if left <= 0:
            self.fail(self.exhausted(), fuel_left=0)
            raise StopCallError
        self.host_fuel += units
        store.set_fuel(left)

    def fail(self, error: BaseException, *, fuel_left: int | None = None) -> None:
        """End the call with an error; the first one counts."""
        if not self.ended:
            self.error = error
            self._stop(fuel_left)

    def exit(self, code: int) -> None:
        """End the call as ``proc_exit`` does."""
        if not self.ended:
            self.exit_code = code
            self._stop(None)

    def cancel(self) -> None:
        """Say that the caller no longer waits; a host function that waits goes on."""
        self.cancelled = True  # before the look at what is waited for: wait_for does the reverse
        waiting = self.waiting
        if waiting is not None:
            waiting.set()

    def wait_for(self, event: threading.Event, timeout_s: float | None) -> None:
        """Wait in a host function, never beyond the call's end.

        Args:
            event: What to wait for; ``cancel`` sets it too.
            timeout_s: How long at most; None = until the deadline.

        Raises:
            StopCallError: The deadline has passed, or the caller no longer waits.
        """
        left_s = min(self.remaining_s, threading.TIMEOUT_MAX)
        self.waiting = event
        if not self.cancelled:
            event.wait(left_s if timeout_s is None else min(left_s, timeout_s))
        self.waiting = None
        self.go_on()

    def go_on(self) -> None:
        """Go on with a host function only within the call's time.

        Raises:
            StopCallError: The deadline has passed, or the caller no longer waits.
        """
        if self.remaining_s <= 0 or self.cancelled:
            self.fail(self.overdue())
            raise StopCallError

    def tell_once(self, name: str) -> bool:
        """Whether a failure of an application's function is the first to be logged in this call.

        A guest can call it in a loop.
        """
        is_first = name not in self.told
        self.told.add(name)
        return is_first

    def demand(self, capability: str) -> None:
        """Go on only with a capability; the call counts where the grant is good for some calls.

        Raises:
            StopCallError: It is not granted, or not any more; the call has ended.
        """
        reason = self.refusal(capability)
        if reason is not None:
            raise self.deny(capability, reason)
        if capability not in self.allowed:
            raise self.deny(capability)

    def refusal(self, capability: str) -> str | None:
        """Why a granted capability can't be used now; None: it can, and that was counted."""
        return self.ask(capability, self.counted) if capability in self.bounded else None

    def deny(self, capability: str, reason: str = "it is not granted") -> StopCallError:
        """End the call because a capability is missing; raise what this returns."""
        self.fail(
            CapabilityDenied(
                f"cannot let {self.plugin_id} use {capability!r}: {reason}; "
                f"see: agent grants {self.plugin_id}",
                capability=capability,
            )
        )
        return StopCallError()

    def overdue(self) -> DeadlineExceeded:
        """The error of a call that took too long."""
        return DeadlineExceeded(
            f"cannot finish {self.func}: it took longer than {self.limits.wall_timeout_ms} ms; "
            + self.remedy("wall_timeout_ms")
        )

    def exhausted(self) -> FuelExhausted:
        """The error of a call that used up its fuel."""
        return FuelExhausted(
            f"cannot finish {self.func}: it used up its fuel of {self.limits.fuel_units} units, "
            f"{self.host_fuel} of them in host functions; {self.remedy('fuel_units')}"
        )

    def remedy(self, bound: str) -> str:
        """Which key raises a bound, for the end of a message."""
        if bound in self.own_limits:
            return f"its own manifest asks for no more: [limits] {bound}"
        return f'raise limits.{bound}, or plugins."{self.plugin_id}".limits.{bound} for it alone'

    def require_store(self) -> Cell:
        """The call's store; there is one whenever guest code runs."""
        if self.store is None:
            message = "no guest runs in this call"
            raise RuntimeError(message)
        return self.store

    def _stop(self, fuel_left: int | None) -> None:
        if self.store is None:
            return
        self.fuel_left = self.store.get_fuel() if fuel_left is None else fuel_left
        # without fuel the guest traps at its next branch or call; host functions refuse till then
        self.store.set_fuel(0)
