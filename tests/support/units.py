"""The service manager's view of ``deploy/systemd``, on a machine that is a folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
AGENT = "opt/stack-composer/venv/bin/agent"
_RUN_S = 60


def laid_out(root: Path) -> Path:
    """A machine with the distribution's units and ours, where docs/service.md puts them."""
    shutil.copytree("/usr/lib/systemd", root / "usr/lib/systemd", symlinks=True)
    (root / "lib").symlink_to("usr/lib")
    for program in (AGENT, "bin/sh"):
        path = root / program
        path.parent.mkdir(parents=True)
        shutil.copy("/bin/true", path)
    for name in ("system", "user"):
        shutil.copytree(UNITS / name, root / "etc/systemd" / name)
    for name in ("sysusers.d", "tmpfiles.d"):
        shutil.copytree(UNITS / name, root / "etc" / name)
    return root


def asked(*command: str | Path, runtime: Path | None = None) -> tuple[int, str, str]:
    """Run a tool of the service manager's; its exit code, stdout and stderr."""
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(Path.home())}
    if runtime is not None:
        environment["XDG_RUNTIME_DIR"] = str(runtime)
    done = subprocess.run(
        list(map(str, command)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_RUN_S,
    )
    return done.returncode, done.stdout, done.stderr


def settings(path: Path) -> Iterator[tuple[str, str]]:
    """The keys of a unit file in their order, and what each is set to."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            yield key, value


def allowed_calls(path: Path) -> set[str]:
    """The system calls that the ``SystemCallFilter=`` lines of a unit file leave."""
    left: set[str] = set()
    for value in (value for key, value in settings(path) if key == "SystemCallFilter"):
        names = _spelled_out(value.removeprefix("~").split())
        left = left - names if value.startswith("~") else left | names
    return left


def _spelled_out(words: list[str]) -> set[str]:
    names: set[str] = set()
    for word in words:
        if word.startswith("@"):
            code, out, err = asked("systemd-analyze", "syscall-filter", word)
            assert (code, err) == (0, ""), f"{word}: {err}"
            lines = [line.strip() for line in out.splitlines()[1:]]
            names |= _spelled_out([line for line in lines if line and not line.startswith("#")])
        else:
            names.add(word)
    return names
