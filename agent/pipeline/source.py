"""Where an installed plugin updates from."""

import functools

import registry
from agent.context import Context
from agent.errors import translated
from agent.model import Installed
from agent.pipeline.admission import is_bare
from agent.pipeline.ahead import Ahead
from agent.pipeline.plan import within


def followed(context: Context, installed: Installed) -> registry.Reference:
    """What an update run asks for: the versions or the channel of a repository.

    A namespace rule names the repository, else the plugin's past does.

    Raises:
        registry.ReferenceError: The rule, or what was remembered, names none.
    """
    plugin_id = installed.plugin_id
    channel = context.config.plugin(plugin_id).channel or installed.channel
    ruled = any(within(plugin_id, namespace) for namespace in context.config.namespaces)
    if ruled or context.options.registry or installed.repository is None:
        return registry.Reference(registry.locate(plugin_id, context.bases()), tag=channel)
    location = registry.parse_location(installed.repository, context.places.home)
    return registry.Reference(location, tag=channel)


def foreseen(context: Context, plugin_id: str) -> registry.Repository | None:
    """The registry's repository whose tags an update run is going to list, as things stand; open.

    None where it asks nothing or something else, or is going to fail before.
    """
    try:
        installed, trial = context.ledger.standing(plugin_id)
        if installed is None or installed.stop is not None or trial is not None:
            return None
        live = context.activation.live(plugin_id)
        if live is None or is_bare(context, live):
            return None
        reference = followed(context, installed)
        if reference.tag is not None or isinstance(reference.location, registry.LayoutLocation):
            return None
        return context.open_repository(reference.location)
    except Exception as error:
        if translated(error) is None:
            raise
        return None


def look_ahead(context: Context) -> Ahead:
    """Look up what comes next in a run over many plugins."""
    return Ahead(functools.partial(foreseen, context))
