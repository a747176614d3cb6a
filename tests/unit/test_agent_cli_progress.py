"""How long transfers are shown: a bar on a terminal, lines elsewhere, nothing on stdout."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.cli.output import Output
from agent.cli.progress import transfer

TOTAL_BYTES = 256 << 20
PIECE_BYTES = 1 << 20


def shown(capsys: pytest.CaptureFixture[str], out: Output, pieces: Iterator[int]) -> list[str]:
    """Show a transfer whose every piece takes a second; gives stderr's lines."""
    now_s = 0.0
    with transfer(out, "fetching x", TOTAL_BYTES, clock=lambda: now_s) as more:
        for piece in pieces:
            now_s += 1
            more(piece)
    told = capsys.readouterr()
    assert not told.out
    return told.err.splitlines()


def test_lines_tell_size_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """One at the beginning, one every ten seconds: a log is not flooded."""
    lines = shown(capsys, Output(), iter([PIECE_BYTES] * 25))
    assert lines == [
        "fetching x: 256.0 MiB",
        "fetching x: 10.0 MiB of 256.0 MiB, 1.0 MiB/s, 4m6s left",
        "fetching x: 20.0 MiB of 256.0 MiB, 1.0 MiB/s, 3m56s left",
    ]


def test_what_has_to_come_again_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    """A transfer that begins anew does not look as if it were nearly over."""
    lines = shown(capsys, Output(), iter([9 * PIECE_BYTES, -9 * PIECE_BYTES, *[PIECE_BYTES] * 9]))
    assert lines[1:] == ["fetching x: 8.0 MiB of 256.0 MiB, 819.2 KiB/s, 5m10s left"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """``-q``: nothing at all."""
    out = Output()
    out.quiet = True
    assert not shown(capsys, out, iter([PIECE_BYTES] * 25))


BAR = f"""
from agent.cli.output import Output
from agent.cli.progress import transfer
with transfer(Output(), "fetching [x]", {TOTAL_BYTES}) as more:
    for _ in range(128):
        more({PIECE_BYTES})
"""


def test_a_terminal_gets_a_bar() -> None:
    """With what came, how fast, and how long it will take; stdout has nothing of it."""
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", buffering=0)) as screen:
        environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
        done = subprocess.run(
            [sys.executable, "-c", BAR],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=True,
            timeout=60,
            env=environment,
        )
        os.close(theirs)
        drawn = b""
        try:
            while piece := screen.read(65536):
                drawn += piece
        except OSError:  # the other side is closed
            pass
    assert done.stdout == b""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    assert re.search(r"fetching \[x\] .*128\.0/256\.0 MiB .*/s +\d:\d\d:\d\d", text)
