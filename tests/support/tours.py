"""A page's tour: its marked console blocks, typed into one shell on a terminal."""

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CLONE = "~/agent"
"""The folder that the pages show."""
PORTS = ("5055", "5056", "5057")
"""The ports that the pages show, in the order of what is started in the background."""
_MARK = "\x1e"
_LOOK_S = 0.1
_WAIT_LOOKS = 300
_TOURS = re.compile(r"<!-- tour.*?<!-- end of tour -->", re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`(tour/[^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What differs from run to run: key ids, what a signature is part of, times, processes, how often
# the service asked for health. A release does not.
_MASKS = (
    (re.compile(r"\bsha256:[0-9a-f]{64}\b"), "sha256:<digest>"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<key id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"), "<time>"),
    (re.compile(r"\bpid \d+"), "pid <pid>"),
    (re.compile(r"(?<=3 of )\d+( calls failed, 0 of )\d+(?= before)"), r"<calls>\1<calls>"),
)


@dataclass(frozen=True)
class Step:
    """A command, and what stands or came under it.

    Attributes:
        command: As it is typed.
        text: Lines, what differs from run to run masked.
    """

    command: str
    text: tuple[str, ...]


def shown_in(page: Path) -> list[Step]:
    """The commands of all tours of a page, and what it shows under each."""
    commands: list[str] = []
    texts: list[list[str]] = []
    for block in _CONSOLE.findall("\n".join(_TOURS.findall(page.read_text(encoding="utf-8")))):
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append(line[2:])
                texts.append([])
            else:
                texts[-1].append(line)
    return [Step(c, _masked(t)) for c, t in zip(commands, texts, strict=True)]


def files_in(page: Path) -> dict[str, str]:
    """The files that a page has its reader save: path in the clone → text."""
    return dict(_FILE.findall(page.read_text(encoding="utf-8")))


def typed(steps: list[Step], clone: Path, *, within_s: float) -> list[Step]:
    """Type the commands of a tour; what each printed, in the words of the page.

    Args:
        steps: The tour; its ports are replaced by free ones, in the commands and in the clone's
            configuration files. What is started in the background and listens is waited for.
        clone: Where it is typed; ``~/agent`` in the page.
        within_s: The deadline for all of it.

    Raises:
        AssertionError: The shell did not end in time.
    """
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    registry = clone / "deploy" / "registry.yml"
    assert not registry.exists() or registry.read_text(encoding="utf-8").count(f":{PORTS[0]}") == 1
    for pattern in ("deploy/*.yml", "tour/*.yml", "tour/*.toml"):
        for path in clone.glob(pattern):
            path.write_text(_replaced(path.read_text(encoding="utf-8"), ports), encoding="utf-8")
    waits = iter(ports.values())
    script = clone / "typed.sh"
    script.write_text(
        "".join(
            _lines(_replaced(step.command, ports), next(waits) if _is_listening(step) else None)
            for step in steps
        )
        + f"printf '{_MARK}'\n",
        encoding="utf-8",
    )
    printed = _run(script, clone, within_s)
    printed = _replaced(printed, {found: shown for shown, found in ports.items()})
    printed = printed.replace(str(clone), CLONE)
    # Nothing comes before the first mark, and after the last one only a shell's last words.
    before, *parts = printed.split(_MARK)
    assert not before
    assert len(parts) == len(steps) + 1, printed
    return [
        Step(step.command, _masked(part.splitlines()))
        for step, part in zip(steps, parts[:-1], strict=True)
    ]


def _is_listening(step: Step) -> bool:
    """Whether a port is opened; the agent's service has none."""
    return step.command.endswith("&") and not step.command.startswith("agent run")


def _replaced(text: str, ports: Mapping[str, str]) -> str:
    # Whole, and all at once: a free port may begin as one of the page's does.
    return re.sub(r"(?<=:)\d+", lambda found: ports.get(found[0], found[0]), text)


def _lines(command: str, port: str | None) -> str:
    text = f"printf '{_MARK}'\n{command}\n"
    if port is not None:
        text += (
            f"for look in {{1..{_WAIT_LOOKS}}}; do "
            f"(: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null && break; sleep {_LOOK_S}; done\n"
        )
    return text


def _run(script: Path, clone: Path, within_s: float) -> str:
    """Run the script on a terminal; the end of its session ends all that it left behind."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(clone.parent),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "OTEL_TRACES_EXPORTER": "none",  # docker-registry's own
        # the C library is built once for all tours, and not in each one's own home
        "ZIG_GLOBAL_CACHE_DIR": str(Path.home() / ".cache" / "zig"),
    }
    deadline = time.monotonic() + within_s
    printed = bytearray()
    with _terminal() as (ours, theirs):
        shell = subprocess.Popen(
            ["bash", str(script)],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        try:
            while shell.poll() is None and time.monotonic() < deadline:
                printed += _read(ours)
            while chunk := _read(ours):
                printed += chunk
            ended = shell.poll() is not None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    text = printed.decode(errors="replace").replace("\r\n", "\n")
    assert ended, f"still running after {within_s} s:\n{text}"
    return text


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def _read(terminal: int) -> bytes:
    """What was printed since the last look; empty = nothing within a tenth of a second."""
    ready, _, _ = select.select([terminal], [], [], _LOOK_S)
    return os.read(terminal, 1 << 16) if ready else b""


def _free_ports(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        # All at once, so that they differ.
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in found:
            free.bind(("127.0.0.1", 0))
        return [str(free.getsockname()[1]) for free in found]


def _masked(lines: list[str]) -> tuple[str, ...]:
    text = "\n".join(lines)
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return tuple(text.splitlines())
