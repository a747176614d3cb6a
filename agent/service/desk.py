"""What the service offers to whoever asks it: the control API, mostly."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agent import __version__
from agent.context import Context
from agent.control.logbook import LogBook
from agent.control.server import Settings
from agent.host import PluginHost
from agent.metrics import Metrics
from agent.model import Kind, Outcome, Stop
from agent.service.feed import Feed
from agent.service.reign import Reign
from agent.service.status import PluginStatus, ServiceStatus
from agent.service.tending import Tending
from agent.verbs.own import own_ids
from agent.verbs.updating import take_and_update
from sandbox import Slot


class Desk:
    """All methods may be called from any thread.

    Args:
        reigns: Holds the reign in force.
        tending: Looks after the plugins.
        logs: What plugins say.

    Attributes:
        logs: The same.
    """

    def __init__(self, reigns: Slot[Reign], tending: Tending, logs: LogBook) -> None:
        self.logs = logs
        self._reigns = reigns
        self._tending = tending
        self._started_at = time.time()

    @property
    def feed(self) -> Feed:
        """What happens to plugins."""
        return self._tending.feed

    @property
    def metrics(self) -> Metrics:
        """What was counted."""
        return self._reigns.current.telemetry.metrics

    @property
    def control(self) -> Settings:
        """How to answer on the socket, by the config in force."""
        return self._reigns.current.control

    @contextmanager
    def serving(self) -> Iterator[PluginHost]:
        """The host in force; never closed inside the block."""
        with self._reigns.lease() as reign:
            yield reign.host

    def context(self) -> Context:
        """The installation by the config in force; open while a lease is held."""
        return self._reigns.current.context

    def update(self, plugin_ids: Sequence[str], *, dry_run: bool) -> tuple[Outcome, ...]:
        """Run an update as ``agent update [ID…]`` does.

        Raises:
            AgentError, OSError, sqlite3.Error: It could not begin.
        """
        with self._reigns.lease() as reign:
            outcomes = take_and_update(reign.context, reign.telemetry, plugin_ids, dry_run=dry_run)
        for outcome in outcomes:
            if outcome.kind in (Kind.TRIAL, Kind.COMMITTED, Kind.ROLLED_BACK):
                self._tending.follow(outcome.plugin_id)
        return outcomes

    def status(self) -> ServiceStatus:
        """How the service and each of its plugins are."""
        tending = self._tending
        with self._reigns.lease() as reign:
            ids = sorted({*own_ids(reign.context), *reign.host.loaded})
            due, running = tending.rounds.due(), tending.turns.at_work()
            plugins = tuple(
                self._plugin(reign, one, due.get(one), is_running=one in running) for one in ids
            )
        return ServiceStatus(
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            is_ready=tending.is_ready,
            config_problem=tending.config_problem,
            plugins=plugins,
        )

    def _plugin(
        self, reign: Reign, plugin_id: str, due_s: float | None, *, is_running: bool
    ) -> PluginStatus:
        context = reign.context
        seen, decision = context.activation.standing(plugin_id), context.ledger.decision(plugin_id)
        problem = reign.host.problem(plugin_id)
        state = "active" if problem is None else "broken"
        if seen.stop is Stop.DISABLED:
            state, problem, due_s = "disabled", None, None
        elif seen.trial is not None and problem is None:
            state = "trial"
        is_late = due_s is not None and due_s < 0
        return PluginStatus(
            plugin_id=plugin_id,
            version=seen.live.version if seen.live else reign.host.version(plugin_id),
            state=state,
            due_at=None if due_s is None else context.clock() + (0 if is_late else due_s),
            is_running=is_running,
            last=decision,
            problem=problem,
        )
