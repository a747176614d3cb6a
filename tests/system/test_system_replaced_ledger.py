"""A host that is open while the ledger's file is replaced goes by the new one from then on."""

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import LedgerError, NotFoundError, PolicyError
from agent.host import PluginHost
from sandbox import CapabilityDenied
from support.system import PLUGIN_ID, Machine, Publisher, taken

OLD, NEW = "Hello, Jane", "Hello again, Jane"


@pytest.fixture
def published(tmp_path: Path) -> Publisher:
    """Who published a version in the embedded registry of a host that took it."""
    return taken(tmp_path, "0.1.0")


@pytest.fixture
def offline(published: Publisher) -> Machine:
    """That host."""
    return published.machine


def state(machine: Machine) -> Path:
    """Where the ledger lies."""
    return machine.home / "state" / "state.db"


def lose(machine: Machine) -> None:
    """Remove the ledger as ``rm state.db*`` does."""
    for path in state(machine).parent.glob("state.db*"):
        path.unlink()


def made_anew(machine: Machine) -> None:
    """The ledger is lost, and the doctor makes a new one."""
    lose(machine)
    machine.process("doctor", "--fix")


def damage(machine: Machine) -> None:
    """Other bytes lie where the ledger did."""
    lose(machine)
    state(machine).write_bytes(b"no ledger" * 1000)


def set_aside(machine: Machine) -> None:
    """The ledger is damaged, and the doctor replaces it."""
    damage(machine)
    machine.process("doctor", "--fix")


