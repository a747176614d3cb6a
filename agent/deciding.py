"""Granting and denying by command: in the ledger, and beside it (contract §6)."""

from agent.context import LOCK_TIMEOUT_S, Context
from agent.model import Event
from agent.remembering import remembering


def decide(context: Context, plugin_id: str, capability: str, *, yes: bool) -> None:
    """Grant a capability to a plugin or deny it; the later takes back the earlier.

    Args:
        context: The installation.
        plugin_id: The plugin, installed or not.
        capability: The word.
        yes: Whether it is granted.

    Raises:
        BusyError: Another process holds the tree.
        LedgerError, PolicyError: The ledger does not know the tree: see ``Context.stranger``.
    """
    now, word = context.clock(), "grant" if yes else "deny"
    outcome = "granted" if yes else "denied"
    with (
        context.tree.lock(timeout_s=LOCK_TIMEOUT_S),
        remembering(context.ledger, context.tree, plugin_id),
        context.audit.deciding(outcome, capability, plugin=plugin_id, capability=capability),
        context.ledger.transaction(),
    ):
        context.ledger.decide(plugin_id, capability, granted=yes, at=now)
        context.ledger.record(Event(now, plugin_id, word, None, None, capability))
