"""Commands of the operator's: run without a shell, within a time, and with no secret of ours.

A command gets its input on stdin, whether it reads it or not. What it says is kept, the end of
it; with its time it loses all that it started.
"""

import atexit
import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Self
from urllib.parse import urlsplit

from sandbox.log import escape_text

_KEPT_BYTES = 16 << 10
_PIECE_BYTES = 64 << 10
_GRACE_S = 2.0
"""From SIGTERM to SIGKILL."""
_LONGEST_LINE = 300
_SECRET = re.compile(
    "TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|WEBHOOK|HEADERS|APIKEY|_KEY$|_AUTH$|_PAT$"
)
_OF_THE_SERVICE = re.compile("NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*|INVOCATION_ID|JOURNAL_STREAM")
"""What systemd tells the service, and is not for what it runs."""

_running: "set[subprocess.Popen[bytes]]" = set()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        why: Why it did not succeed, without what it said; empty where it did.
        out: The end of what it wrote to stdout.
        err: The end of what it wrote to stderr.
        is_cut_short: It was ended because nobody waits any more.
    """

    why: str
    out: str = ""
    err: str = ""
    is_cut_short: bool = False

    @property
    def last_line(self) -> str:
        """The last line that it wrote to stderr, escaped and cut; empty where there is none."""
        lines = self.err.strip().splitlines()
        return escape_text(lines[-1])[:_LONGEST_LINE] if lines else ""

    @property
    def complaint(self) -> str:
        """Why it did not succeed, in its own last words, too; empty where it did."""
        return ": ".join(filter(None, (self.why, self.last_line))) if self.why else ""


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without what is named or looks like a secret, or is the service's alone."""
    return {
        name: value
        for name, value in environ.items()
        if not (
            _SECRET.search(name.upper()) or _OF_THE_SERVICE.fullmatch(name) or _has_password(value)
        )
    }


def _has_password(value: str) -> bool:
    """Whether a value is an address with a password in it."""
    try:
        return "://" in value and urlsplit(value).password is not None
    except ValueError:
        return "@" in value


def run_command(
    words: Sequence[str],
    given: bytes,
    *,
    timeout_s: float,
    environ: Mapping[str, str],
    given_up: int | None = None,
) -> Ended:
    """Run a command in ``/``, in a session of its own.

    Args:
        words: The program, by its path or found on ``PATH``, and its arguments.
        given: Its stdin.
        timeout_s: Then it is asked to end, and killed two seconds later, with all that it started.
        environ: Its environment, before secrets are taken out.
        given_up: A descriptor: once it can be read, the command is ended like one that is late.
    """
    clean = without_secrets(environ)
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=clean,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ended(f"it can't be run: {getattr(error, 'strerror', None) or error}")
    _running.add(process)
    try:
        with _Run(process, given, given_up) as run:
            is_over = run.until_end(timeout_s)
            if not is_over:
                run.end()
            code = process.wait()
            why = f"it ended with {code}" if code else ""
            if code < 0:
                why = f"it was ended by signal {-code}"
            if not is_over:
                late = f"no end within {timeout_s:g} s"
                why = "nobody waits any more" if run.is_given_up else late
            return Ended(why, *run.said(), is_cut_short=run.is_given_up and not is_over)
    except OSError as error:  # this process has no descriptor left to watch it by
        return Ended(f"it can't be run: {error.strerror}")
    finally:
        _leave(process)
        _running.discard(process)


@atexit.register
def _leave_all() -> None:
    """Whoever waits for a command in another thread is not there any more to end it in time."""
    for process in tuple(_running):
        if process.returncode is None:
            _signal(process, signal.SIGKILL)


def _leave(process: "subprocess.Popen[bytes]") -> None:
    """Let go of a command; where we are interrupted it goes, with all that it started."""
    if process.returncode is None:
        _signal(process, signal.SIGKILL)
    with contextlib.suppress(BrokenPipeError):
        process.__exit__(None, None, None)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal a command that was not waited for yet, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Run:
    """A command under way: feeds it, keeps what it says, and ends it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", given: bytes, given_up: int | None
    ) -> None:
        self._process = process
        self._rest = given
        self._kept: dict[IO[bytes], bytearray] = {}
        self._end = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        self._is_over = False
        self.is_given_up = False
        self._selector.register(self._end, selectors.EVENT_READ, self._over)
        if given_up is not None:
            self._selector.register(given_up, selectors.EVENT_READ, lambda: self._give_up(given_up))
        for stream in (process.stdout, process.stderr):
            self._take_part(stream, selectors.EVENT_READ, self._read)
        self._take_part(process.stdin, selectors.EVENT_WRITE, self._write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        os.close(self._end)

    def _take_part(
        self, stream: IO[bytes] | None, event: int, act: Callable[[IO[bytes]], None]
    ) -> None:
        if stream is None:
            raise AssertionError("Popen was called with PIPE")
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, event, lambda: act(stream))
        if event == selectors.EVENT_READ:
            self._kept[stream] = bytearray()

    def until_end(self, timeout_s: float) -> bool:
        """Go on until the command itself has ended; whether it did in time."""
        until_s = time.monotonic() + timeout_s
        while not self._is_over and not self.is_given_up:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False
            for key, _ in self._selector.select(left_s):
                key.data()
        return self._is_over

    def end(self) -> None:
        """Have the command end, and all that it started."""
        _signal(self._process, signal.SIGTERM)
        given_up, self.is_given_up = self.is_given_up, False
        self.until_end(_GRACE_S)
        self.is_given_up = given_up
        _signal(self._process, signal.SIGKILL)

    def said(self) -> tuple[str, str]:
        """What it wrote to stdout and stderr."""
        for stream in self._kept:
            if not stream.closed:
                self._read(stream)  # what is there still; who holds the other end may go on
        out, err = (kept.decode("utf-8", "replace") for kept in self._kept.values())
        return out, err

    def _over(self) -> None:
        self._is_over = True

    def _give_up(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)  # once is enough
        self.is_given_up = True

    def _read(self, stream: IO[bytes]) -> None:
        kept = self._kept[stream]
        try:
            piece = os.read(stream.fileno(), _PIECE_BYTES)
        except BlockingIOError:
            return
        kept += piece
        del kept[:-_KEPT_BYTES]
        if not piece:
            self._let_go(stream)

    def _write(self, stream: IO[bytes]) -> None:
        try:
            self._rest = self._rest[os.write(stream.fileno(), self._rest) :]
        except BrokenPipeError:
            self._rest = b""  # it does not want to know
        if not self._rest:
            self._let_go(stream)

    def _let_go(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(stream)
        stream.close()
