"""What the operator takes back serves no longer: a revoked key, a denied release."""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from agent.context import Context
from agent.errors import translated
from agent.model import Event
from agent.pipeline.admission import taken_back
from agent.pipeline.settling import settle
from agent.telemetry import Telemetry
from agent.verbs.own import own_ids

_LOG = logging.getLogger("stack_composer.service")
_LOCK_TIMEOUT_S = 5.0
OUT_OF_SERVICE = "out of service"


@dataclass(frozen=True, slots=True)
class Heeded:
    """What came of a look at what serves.

    Attributes:
        left: The plugins that it was about.
        put_off: Plugin → why what serves could not be left now.
    """

    left: tuple[str, ...]
    put_off: dict[str, str]


def heed_trust_store(
    context: Context, telemetry: Telemetry, only: Collection[str] | None = None
) -> Heeded:
    """Go back from every release that is no longer to be believed, after a change of the store.

    Where no other good release is kept that is believed, calls are refused (7) until an update
    brings one; that is written into the plugin's history once.

    Args:
        context: The installation.
        telemetry: Where a way back is traced.
        only: The plugins to look at; None = all.

    Raises:
        trust.StoreError, UsageError: The trust store can't be used; nothing was changed.
    """
    context.trust_store()
    left, put_off = [], {}
    for plugin_id in own_ids(context) if only is None else only:
        try:
            if _leave(context, telemetry, plugin_id):
                left.append(plugin_id)
        except Exception as error:
            # One plugin's fault keeps no other from being looked at.
            cause = translated(error)
            if cause is None:
                raise
            put_off[plugin_id] = cause.message
    return Heeded(tuple(left), put_off)


def _leave(context: Context, telemetry: Telemetry, plugin_id: str) -> bool:
    live = context.activation.live(plugin_id)
    if live is None or taken_back(context, live) is None:
        return False
    settle(context, telemetry, plugin_id, timeout_s=_LOCK_TIMEOUT_S)
    with context.tree.lock(timeout_s=_LOCK_TIMEOUT_S):
        live = context.activation.live(plugin_id)
        why = None if live is None else taken_back(context, live)
        if live is None or why is None:
            return True  # ``settle`` went back from it
        with telemetry.span("agent.rollback", plugin_id=plugin_id, plugin_release=live.release):
            back = context.activation.leave(live, reason=why)
        if back is None:
            last = context.ledger.history(plugin_id, limit=1)
            if [event.kind for event in last] == [OUT_OF_SERVICE]:
                return False
            context.ledger.record(
                Event(context.clock(), plugin_id, OUT_OF_SERVICE, live.version, live.release, why)
            )
            _LOG.warning("%s %s is out of service: %s", plugin_id, live.version, why)
            return True
    _LOG.warning("%s: rolled back to %s: %s %s", plugin_id, back.version, live.version, why)
    return True
