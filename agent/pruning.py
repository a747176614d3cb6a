"""What is kept of old releases, and what goes (``update.keep``)."""

from agent.context import Context
from agent.model import Generation
from agent.remembering import remember


def prunable(context: Context, plugin_id: str) -> tuple[Generation, ...]:
    """The generations that ``prune`` would remove.

    Kept are what serves, what a trial would go back to, and beside them the
    newest ``update.keep`` releases that were not rejected.
    """
    ledger = context.ledger
    rejected = ledger.rejections(plugin_id)
    generations = ledger.generations(plugin_id)
    used = context.activation.in_use(plugin_id)
    sound = [g.release for g in generations if g.release not in {*rejected, *used}]
    kept = used | set(sound[: context.config.update.keep])
    return tuple(g for g in generations if g.release not in kept)


def prune(context: Context, plugin_id: str) -> tuple[Generation, ...]:
    """Remove old generations, and what a crash left beside them; under the tree's lock.

    Returns:
        What was removed. The tree goes first: a row without a folder is pruned again later,
        a folder without a row would be nobody's.
    """
    gone = prunable(context, plugin_id)
    for generation in gone:
        context.audit.release("pruned", generation, "not kept any longer", required=False)
    kept = {g.folder_name for g in context.ledger.generations(plugin_id)}
    kept -= {g.folder_name for g in gone}
    context.tree.prune(plugin_id, frozenset(kept))
    for generation in gone:
        context.ledger.forget_generation(plugin_id, generation.release)
    remember(context.ledger, context.tree, plugin_id)
    return gone
