"""What the operator lets a plugin do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.serving.grants import decided, granted, isolation_for, limits_for
from agent.settings.config import Config
from agent.settings.kinds import CAPABILITIES
from agent.settings.schema import (
    CapabilitiesSection,
    LimitsSection,
    PluginLimitsSection,
    PluginSection,
    SandboxSection,
)
from sandbox.admission import Isolation

PLUGIN = "org.example.hello"


def config(
    general: tuple[str, ...] = ("log",), grants: tuple[str, ...] = (), deny: tuple[str, ...] = ()
) -> Config:
    """A config that grants and denies."""
    return Config(
        capabilities=CapabilitiesSection(grant=general),
        plugins={PLUGIN: PluginSection(grants=grants, deny=deny)},
    )


def test_log_is_granted_unless_denied() -> None:
    """Without a word of anyone's, under any ceiling; a denial of either kind takes it."""
    assert granted(Config(), PLUGIN, {}, None) == {"log"}
    assert granted(config(general=()), PLUGIN, {}, frozenset()) == {"log"}
    assert granted(config(deny=("log",)), PLUGIN, {}, None) == set()
    assert granted(Config(), PLUGIN, {"log": False}, None) == set()


def test_three_ways_to_grant() -> None:
    """To every plugin, to one in the config, to one by command."""
    given_all = granted(config(("network",), ("llm",)), PLUGIN, {"plan": True}, None)
    assert given_all == {"log", "network", "llm", "plan"}
    assert granted(config(("network",), ("llm",)), "org.other", {}, None) == {"log", "network"}


def test_a_denial_beats_every_grant() -> None:
    """The config's deny and the command's, against grants of all kinds."""
    by_config = config(("network",), ("network",), ("network",))
    assert granted(by_config, PLUGIN, {"network": True}, None) == {"log"}
    assert granted(config(("llm",), ("llm",)), PLUGIN, {"llm": False}, None) == {"log"}


def test_the_keys_ceiling() -> None:
    """A ceiling lowers what is granted, but for ``log``."""
    full = config(("network", "llm"))
    assert granted(full, PLUGIN, {}, frozenset({"llm"})) == {"llm", "log"}
    assert granted(full, PLUGIN, {}, frozenset()) == {"log"}


WORDS = st.lists(st.sampled_from(CAPABILITIES), unique=True, max_size=4).map(tuple)


@given(WORDS, WORDS, WORDS, st.dictionaries(st.sampled_from(CAPABILITIES), st.booleans()), WORDS)
def test_each_capability_on_its_own(
    general: tuple[str, ...],
    grants: tuple[str, ...],
    deny: tuple[str, ...],
    decisions: dict[str, bool],
    ceiling: tuple[str, ...],
) -> None:
    """The union less the denials, under the ceiling; ``log`` as it is; and what is decided."""
    full = config(general, grants, deny)
    result = granted(full, PLUGIN, decisions, frozenset(ceiling))
    for word in CAPABILITIES:
        given_ = word in (*general, *grants, "log") or decisions.get(word) is True
        denied = word in deny or decisions.get(word) is False
        assert (word in result) == (given_ and not denied and word in (*ceiling, "log"))
        assert (word in decided(full, PLUGIN, decisions)) == (
            word in (*general, *grants, *deny) or word in decisions
        )


@pytest.mark.parametrize("name", ["fuel_units", "mem_bytes", "wall_timeout_ms"])
def test_limits_are_the_operators(name: str) -> None:
    """The plugin's section over ``[limits]``, in both directions."""
    general = Config(limits=LimitsSection(1000, 131_072, 2000))
    base = getattr(general.limits, name)

    def limit(own: int | None) -> int:
        section = PluginSection(limits=replace(PluginLimitsSection(), **{name: own}))
        return int(getattr(limits_for(general, section), name))

    assert limit(None) == base
    assert limit(base * 2) == base * 2
    assert limit(base // 2) == base // 2


@pytest.mark.parametrize(
    ("asked", "own", "general", "default", "runs"),
    [
        (None, None, None, "inline", "inline"),
        (None, None, None, "process", "process"),
        (None, None, "process", "inline", "process"),
        (None, "inline", "process", "process", "inline"),
        (None, "process", None, "inline", "process"),
        ("inline", "process", "process", "process", "inline"),
        ("process", "inline", None, "inline", "process"),
    ],
)
def test_where_a_plugin_runs(
    asked: Isolation | None,
    own: str | None,
    general: str | None,
    default: Isolation,
    runs: str,
) -> None:
    """The flag, the plugin's section, the config where it is set; else where the program says."""
    origins = {} if general is None else {"sandbox.isolation": "plugin-host.toml"}
    chosen = Config(
        sandbox=SandboxSection(isolation=general or "process"),
        plugins={PLUGIN: PluginSection(isolation=own)},
        origins=origins,
    )
    assert isolation_for(chosen, PLUGIN, asked, default) == runs
