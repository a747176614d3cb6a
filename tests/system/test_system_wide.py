"""``--system``: the whole life of a plugin where the service manager says where things lie."""

import os
import pwd
from pathlib import Path

import pytest

from support.control import controlled
from support.system import PLUGIN_ID, Machine, taken, tree_at
from support.system_wide import Installed, go_through_life, modes
from support.users import as_root

PARTS = ("cache", "config", "data", "plugins", "registry", "state")


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


def test_a_user_whom_the_system_does_not_know_needs_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container: any number, no name, no home folder; what it is told is enough."""

    def unknown(_uid: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    machine = Machine(tmp_path / "host")
    assert machine.run("list", "--format", "json").code == 0
    assert "nothing listens" in machine.run("status", expect=3).err


@as_root
@pytest.mark.parametrize("name", ["nobody", None])
def test_root_leaves_nothing_where_the_service_is_another_users(
    tmp_path: Path, name: str | None
) -> None:
    """Refused with 2 before anything is made; what asks the service, and the config, are not."""
    publisher = taken(tmp_path, "0.1.0")
    home = publisher.machine.home
    uid = 54_321 if name is None else pwd.getpwnam(name).pw_uid
    with controlled(home) as control:
        os.chown(home / "state", uid, -1)
        before = [tree_at(home / name) for name in PARTS]
        for verb in (
            ("list",),
            ("update",),
            ("pull", PLUGIN_ID, "--dry-run"),
            ("rollback", PLUGIN_ID),
            ("disable", PLUGIN_ID),
            ("trust", "add", f"{publisher.key}.pub", "--owner", "acme", "--scope", "org.*"),
            ("tags", PLUGIN_ID),
            ("run",),
        ):
            ran = publisher.machine.run(*verb, "--system", expect=2)
            whose = name or "the user 54321"
            assert f"cannot use {home}/state as root: it belongs to {whose}, who" in ran.err, verb
            as_whom = f"runuser -u {name} -- agent --system …" if name else "run it as that user"
            assert f"try: {as_whom}\n" in ran.err
        doctor = publisher.machine.run("doctor", "--fix", "--system", expect=1)
        assert "as root: it belongs to" in " ".join(doctor.out.split())
        assert [tree_at(home / name) for name in PARTS] == before
        assert PLUGIN_ID in publisher.machine.run("status", "--system").out
        called = publisher.machine.run("call", "-q", PLUGIN_ID, "run", "Jane", "--system")
        assert called.out == "Hello, Jane"
        publisher.machine.run("config", "show", "--system")
        assert control.agency.logs.last() == 1
    publisher.machine.run("list")  # root knows best elsewhere
