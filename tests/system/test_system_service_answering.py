"""``agent run`` on its socket: ``[control]`` read again, and what is forgotten with a plugin."""

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.control.address import socket_path
from support.control import said_to
from support.service import Running, service
from support.system import PLUGIN_ID, Machine, taken
from support.users import as_root

GROUP, MEMBER = 54_399, 54_322
READ_AGAIN = "the config was read again"
ANEW = "by the config that was read"


@pytest.fixture
def host() -> Iterator[Machine]:
    """A host with 0.1.0, below a folder that every user may go through."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        machine = taken(Path(name), "0.1.0").machine
        machine.home.chmod(0o711)
        yield machine


def socket_of(machine: Machine) -> Path:
    """Where its service answers."""
    return socket_path(machine.home / "run" / "agent.sock")


def read_again(running: Running) -> None:
    """Have the config read again, and wait until it was."""
    place = len(running.log.lines)
    running.hang_up()
    running.log.wait_for(READ_AGAIN, since=place)


@as_root
def test_a_group_is_let_in_and_shut_out_without_a_restart(host: Machine) -> None:
    """Also through a folder that was made for the service's user alone."""
    with service(host) as running:
        path = socket_of(host)
        assert said_to(path, MEMBER, "GET", "/healthz", groups=[GROUP]) == ""
        host.configure(f'[control]\ngroup = "{GROUP}"\ngroup_access = "full"\n')
        place = running.log.wait_for(ANEW)
        answer = said_to(path, MEMBER, "GET", "/healthz", groups=[GROUP])
        assert answer.startswith("HTTP/1.1 200 OK")
        answer = said_to(path, MEMBER, "POST", "/v1/updates", "{}", groups=[GROUP])
        assert '"outcome": "current"' in answer
        host.configure()
        running.log.wait_for(ANEW, since=place)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert said_to(path, MEMBER, "GET", "/healthz", groups=[GROUP]) == ""
        host.process("status")


def test_what_does_not_concern_the_socket_leaves_it_as_it_is(host: Machine) -> None:
    """The same file, so that no connection and no stream is cut."""
    with service(host) as running:
        before = socket_of(host).stat().st_ino
        host.configure(update='interval = "7d"')
        running.log.wait_for(READ_AGAIN)
        read_again(running)
        assert socket_of(host).stat().st_ino == before
    assert not [line for line in running.log.lines if ANEW in line]


def test_a_group_that_there_is_not_is_refused_with_its_config(host: Machine) -> None:
    """The config in force stays, and answers."""
    with service(host) as running:
        host.configure('[control]\ngroup = "no-such-group"\n')
        running.log.wait_for("the config in force stays: cannot use control.group")
        assert "no-such-group" in host.process("status").out


def test_where_no_socket_can_be_it_goes_on_without_and_says_so(host: Machine) -> None:
    """Until the config is read again and there is room."""
    with service(host) as running:
        path = socket_of(host)
        path.unlink()
        path.parent.mkdir(exist_ok=True)
        path.mkdir()
        host.configure("[control]\nmax_calls = 3\n")
        running.log.wait_for(f"cannot answer on {path}: cannot listen at")
        read_again(running)
        path.rmdir()
        place = len(running.log.lines)
        running.hang_up()
        running.log.wait_for(ANEW, since=place)
        host.process("status")


def test_what_a_removed_plugin_said_is_forgotten(host: Machine) -> None:
    """Another that is installed under its name begins anew."""
    with service(host) as running:
        host.process("call", PLUGIN_ID, "run", "Jane")
        assert "greeted" in host.process("logs", PLUGIN_ID).out
        host.process("remove", PLUGIN_ID)

        def forgotten() -> bool | None:
            return "greeted" not in host.process("logs", PLUGIN_ID).out or None

        running.until(forgotten, "end of its logs")
