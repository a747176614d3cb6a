"""Full, read-only and locked: what was revoked or stopped is, whatever can't be written."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import PluginHost
from agent.errors import TrustError
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher, taken

_APART = ("unshare", "--map-root-user", "--mount", "bash", "-euc")
READ_ONLY = """
mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"
shift; exec "$@"
"""
FULL = """
mkdir "$1.kept"; cp -a "$1/." "$1.kept/"
mount -t tmpfs -o size=2m,mode=700 tmpfs "$1"; cp -a "$1.kept/." "$1/"
shift; exec "$@"
"""
EMBEDS = """
import sys
from pathlib import Path
from agent import PluginHost
from agent.errors import TrustError

home = Path(sys.argv[1])
with PluginHost(home=home) as host:
    host.load_installed(sys.argv[2])
    print(host.call_plugin("run", ["Jane"]))
    try:
        with (home / "state" / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
    except OSError as error:
        print(error.strerror)
    (home / "config" / "trusted_keys.toml").write_bytes(Path(sys.argv[3]).read_bytes())
    try:
        host.load_installed(sys.argv[2])
    except TrustError as error:
        print("refused")
"""


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """A host where 0.1.0 serves, and who signed it."""
    return taken(tmp_path, "0.1.0")


@pytest.fixture
def host(publisher: Publisher) -> Machine:
    """The host."""
    return publisher.machine


@pytest.fixture
def revoked(host: Machine, publisher: Publisher, tmp_path: Path) -> bytes:
    """The trust store's next edition, in which the key is revoked."""
    shutil.copytree(host.home, tmp_path / "elsewhere", symlinks=True)
    other = Machine(tmp_path / "elsewhere")
    other.run("trust", "revoke", publisher.key_id, "--reason", "stolen")
    return trust_store(other).read_bytes()


def trust_store(machine: Machine) -> Path:
    """Where its trust store lies."""
    return machine.home / "config" / "trusted_keys.toml"


def apart(script: str, folder: Path, command: Sequence[str | Path]) -> tuple[int, str]:
    """Run a command where a folder lies on another disk: its exit code, and what it said."""
    done = subprocess.run(
        [*_APART, script, "bash", folder, *command],
        capture_output=True,
        text=True,
        timeout=PROCESS_WAIT_S,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_ledger_that_another_process_writes_keeps_no_revocation_from_hosts(
    host: Machine, revoked: bytes
) -> None:
    """The serial can't be noted, and counts all the same; it is noted when it can be."""
    with contextlib.ExitStack() as held:
        program = held.enter_context(PluginHost(home=host.home))
        program.load_plugin(f"{STEM}.wasm")
        assert program.call_plugin("run", ["Jane"]) == "Hello, Jane"
        path = host.home / "state" / "state.db"
        db = held.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
        db.execute("BEGIN IMMEDIATE")
        before = trust_store(host).read_bytes()
        trust_store(host).write_bytes(revoked)
        with pytest.raises(TrustError, match="revoked"):
            program.load_installed(PLUGIN_ID)
        db.execute("ROLLBACK")
        with pytest.raises(TrustError, match="revoked"):
            program.load_installed(PLUGIN_ID)
    host.run("list")
    trust_store(host).write_bytes(before)
    assert "lower than" in host.run("call", PLUGIN_ID, expect=2).err


def test_a_full_state_disk_keeps_no_revocation_from_hosts(
    host: Machine, revoked: bytes, tmp_path: Path
) -> None:
    """A real one: what the key signed is refused within the next look."""
    store = tmp_path / "next.toml"
    store.write_bytes(revoked)
    program = (sys.executable, "-c", EMBEDS, host.home, PLUGIN_ID, store)
    code, said = apart(FULL, host.home / "state", program)
    assert said.startswith("Hello, Jane No space left on device")
    assert "refused" in said
    assert code == 0


def test_a_state_that_can_not_be_written_lets_a_newer_trust_store_be_used(host: Machine) -> None:
    """A serial that can't be noted ends no verb that only looks."""
    path = trust_store(host)
    lines = path.read_text().splitlines()
    raised = ["serial = 40" if line.startswith("serial") else line for line in lines]
    assert raised != lines
    path.write_text("\n".join(raised) + "\n")
    for verb in (["list"], ["check"], ["call", PLUGIN_ID, "run", "Jane"]):
        code, said = apart(READ_ONLY, host.home / "state", host.command(*verb))
        assert code == 0, said


def test_a_plugin_disk_that_is_read_only_stops_nobody_from_stopping(host: Machine) -> None:
    """The word is in the ledger, which hosts heed; what can't be taken away is said (1)."""
    code, said = apart(READ_ONLY, host.plugins, host.command("disable", PLUGIN_ID))
    assert code == 1
    assert "Read-only file system; it is disabled all the same, and hosts refuse its calls" in said
    assert "cannot write" in said
    host.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    # It can be written again: the next run takes it away.
    host.run("update", PLUGIN_ID, expect=8)
    assert not (host.plugins / f"{STEM}.toml").exists()
    host.run("doctor")


def test_a_home_that_was_moved_is_stopped_on_a_read_only_plugin_disk(
    host: Machine, tmp_path: Path
) -> None:
    """Where its ledger lies by now can't be written down; the word counts all the same."""
    shutil.copytree(host.home, tmp_path / "moved", symlinks=True)
    moved = Machine(tmp_path / "moved")
    apart(READ_ONLY, moved.plugins, moved.command("disable", PLUGIN_ID))
    _, said = apart(READ_ONLY, moved.plugins, moved.command("call", PLUGIN_ID, "run", "Jane"))
    assert "is disabled" in said


def test_all_are_stopped_on_a_read_only_plugin_disk(host: Machine) -> None:
    """Each gets its row, and is refused while the disk is still read only."""
    script = READ_ONLY.replace(
        'exec "$@"', '"$@" disable --all || true; exec "$@" call ID run Jane'
    )
    code, said = apart(script.replace("ID", PLUGIN_ID), host.plugins, host.command())
    assert "it is disabled all the same" in said
    assert f"cannot call {PLUGIN_ID}: it is disabled" in said
    assert code == 8


def test_a_denial_on_a_read_only_plugin_disk_holds(host: Machine) -> None:
    """It is in the ledger, and that it is not beside it is said."""
    code, said = apart(READ_ONLY, host.plugins, host.command("deny", PLUGIN_ID, "log"))
    assert (code, "beside the ledger" in said) == (0, True), said
    host.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    assert "memory" in host.run("doctor", expect=1).out
    host.run("doctor", "--fix")
