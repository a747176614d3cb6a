"""The figures of contract §9, counted where they arise: free unless somebody wants them."""

import threading
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from agent.errors import TrustError
from agent.model import Decision, Kind, Outcome
from agent.pipeline.requirement import is_newer
from sandbox.errors import (
    CallError,
    CapabilityDenied,
    DeadlineExceeded,
    FuelExhausted,
    GuestExit,
    MemoryExceeded,
    PluginPanic,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of ``Metrics.prometheus``."""
_WENT_LIVE = (Kind.TRIAL, Kind.COMMITTED)
_ENDINGS: tuple[tuple[type[CallError], str], ...] = (
    (FuelExhausted, "fuel"),
    (MemoryExceeded, "memory"),
    (DeadlineExceeded, "deadline"),
    (CapabilityDenied, "denied"),
    (GuestExit, "exit"),
    (PluginPanic, "killed"),
)
_BOUNDS_S = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class Metrics:
    """Counts, where a meter was given; all methods may be called from any thread.

    Args:
        meter: Makes the instruments; None = off.
        text: Writes down what Prometheus asks for; None = nobody asks.
    """

    def __init__(
        self, meter: "Meter | None" = None, text: Callable[[], bytes] | None = None
    ) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._outdated: dict[str, bool] = {}
        self._succeeded: dict[str, float] = {}
        self._calls: Any = None
        if meter is not None:
            self._make(meter)

    def _make(self, meter: "Meter") -> None:
        self._calls = meter.create_counter("plugin.calls", description="Calls that began.")
        self._durations = meter.create_histogram(
            "plugin.call.duration",
            unit="s",
            description="Wall time of calls.",
            explicit_bucket_boundaries_advisory=_BOUNDS_S,
        )
        self._denials = meter.create_counter(
            "plugin.capability.denied", description="Calls that used what was not granted."
        )
        self._updates = meter.create_counter(
            "agent.updates", description="Runs over one plugin, by what they came to, and why."
        )
        self._pulled = meter.create_counter(
            "agent.pull.bytes", unit="By", description="Bytes of code and readme that arrived."
        )
        self._distrusted = meter.create_counter(
            "agent.signature.failures", description="Releases that signature or trust refused."
        )
        meter.create_observable_gauge(
            "agent.update.available",
            [self._see_outdated],
            description="Installed plugins of which a newer version is known than serves.",
        )
        meter.create_observable_gauge(
            "agent.last_success",
            [self._see_succeeded],
            unit="s",
            description="When a run over a plugin could last be done, since the epoch.",
        )

    @property
    def is_on(self) -> bool:
        """Whether anything is counted."""
        return self._calls is not None

    def prometheus(self) -> bytes:
        """All figures as Prometheus reads them; nothing where nobody said that it would ask."""
        if self._text is None:
            return b""
        with self._lock:  # whoever collects drains what another one is collecting
            return self._text()

    # -- calls

    def called(
        self, plugin_id: str, function: str, took_ms: float, error: CallError | None = None
    ) -> None:
        """A call that began is over.

        Args:
            plugin_id: The plugin.
            function: One that it exports: names that callers make up would have no end.
            took_ms: Its wall time.
            error: Why it did not succeed.
        """
        if not self.is_on:
            return
        facts = {"plugin.id": plugin_id, "plugin.function": function}
        self._durations.record(took_ms / 1000, facts)
        self._calls.add(1, {**facts, "plugin.outcome": _ending(error)})
        if isinstance(error, CapabilityDenied):
            self._denials.add(1, {"plugin.id": plugin_id, "plugin.capability": error.capability})

    # -- updates

    def pulled(self, count: int) -> None:
        """Bytes of a transfer arrived."""
        if self.is_on and count > 0:  # negative: they are to come again
            self._pulled.add(count)

    def distrusted(self, plugin_id: str, errors: Iterable[Exception]) -> None:
        """Of the errors that a run met, signature or trust said some."""
        if self.is_on:
            for error in errors:
                if isinstance(error, TrustError):
                    self._distrusted.add(1, {"plugin.id": plugin_id})

    def updated(self, outcome: Outcome, *, at: float) -> None:
        """A run over one plugin came to this.

        Args:
            outcome: With ``before``: what served until then.
            at: Seconds since the epoch.
        """
        if not self.is_on:
            return
        decision = Decision.of(outcome, at=at)
        said = {"agent.outcome": decision.outcome, "agent.reason": decision.reason}
        self._updates.add(1, said)
        with self._lock:
            if outcome.kind is not Kind.FAILED:
                self._succeeded[outcome.plugin_id] = at
            is_outdated = _is_outdated(outcome)
            if is_outdated is not None:
                self._outdated[outcome.plugin_id] = is_outdated

    def keep(self, plugin_ids: Collection[str]) -> None:
        """Nothing is said any more of plugins that are not installed now."""
        with self._lock:
            self._outdated = {i: one for i, one in self._outdated.items() if i in plugin_ids}
            self._succeeded = {i: at for i, at in self._succeeded.items() if i in plugin_ids}

    def _see_outdated(self, _: "CallbackOptions") -> "Iterable[Observation]":
        from opentelemetry.metrics import Observation

        known = list(self._outdated.values())
        return [Observation(sum(known))] if known else []

    def _see_succeeded(self, _: "CallbackOptions") -> "Iterable[Observation]":
        from opentelemetry.metrics import Observation

        return [Observation(at, {"plugin.id": i}) for i, at in list(self._succeeded.items())]


def _ending(error: CallError | None) -> str:
    """One word for how a call ended."""
    if error is None:
        return "ok"
    return next((word for kind, word in _ENDINGS if isinstance(error, kind)), "trap")


def _is_outdated(outcome: Outcome) -> bool | None:
    """Whether a newer version is known than serves after a run; None: it did not look."""
    if outcome.kind is Kind.ROLLED_BACK:
        return True  # the one that was left
    newest = outcome.newest or (outcome.after if outcome.error is not None else None)
    if newest is None:
        return False if outcome.kind is not Kind.PENDING and outcome.error is None else None
    serves = outcome.after if outcome.kind in _WENT_LIVE else outcome.before
    return serves is None or is_newer(newest, serves)
