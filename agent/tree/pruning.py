"""What is kept of old releases, and what goes (``update.keep``)."""

import contextlib
from dataclasses import dataclass

from agent.context import Context
from agent.model import Generation
from agent.tree.leftovers import leftovers, remove_leftovers
from agent.tree.remembering import remember


@dataclass(frozen=True, slots=True)
class Pruned:
    """One thing in a plugin's folder of the store that goes.

    Attributes:
        name: What it is called there.
        version: Of a release that the ledger knows; None of what it does not know, such as a
            folder that a run left that ended in the middle.
        release: Like ``version``.
    """

    plugin_id: str
    name: str
    version: str | None = None
    release: str | None = None


def prunable_ids(context: Context) -> tuple[str, ...]:
    """The plugins of which something may be pruned.

    They are those that the ledger knows, and folders that nobody knows any more: nothing of them
    serves, and nothing is remembered beside them that a ledger could take up.
    """
    tree = context.tree
    unknown = (
        name
        for name in tree.homes()
        if tree.current(name) is None and tree.read_memory(name) is None
    )
    return tuple(sorted({*context.ledger.plugin_ids(), *unknown}))


def prunable(context: Context, plugin_id: str) -> tuple[Pruned, ...]:
    """What ``prune`` would remove: old generations, then what the ledger does not know."""
    return _rows(plugin_id, *_goes(context, plugin_id))


def prune(context: Context, plugin_id: str) -> tuple[Pruned, ...]:
    """Remove old generations, and what crashes left behind; under the tree's lock.

    Returns:
        What was removed. The tree goes first: a row without a folder is pruned again later,
        a folder without a row would be nobody's.
    """
    gone, unknown = _goes(context, plugin_id)
    found = _rows(plugin_id, gone, unknown)
    for generation in gone:
        context.audit.release("pruned", generation, "not kept any longer", required=False)
    for name in unknown:
        context.audit.stray("pruned", f"{name}: the ledger does not know it", plugin=plugin_id)
    going = {one.name for one in found}
    context.tree.prune(plugin_id, frozenset(context.tree.entries(plugin_id)) - going)
    for generation in gone:
        context.ledger.forget_generation(plugin_id, generation.release)
    remember(context.ledger, context.tree, plugin_id)
    with contextlib.suppress(OSError):
        remove_leftovers(context, leftovers(context, homes=()))  # its own are gone with the rest
    return found


def _rows(
    plugin_id: str, gone: tuple[Generation, ...], unknown: tuple[str, ...]
) -> tuple[Pruned, ...]:
    known = (Pruned(plugin_id, g.folder_name, g.version, g.release) for g in gone)
    return (*known, *(Pruned(plugin_id, name) for name in unknown))


def _goes(context: Context, plugin_id: str) -> tuple[tuple[Generation, ...], tuple[str, ...]]:
    """The generations that go, and the names in the plugin's folder that no row explains.

    Kept are what serves, what a trial would go back to, and beside these the newest
    ``update.keep`` releases that were not rejected.
    """
    ledger = context.ledger
    rejected = ledger.rejections(plugin_id)
    generations = ledger.generations(plugin_id)
    used = context.activation.in_use(plugin_id)
    sound = [g.release for g in generations if g.release not in {*rejected, *used}]
    kept = used | set(sound[: context.config.update.keep])
    gone = tuple(g for g in generations if g.release not in kept)
    known = frozenset(generation.folder_name for generation in generations)
    return gone, context.tree.beside(plugin_id, known)


def prune_compiled(context: Context) -> None:
    """Drop compiled code of payloads that no sealed release has."""
    ledger = context.ledger
    keep = {g.payload_sha256 for i in ledger.plugin_ids() for g in ledger.generations(i)}
    with contextlib.closing(context.open_sandbox()) as sandbox:
        sandbox.prune(keep)
