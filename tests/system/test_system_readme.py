"""The README's tours are typed on a terminal, and print what they show."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MARK = "\x1e"
# What differs from run to run: ids and digests, times, the folder.
_MASKS = (
    (re.compile(r"[0-9a-f]{64}"), "<hex>"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"), "<time>"),
    (re.compile(r"\S*/tour/home/"), "<home>/"),
)


def _tour() -> list[tuple[str, list[str]]]:
    """The commands of both tours, and what the README shows under each."""
    text = (ROOT / "README.md").read_text()
    tours = re.findall(r"<!-- tour.*?<!-- end of tour -->", text, re.DOTALL)
    typed: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", "".join(tours), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                typed.append((line[2:], []))
            else:
                typed[-1][1].append(line)
    return typed


def _type(commands: list[str], folder: Path) -> list[list[str]]:
    """Type commands into one shell on a terminal; what each printed."""
    script = folder / "tour.sh"
    script.write_text("".join(f"printf '{_MARK}'\n{command}\n" for command in commands))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
    }
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", str(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as shell:
        os.close(theirs)
        printed = b""
        # On Linux the end of the other side reads as an error.
        while chunk := _read(ours):
            printed += chunk
        shell.wait(timeout=60)
    os.close(ours)
    parts = printed.decode().replace("\r\n", "\n").split(_MARK)[1:]
    return [part.splitlines() for part in parts]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def _masked(lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return text.splitlines()


def test_the_readme_tour_prints_what_it_shows(tmp_path: Path) -> None:
    """Followed literally, each command of the tour prints what stands under it."""
    for name in ("deploy", "sdk"):
        shutil.copytree(ROOT / name, tmp_path / name)
    tour = _tour()
    printed = _type([command for command, _ in tour], tmp_path)
    shown = [(command, _masked(lines)) for command, lines in tour]
    assert [(c, _masked(p)) for (c, _), p in zip(tour, printed, strict=True)] == shown
