"""``--system`` on the machine's real paths, in a mount namespace of their own (contract §1).

The machine's own ``/etc``, ``/var/lib``, ``/var/cache``, ``/run`` and ``/opt`` are not touched.
"""

from pathlib import Path

import pytest

from support.system import PLUGIN_ID, STEM, tree_at
from support.system_wide import Installed, flat_names, go_through_life, modes

pytestmark = pytest.mark.soak


@pytest.fixture
def machine(tmp_path: Path) -> Installed:
    """A machine on which nobody has run the agent."""
    return Installed(tmp_path / "machine", is_apart=True)


def made_by_us(root: Path) -> set[str]:
    """The folders of our name, and all in the home."""
    found = {str(path.relative_to(root)) for path in root.glob("*/stack-composer")}
    found |= {str(path.relative_to(root)) for path in root.glob("*/*/stack-composer")}
    return found | {str(path.relative_to(root)) for path in (root / "home").rglob("*")}


def test_the_machines_own_installation_lies_where_it_should(machine: Installed) -> None:
    """Every file is below the five folders of contract §1; what users need, they may read."""
    go_through_life(machine)
    root = machine.root
    assert made_by_us(root) == {
        "etc/stack-composer",
        "opt/stack-composer",
        "var/cache/stack-composer",
        "var/lib/stack-composer",
    }
    assert modes(root / "etc/stack-composer", [".", "trusted_keys.toml"]) == {
        ".": "755",
        "trusted_keys.toml": "644",
    }
    plugins = root / "opt/stack-composer/plugins"
    assert modes(plugins, [".", *flat_names()]) == {
        ".": "755",
        **dict.fromkeys(flat_names(), "644"),
    }
    current = plugins / ".store" / PLUGIN_ID / "current"
    assert modes(current, [".", f"{STEM}.wasm"]) == {".": "555", f"{STEM}.wasm": "444"}
    state = root / "var/lib/stack-composer"
    assert modes(state, [".", "audit"]) == {".": "700", "audit": "700"}
    assert {entry.name for entry in state.iterdir()} >= {"state.db", "audit", "registry"}
    assert modes(root / "var/cache/stack-composer", ["aot"]) == {"aot": "700"}


def test_a_user_runs_the_machines_plugins_and_changes_none(machine: Installed) -> None:
    """Verified and run in place under the machine's trust; ``check`` says ``system``."""
    go_through_life(machine)
    plugins = machine.root / "opt/stack-composer/plugins"
    before = tree_at(plugins)
    state = tree_at(machine.root / "var/lib/stack-composer")
    assert machine.run("call", "-q", PLUGIN_ID, "run", "Joe").out == "Hello, Joe"
    row = machine.run("list", "--format", "json").row
    assert (row["version"], row["state"], row["source"]) == ("0.1.0", "active", "system")
    assert row["path"] == "/opt/stack-composer/plugins"
    assert machine.run("check", "--format", "json").row["action"] == "system"
    assert machine.run("update", "--format", "json").document["plugins"] == []
    for verb in ("update", "rollback"):
        machine.run(verb, PLUGIN_ID, expect=3)
    assert machine.run("info", PLUGIN_ID, "--format", "json").row["calls"] == 0
    assert tree_at(plugins) == before
    assert tree_at(machine.root / "var/lib/stack-composer") == state
    (key,) = machine.run("trust", "list", "--format", "json").document["keys"]
    machine.system("trust", "revoke", key["id"], "--reason", "it leaked")
    machine.run("call", PLUGIN_ID, "run", "Joe", expect=7)


def test_a_users_config_lies_over_the_machines(machine: Installed) -> None:
    """Key by key; a user's own copy of a plugin shadows the machine's."""
    go_through_life(machine)
    (machine.root / "etc/stack-composer/plugin-host.toml").write_text(
        '[update]\nkeep = 7\nprobation = "1h"\n'
        '[registry]\ndefault = "oci:/var/lib/stack-composer/registry"\n'
    )
    own = machine.root / "home/.config/stack-composer/plugin-host.toml"
    own.parent.mkdir(parents=True)
    own.write_text('[update]\nprobation = "5m"\n')
    shown = machine.run("config", "show", "--effective", "--format", "json").document
    found = {row["key"]: (row["value"], row["origin"]) for row in shown["values"]}
    assert found["update.keep"] == (7, "/etc/stack-composer/plugin-host.toml")
    assert found["update.probation"] == ("5m", str(own))
    assert "1h" in machine.system("config", "show", "--effective").out
    machine.run("pull", PLUGIN_ID)
    row = machine.run("list", "--format", "json").row
    assert (row["version"], row["shadows"]) == ("0.2.0", "/opt/stack-composer/plugins")
    assert machine.system("list", "--format", "json").row["version"] == "0.1.0"
