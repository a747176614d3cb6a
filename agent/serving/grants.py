"""What the operator lets a plugin do; pure (contract §6, §8)."""

import difflib
from collections.abc import Iterable, Mapping

from agent.ledger.memory import Decided
from agent.settings.config import Config
from agent.settings.schema import PluginSection
from sandbox.admission import Bound, Isolation
from sandbox.limits import Limits


def granted(
    config: Config,
    plugin_id: str,
    decisions: Mapping[str, bool],
    ceiling: frozenset[str] | None,
) -> frozenset[str]:
    """The capabilities a plugin is granted.

    ``capabilities.grant`` ∪ the plugin's ``grants`` ∪ ``agent grant`` − its ``deny`` −
    ``agent deny``, under its key's ceiling; ``log`` is granted unless denied, whatever the
    ceiling.

    Args:
        config: The config in force.
        plugin_id: The plugin.
        decisions: Capability → granted or denied, by command.
        ceiling: The signing key's ``max_capabilities``; None = no ceiling.
    """
    section = config.plugin(plugin_id)
    given = {*config.capabilities.grant, *section.grants, "log"}
    given |= {capability for capability, yes in decisions.items() if yes}
    denied = {*section.deny, *(capability for capability, yes in decisions.items() if not yes)}
    allowed = frozenset(given - denied)
    return allowed if ceiling is None else allowed & (ceiling | {"log"})


def bounds_of(config: Config, plugin_id: str, decided: Iterable[Decided]) -> tuple[Bound, ...]:
    """How far the grants by command go, over or not; what the config grants has no end.

    Args:
        config: The config in force.
        plugin_id: The plugin.
        decided: What was granted and denied by command.
    """
    endless = {*config.capabilities.grant, *config.plugin(plugin_id).grants, "log"}
    return tuple(
        Bound(one.capability, None if one.until is None else int(one.until), one.max_calls)
        for one in decided
        if one.is_bounded and one.capability not in endless
    )


def isolation_for(
    config: Config, plugin_id: str, asked: Isolation | None, default: Isolation
) -> Isolation:
    """Where a plugin runs.

    What was asked for counts, then the plugin's own section, then ``sandbox.isolation`` where it
    is set. The value that it has by default is the service's; a library and a command run plugins
    inline.

    Args:
        config: The config in force.
        plugin_id: The plugin.
        asked: By a flag or an argument; None = not.
        default: Where the config does not say.
    """
    configured = config.plugin(plugin_id).isolation
    if configured is None and "sandbox.isolation" in config.origins:
        configured = config.sandbox.isolation
    chosen = asked or configured or default
    return "process" if chosen == "process" else "inline"


def decided(config: Config, plugin_id: str, decisions: Mapping[str, bool]) -> frozenset[str]:
    """The capabilities that the operator has granted or denied to a plugin in any way."""
    section = config.plugin(plugin_id)
    return frozenset({*config.capabilities.grant, *section.grants, *section.deny, *decisions})


def similar_word(word: str, known: Iterable[str]) -> str | None:
    """The capability that an unknown word was probably meant to be; None where there is none.

    Args:
        word: What was written.
        known: The words that there are.
    """
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.75)), None)


def limits_for(config: Config, section: PluginSection) -> Limits:
    """The operator's bounds for a plugin's calls; the sandbox lowers them where it asks for less.

    The operator's own section for the plugin wins over ``[limits]``, in both directions.

    Args:
        config: The config in force.
        section: ``[plugins."ID"]``.
    """
    own = section.limits
    general = config.limits
    return Limits(
        fuel_units=own.fuel_units or general.fuel_units,
        mem_bytes=own.mem_bytes or general.mem_bytes,
        wall_timeout_ms=own.wall_timeout_ms or general.wall_timeout_ms,
    )
