"""Keeping the ledger and its second place in the tree alike (``agent.memory``)."""

import logging

from agent.errors import LedgerError, in_words
from agent.generations import Tree
from agent.ledger import Ledger
from agent.memory import Memory, decode

_LOG = logging.getLogger("stack_composer.tree")


def recall(tree: Tree, plugin_id: str) -> Memory | None:
    """What the tree remembers of a plugin; None where nothing can be read."""
    data = tree.read_memory(plugin_id)
    return None if data is None else decode(data)


def remember(ledger: Ledger, tree: Tree, plugin_id: str) -> None:
    """Write down beside the ledger what must outlive it; under the tree's lock, idempotent.

    What serves does not depend on it, so a fault of the disk only waits.

    Raises:
        LedgerError: The tree knows more: an older copy of the ledger was put back.
    """
    known, written = ledger.memory(plugin_id), None
    if known is None:
        return
    try:
        written = recall(tree, plugin_id)
        if written != known and not known.is_older_than(written):
            tree.write_memory(plugin_id, known.encode())
    except OSError as error:
        _LOG.warning(
            "cannot write the floor of %s beside the ledger: %s; the next run tries again",
            plugin_id,
            in_words(error),
        )
    if known.is_older_than(written):
        raise LedgerError(
            f"cannot change {plugin_id}: the plugin tree knows more than the ledger, of which an "
            "older copy was put back",
            hint="agent doctor --fix takes up what the tree knows",
        )
