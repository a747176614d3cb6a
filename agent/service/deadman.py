"""The dead-man switch: a release on trial that takes the service down twice is not run again.

Before a release on trial is loaded, that is written down, durably; a service that ends in good
order takes it back. What is still written down when one begins was running when one died.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import in_words
from agent.telemetry import Telemetry

_LOG = logging.getLogger("stack_composer.service")
_DEATHS = 2


class DeadMan:
    """See the module; where the ledger can't be written it only says so.

    Args:
        context_of: The installation by the config in force.
    """

    def __init__(self, context_of: Callable[[], Context]) -> None:
        self._context_of = context_of

    def arm(self, plugin_id: str) -> None:
        """A release of a plugin is about to be loaded."""
        with _saying_so():
            self._context_of().ledger.arm_trial(plugin_id)

    def disarm(self) -> None:
        """The service ends in good order."""
        with _saying_so():
            self._context_of().ledger.disarm_trials()

    def judge(self, telemetry: Telemetry) -> None:
        """A service begins: go back from what the ones before it died with; nothing is loaded yet.

        Raises:
            AgentError: Another process holds the tree.
        """
        context = self._context_of()
        with _saying_so():
            for plugin_id, deaths in context.ledger.count_deaths().items():
                if deaths < _DEATHS:
                    _LOG.warning("a service died while it ran %s on trial", plugin_id)
                    continue
                with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
                    self._reject(context, telemetry, plugin_id, deaths)

    def _reject(self, context: Context, telemetry: Telemetry, plugin_id: str, deaths: int) -> None:
        context.activation.recover_one(plugin_id)
        trial = context.ledger.trial(plugin_id)
        if trial is None:
            return  # it never went live
        why = f"the service died {deaths} times while it was on trial"
        with telemetry.span("agent.rollback", plugin_id=plugin_id, plugin_release=trial.release):
            context.activation.fail_trial(trial, reason=why)
        _LOG.warning("%s: rolled back, %s", plugin_id, why)


@contextlib.contextmanager
def _saying_so() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        _LOG.warning("cannot keep the dead-man switch: %s; going on", in_words(error))
