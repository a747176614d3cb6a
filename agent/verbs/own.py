"""Which plugins are the user's own, whether they serve or were disabled."""

from agent.context import Context
from agent.model import Generation, Stop
from agent.tree.remembering import stop_on, words_on


def disabled_ids(context: Context) -> tuple[str, ...]:
    """The plugins that hosts refuse because they are disabled, sorted."""
    return tuple(name for name in _known_ids(context) if _is_disabled(context, name))


def own_ids(context: Context) -> tuple[str, ...]:
    """The user's plugins, serving or disabled, sorted; those too whose ``current`` is gone."""
    return tuple(
        name
        for name in _known_ids(context)
        # What the tree remembers of a plugin that serves need not be read.
        if context.tree.current(name) is not None
        or _is_disabled(context, name)
        or context.activation.has_good(name)
    )


def not_served(context: Context, live: Generation) -> str | None:
    """Why hosts serve something else than what ``current`` names; None where they serve that."""
    tree, plugin_id = context.tree, live.plugin_id
    words = words_on(context.ledger, tree, plugin_id)
    if words.stop is not None or words.serve(live.folder_name):
        return None
    why = "rejected" if live.folder_name in words.rejected else "neither good nor on trial"
    instead = words.instead(tree.generations(plugin_id)) or "nothing"
    return (
        f"{live.version} is linked, and is {why}: hosts serve {instead}; agent update {plugin_id}"
    )


def _known_ids(context: Context) -> list[str]:
    """Every plugin that the ledger or the tree knows, sorted."""
    return sorted({*context.ledger.plugin_ids(), *context.tree.homes()})


def _is_disabled(context: Context, plugin_id: str) -> bool:
    return stop_on(context.ledger, context.tree, plugin_id) is Stop.DISABLED
