"""``--system``: the whole life of a plugin where the service manager says where things lie."""

from pathlib import Path

from support.system import PLUGIN_ID, Machine
from support.system_wide import Installed, go_through_life, modes


def test_what_the_service_manager_names_wins(tmp_path: Path) -> None:
    """State, audit, registry and cache go where it says, and nothing to the user's home."""
    root = tmp_path / "machine"
    variables = {
        "STATE_DIRECTORY": str(root / "state"),
        "CACHE_DIRECTORY": str(root / "cache"),
        "RUNTIME_DIRECTORY": str(root / "run"),
        # Only these two have no variable of the service manager's.
        "STACK_COMPOSER_CONFIG": str(root / "etc" / "plugin-host.toml"),
        "STACK_COMPOSER_PATHS__USER_DIR": str(root / "plugins"),
        "STACK_COMPOSER_PATHS__SYSTEM_DIR": str(root / "plugins"),
    }
    machine = Installed(root, variables)
    (root / "etc").mkdir()
    (root / "etc" / "plugin-host.toml").touch()
    go_through_life(machine)
    assert {entry.name for entry in (root / "state").iterdir()} >= {"state.db", "audit", "registry"}
    assert modes(root / "state", [".", "audit"]) == {".": "700", "audit": "700"}
    assert {entry.name for entry in (root / "cache").iterdir()} == {"aot", "incoming"}
    assert (root / "etc" / "trusted_keys.toml").is_file()
    assert (root / "plugins" / ".store" / PLUGIN_ID / "current").is_symlink()
    assert list((root / "home").iterdir()) == []


def test_a_ledger_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """Which file, and why: SQLite itself says neither."""
    machine = Machine(tmp_path / "host")
    ledger = machine.home / "state" / "state.db"
    ledger.mkdir(parents=True)
    ran = machine.run("history", PLUGIN_ID, expect=1)
    assert ran.err == f"agent: cannot use {ledger}: not a regular file\n"