def put_back(machine: Machine) -> None:
    """A copy of it is put in its place by hand."""
    copy = state(machine).with_name("copy")
    with (
        contextlib.closing(sqlite3.connect(state(machine))) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    lose(machine)
    copy.rename(state(machine))


Replace = Callable[[Machine], None]
replaced = pytest.mark.parametrize("replace", [made_anew, set_aside, put_back])


@contextlib.contextmanager
def serving(machine: Machine) -> Iterator[PluginHost]:
    """A host that has called the plugin once, and looks before every call."""
    with PluginHost(home=machine.home) as host, pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.serving.served._LOOK_EVERY_S", 0)
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == OLD
        yield host


@replaced
def test_what_others_decide_afterwards_is_heeded(
    offline: Machine, published: Publisher, replace: Replace
) -> None:
    """A denial, a stop, the way back and a new release, each by another process."""
    with serving(offline) as host:
        replace(offline)
        assert host.call_plugin("run", ["Jane"]) == OLD
        offline.process("deny", PLUGIN_ID, "log")
        with pytest.raises(CapabilityDenied):
            host.call_plugin("run", ["Jane"])
        offline.process("grant", PLUGIN_ID, "log")
        assert host.call_plugin("run", ["Jane"]) == OLD
        offline.process("disable", PLUGIN_ID)
        with pytest.raises(PolicyError, match="is disabled"):
            host.call_plugin("run", ["Jane"])
        offline.process("enable", PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == OLD
        published.release("0.2.0")
        offline.process("pull", PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == NEW
        offline.process("remove", PLUGIN_ID)
        with pytest.raises(NotFoundError, match="was removed"):
            host.call_plugin("run", ["Jane"])


@replaced
def test_what_it_sees_is_recorded_in_the_new_one(
    offline: Machine, caplog: pytest.LogCaptureFixture, replace: Replace
) -> None:
    """It says once that the ledger was replaced; its counts go where the others look."""
    with serving(offline) as host:
        replace(offline)
        for _ in range(3):
            host.call_plugin("run", ["Jane"])
    with contextlib.closing(sqlite3.connect(state(offline))) as db:
        assert db.execute("SELECT sum(calls), sum(failures) FROM samples").fetchone() == (4, 0)
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert told == [f"{state(offline)} was replaced: opened anew"]


def test_a_second_replacement_is_followed_too(offline: Machine) -> None:
    """And a third; each time what was decided last counts."""
    with serving(offline) as host:
        for replace in (made_anew, put_back, made_anew):
            replace(offline)
            offline.process("deny", PLUGIN_ID, "log")
            with pytest.raises(CapabilityDenied):
                host.call_plugin("run", ["Jane"])
            offline.process("grant", PLUGIN_ID, "log")
            assert host.call_plugin("run", ["Jane"]) == OLD
            assert host._context.ledger.is_in_place


def test_what_was_denied_counts_while_there_is_no_ledger(offline: Machine) -> None:
    """Between the loss and the doctor the host goes by the last it knew, and makes none anew."""
    offline.process("deny", PLUGIN_ID, "log")
    with PluginHost(home=offline.home) as host:
        host.load_installed(PLUGIN_ID)
        lose(offline)
        for _ in range(2):
            with pytest.raises(CapabilityDenied):
                host.call_plugin("run", ["Jane"])
        assert not state(offline).exists()


def test_a_replacement_that_is_damaged_stops_no_call(offline: Machine) -> None:
    """What is loaded serves on; a stop that was known counts on."""
    with serving(offline) as host:
        damage(offline)
        for _ in range(3):
            assert host.call_plugin("run", ["Jane"]) == OLD
        offline.process("doctor", "--fix")
        offline.process("disable", PLUGIN_ID)
        with pytest.raises(PolicyError, match="is disabled"):
            host.call_plugin("run", ["Jane"])


def test_a_stop_from_right_before_the_damage_is_heeded(offline: Machine) -> None:
    """Though the host never read it: what was disabled is gone from the tree."""
    with serving(offline) as host:
        offline.process("disable", PLUGIN_ID)
        damage(offline)
        for _ in range(2):
            with pytest.raises((NotFoundError, PolicyError)):
                host.call_plugin("run", ["Jane"])
        offline.process("doctor", "--fix")
        with pytest.raises(PolicyError, match="is disabled"):
            host.call_plugin("run", ["Jane"])


def test_a_denial_from_right_before_the_damage_binds_once_it_is_mended(offline: Machine) -> None:
    """Until then nothing is called that has what is denied; from the new ledger on it is denied."""
    with serving(offline) as host:
        offline.process("deny", PLUGIN_ID, "log")
        damage(offline)
        for _ in range(2):
            with pytest.raises(LedgerError, match="is damaged"):
                host.call_plugin("run", ["Jane"])
        offline.process("doctor", "--fix")
        with pytest.raises(CapabilityDenied):
            host.call_plugin("run", ["Jane"])


def test_a_stop_that_took_nothing_away_is_heeded_without_a_ledger(offline: Machine) -> None:
    """A run that died between its word and the flip, and a ledger damaged right then."""
    current = offline.plugins / ".store" / PLUGIN_ID / "current"
    name = current.readlink()
    with serving(offline) as host:
        offline.process("disable", PLUGIN_ID)
        current.symlink_to(name)
        damage(offline)
        for _ in range(2):
            with pytest.raises(PolicyError, match="is disabled"):
                host.call_plugin("run", ["Jane"])


def test_what_is_revoked_while_the_ledger_is_damaged_is_refused(
    offline: Machine, published: Publisher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the serial that was seen nobody can be judged: what would have to be, does not run.

    Each fault is told once, however often it is met.
    """
    shutil.copytree(offline.home, tmp_path / "elsewhere", symlinks=True)
    other = Machine(tmp_path / "elsewhere")
    other.process("trust", "revoke", published.key_id, "--reason", "stolen")
    store = Path("config", "trusted_keys.toml")
    with serving(offline) as host:
        damage(offline)
        assert host.call_plugin("run", ["Jane"]) == OLD
        (offline.home / store).write_bytes((other.home / store).read_bytes())
        for _ in range(3):
            with pytest.raises(LedgerError, match="is damaged"):
                host.call_plugin("run", ["Jane"])
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == len(set(told))
