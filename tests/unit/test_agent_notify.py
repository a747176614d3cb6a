"""What systemd is told of the service, on the socket it names."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.service.notify import Supervisor

WAIT_S = 20


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A supervisor's socket, and its name as ``NOTIFY_SOCKET`` has it."""
    if request.param == "abstract":
        name = f"@stack-composer-test-{os.getpid()}"
        address = f"\0{name[1:]}"
    else:
        name = address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(WAIT_S)
        heard.bind(address)
        yield heard, name


def test_a_supervisor_is_told_each_state_in_one_datagram(
    listener: tuple[socket.socket, str],
) -> None:
    """Ready with the status, the status again only where it has changed, signs of life, the end."""
    heard, name = listener
    supervisor = Supervisor({"NOTIFY_SOCKET": name})
    supervisor.ready("2 plugins")
    supervisor.status("2 plugins")
    supervisor.alive()
    supervisor.status("3 plugins")
    supervisor.stopping()
    assert [heard.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=2 plugins",
        b"WATCHDOG=1",
        b"STATUS=3 plugins",
        b"STOPPING=1",
    ]


def test_a_supervisor_that_does_not_listen_stops_nobody(tmp_path: Path) -> None:
    """None at all, a socket that is gone, a name that is too long, one whose queue is full."""
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "/x" * 99}):
        Supervisor(environ).ready("well")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
        for _ in range(1000):
            supervisor.alive()


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": ""}, None),
    ],
)
def test_signs_of_life_come_twice_as_often_as_asked(
    environ: dict[str, str], every_s: float | None
) -> None:
    """Only where they are asked for, of this process."""
    assert Supervisor(environ).sign_every_s == every_s
