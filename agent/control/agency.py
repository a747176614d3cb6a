"""What the control API needs of the service: Protocols, defined beside their user."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent.context import Context
from agent.control.logbook import LogBook
from agent.host import PluginHost
from agent.model import Event, Outcome
from agent.service.status import ServiceStatus


class Happening(Protocol):
    """One thing that happened to a plugin, whoever did it."""

    @property
    def number(self) -> int:
        """Its place in the ledger's history; only ever grows."""

    @property
    def event(self) -> Event:
        """What it was."""


class Feed(Protocol):
    """Everything that happens to plugins, in the order of the ledger's history."""

    def last(self) -> int:
        """The newest number that is known; 0 before the first."""

    def after(self, number: int, limit: int) -> Sequence[Happening]:
        """What came after a number, oldest first; reads the ledger."""

    def wait(self, number: int, timeout_s: float) -> bool:
        """Block until something newer than a number is known, or the time is over."""


class Metrics(Protocol):
    """What was counted."""

    def prometheus(self) -> bytes:
        """All of it in Prometheus' text format."""


class Agency(Protocol):
    """The service, as its API sees it; every method may be called from any thread."""

    def serving(self) -> AbstractContextManager[PluginHost]:
        """Lease the host in force; it is never closed while it is held."""

    def context(self) -> Context:
        """The installation by the config in force, for reading.

        It must stay open until the leases that were taken before it was replaced are given
        back: who reads holds one.
        """

    def status(self) -> ServiceStatus:
        """How the service and each of its plugins are."""

    def update(self, plugin_ids: Sequence[str], *, dry_run: bool) -> Sequence[Outcome]:
        """Run an update as ``agent update [ID…]`` does; no ids = every plugin."""

    @property
    def feed(self) -> Feed:
        """What happens to plugins."""

    @property
    def logs(self) -> LogBook:
        """What plugins say."""

    @property
    def metrics(self) -> Metrics:
        """What was counted."""
