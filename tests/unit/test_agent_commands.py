"""The operator's commands: no shell, no secret, bounded in time and in what they say."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.commands import Ended, run_command, without_secrets

WAIT_S = 20
GIVEN = b'{"schemaVersion": 1}\n'
SAYS = """
import os, sys
print(sys.stdin.read(), os.getcwd(), sys.argv[1:])
print("e", file=sys.stderr)
"""
TALKS = r"""
import sys
sys.stderr.write("x" * 99_999 + "\nfirst\n" + "\x1b[2J\u202e" + "y" * 999 + "\n\n")
"""
TOOK_OVER = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    time.sleep(600)
Path(sys.argv[1]).write_text(f"{os.getpid()} {child}")
for up in sys.argv[2:]:
    open(up, "w").close()
time.sleep(600)
"""


def run(*words: str, given: bytes = GIVEN, timeout_s: float = WAIT_S) -> Ended:
    """Run a command."""
    return run_command(words, given, timeout_s=timeout_s, environ=os.environ)


def python(code: str, *arguments: str, timeout_s: float = WAIT_S) -> Ended:
    """Run some Python."""
    return run(sys.executable, "-c", code, *arguments, timeout_s=timeout_s)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe by name."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def gone_at_last(path: Path) -> Iterator[None]:
    """The processes whose numbers stand in a file are gone after the block."""
    yield
    for number in map(int, path.read_text().split()):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(number)
            assert select.select([handle], [], [], WAIT_S)[0]
            os.close(handle)


def test_it_gets_its_input_and_says_what_it_says() -> None:
    """Both streams, and nothing else: no shell reads the words, no folder is ours."""
    ended = python(SAYS, "$HOME; x", "*")
    assert ended.why == ""
    assert ended.out == f"{GIVEN.decode()} / ['$HOME; x', '*']\n"
    assert ended.err == "e\n"


def test_it_need_not_read_its_input() -> None:
    """Neither where it ends without, nor where there is more than a pipe takes."""
    assert run("true").why == ""
    assert run("true", given=b"x" * (1 << 20)).why == ""
    assert python("print(len(input()))").why == ""


def test_a_large_input_is_read_whole() -> None:
    """While it writes as much itself."""
    ended = run("cat", given=b"x" * (1 << 20))
    assert ended.why == ""
    assert ended.out == "x" * (16 << 10)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["false"], "it ended with 1"),
        (["sh", "-c", "exit 99"], "it ended with 99"),
        (["sh", "-c", "kill -9 $$"], "it was ended by signal 9"),
        (["/nowhere/hook"], "it can't be run: No such file or directory"),
        (["/etc/passwd"], "it can't be run: Permission denied"),
    ],
)
def test_it_is_told_why_it_failed(words: list[str], why: str) -> None:
    """In words."""
    assert run(*words).why == why


def test_what_it_says_is_bounded_and_the_end_of_it_counts() -> None:
    """A command that talks for ever is ended in time; its last line is escaped and cut."""
    ended = run("sh", "-c", "yes; :", timeout_s=0.5)
    assert ended.why == "no end within 0.5 s"
    assert 0 < len(ended.out) <= 16 << 10
    ended = python(TALKS)
    assert ended.last_line.startswith("\\x1b[2J\\u202eyyy")
    assert len(ended.last_line) == 300
    assert run("true").last_line == ""
    assert run("true").complaint == ""
    assert run("sh", "-c", "echo no >&2; exit 3").complaint == "it ended with 3: no"


def test_with_its_time_it_loses_all_that_it_started(tmp_path: Path) -> None:
    """It ignores SIGTERM, and so does its child, which holds the pipes open."""
    numbers = tmp_path / "numbers"
    with gone_at_last(numbers):
        ended = python(TOOK_OVER, str(numbers), timeout_s=5)
        assert ended.why == "no end within 5 s"


def test_it_may_tidy_up_when_its_time_is_over(tmp_path: Path) -> None:
    """SIGTERM comes first."""
    tidy = f"trap 'echo tidy > {tmp_path}/said; exit 0' TERM; echo up >&2; sleep 600 & wait"
    ended = run("sh", "-c", tidy, timeout_s=2)
    assert ended.why == "no end within 2 s"
    assert (tmp_path / "said").read_text() == "tidy\n"


def test_what_it_leaves_running_is_not_waited_for(fifo: Path) -> None:
    """A child that holds the pipes open outlives a command that ended well."""
    ended = run("sh", "-c", f"(read x < {fifo}; echo late) & echo started")
    assert (ended.why, ended.out) == ("", "started\n")
    fifo.write_text("go\n")


def test_who_waits_may_give_up(tmp_path: Path, fifo: Path) -> None:
    """It is ended like one that is late, and that is told apart."""
    numbers = tmp_path / "numbers"
    given_up, give_up = os.pipe()

    def give() -> None:
        fifo.read_text()
        os.close(give_up)

    giver = threading.Thread(target=give)
    giver.start()
    with gone_at_last(numbers):
        ended = run_command(
            [sys.executable, "-c", TOOK_OVER, str(numbers), str(fifo)],
            GIVEN,
            timeout_s=600,
            environ=os.environ,
            given_up=given_up,
        )
        assert (ended.why, ended.is_cut_short) == ("nobody waits any more", True)
    giver.join(WAIT_S)
    os.close(given_up)


WAITS = """
import os, sys
from agent.commands import run_command
run_command([sys.executable, "-c", *sys.argv[1:]], b"", timeout_s=600, environ=os.environ)
"""


def test_an_interrupted_wait_leaves_nothing_running(tmp_path: Path, fifo: Path) -> None:
    """Ctrl-C in the program that waits: the command goes with it."""
    numbers = tmp_path / "numbers"
    command = [sys.executable, "-c", WAITS, TOOK_OVER, str(numbers), str(fifo)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as program:
        fifo.read_text()
        with gone_at_last(numbers):
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=WAIT_S)
    assert program.returncode


ENDS = """
import os, sys, threading
from agent.commands import run_command
*command, fifo = sys.argv[1:]
words = [sys.executable, "-c", *command, fifo]
wait = lambda: run_command(words, b"", timeout_s=600, environ=os.environ)
threading.Thread(target=wait, daemon=True).start()
open(fifo).read()
"""


def test_a_program_that_ends_leaves_nothing_running(tmp_path: Path, fifo: Path) -> None:
    """As the service does, where a hook hangs in one of its threads longer than it waits."""
    numbers = tmp_path / "numbers"
    command = [sys.executable, "-c", ENDS, TOOK_OVER, str(numbers), str(fifo)]
    subprocess.run(command, check=True, timeout=WAIT_S)
    with gone_at_last(numbers):
        assert numbers.read_text()


def test_its_environment_has_no_secret() -> None:
    """Neither by name nor by looks; the service's own channels to systemd are not its either."""
    kept = {
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "HTTP_PROXY": "http://proxy:3128",
        "KEYMAP": "de",
    }
    secret = {
        "REGISTRY_PASSWORD": "x",
        "GITHUB_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=x",
        "STACK_COMPOSER_HOOKS__WEBHOOK": "https://chat/x",
        "HTTPS_PROXY": "http://user:x@proxy:3128",
        "BROKEN": "http://[x@",
        "CREDENTIALS_DIRECTORY": "/run/credentials/x",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "1",
    }
    assert without_secrets({**kept, **secret}) == kept
    seen = run_command(
        [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
        b"",
        timeout_s=WAIT_S,
        environ={**kept, **secret},
    )
    assert json.loads(seen.out).keys() - {"LC_CTYPE"} == kept.keys()
