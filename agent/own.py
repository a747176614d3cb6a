"""Which plugins are the user's own, whether they serve or were disabled."""

from agent.context import Context
from agent.model import Stop
from agent.remembering import stop_on


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


def _known_ids(context: Context) -> list[str]:
    """Every plugin that the ledger or the tree knows, sorted."""
    return sorted({*context.ledger.plugin_ids(), *context.tree.homes()})


def _is_disabled(context: Context, plugin_id: str) -> bool:
    return stop_on(context.ledger, context.tree, plugin_id) is Stop.DISABLED
