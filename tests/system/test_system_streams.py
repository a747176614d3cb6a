"""The process and its standard streams: readers that leave, streams that are closed, full disks."""

import os
import subprocess

import pytest

from agent import __version__
from support.system import Machine, Publisher, Ran

WAIT_S = 60
OTHER_ID = "org.example.other"


def shell(machine: Machine, script: str, *arguments: str) -> Ran:
    """Run a line of bash in which ``"$@"`` is the agent with these arguments."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *machine.command(*arguments)],
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=WAIT_S,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def unread(machine: Machine, stream: str, *arguments: str) -> Ran:
    """Run a verb whose stdout or stderr is a pipe that nobody reads any longer."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            machine.command(*arguments),
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=WAIT_S,
            text=True,
            stdout=writer if stream == "stdout" else subprocess.PIPE,
            stderr=writer if stream == "stderr" else subprocess.PIPE,
        )
    finally:
        os.close(writer)
    return Ran(done.returncode, done.stdout or "", done.stderr or "")


def test_the_command_ends_with_its_code(machine: Machine) -> None:
    """``python -m agent`` says its version on stdout, what is wrong on stderr."""
    assert machine.process("--version").out == f"agent, version {__version__}\n"
    refused = machine.process("nope", expect=2)
    assert (refused.out, refused.err.splitlines()[0]) == ("", "agent: cannot find the verb 'nope'")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["completion", "bash"], 0),
        (["config", "show"], 0),
        (["list"], 0),
        (["info", "org.example.none"], 3),
        (["nope"], 2),
    ],
)
def test_a_reader_that_goes_away_changes_no_code(
    machine: Machine, stream: str, arguments: list[str], code: int
) -> None:
    """``agent info ID | head -0``: no traceback, and the code is the verb's."""
    ran = unread(machine, stream, *arguments)
    assert ran.code == code
    assert "Traceback" not in ran.err
    assert "Exception" not in ran.err


def test_a_reader_that_goes_away_stops_no_work(installed: Machine, publisher: Publisher) -> None:
    """``agent update | head -0`` and ``2>`` a dead pipe: every plugin is updated all the same."""
    installed.configure(probation="0s")
    publisher.release("0.1.0", plugin_id=OTHER_ID, stem="other")
    installed.run("pull", OTHER_ID)
    for stream, version in (("stdout", "0.2.0"), ("stderr", "0.3.0")):
        publisher.release(version, sample="0.2.0")
        publisher.release(version, sample="0.2.0", plugin_id=OTHER_ID, stem="other")
        assert unread(installed, stream, "update").code == 0
        assert installed.version() == version
        assert installed.version(OTHER_ID) == version


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault(installed: Machine, closed: str) -> None:
    """Nothing that the verb opens takes the stream's number, and the code is the verb's."""
    before = installed.snapshot()
    for arguments, code in ((["list"], 0), (["config", "check"], 0), (["info", "org.none.x"], 3)):
        ran = shell(installed, f'"$@" {closed}', *arguments)
        assert ran.code == code, ran.err
    assert installed.snapshot() == before


@pytest.mark.parametrize("arguments", [["--version"], ["list"], ["list", "--format", "json"]])
def test_what_cannot_be_written_is_told(installed: Machine, arguments: list[str]) -> None:
    """A full disk behind ``>``: exit 1 and the reason, once."""
    ran = shell(installed, '"$@" >/dev/full', *arguments)
    assert ran.code == 1
    assert ran.err.count("No space left on device") == 1
