"""The machine's own installation (``--system``), each verb a process of its own."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.system import PLUGIN_ID, PROCESS_WAIT_S, SAMPLES, STEM, Ran

PARENTS = ("etc", "var/lib", "var/cache", "run", "opt")
"""What holds the system's ``stack-composer`` folders."""

_NAME = "stack-composer"
_APART = ("unshare", "--map-root-user", "--mount", "bash", "-euc")
# In this namespace alone: each parent becomes a folder of ours, in which all else that the
# machine has there is linked to where it can still be read.
_PRELUDE = """
root=$1; shift
for parent in etc var/lib var/cache run opt; do
    mount --rbind "/$parent" "$root/.aside/$parent"
    mount --bind "$root/$parent" "/$parent"
done
exec "$@"
"""


@dataclass
class Installed:
    """Runs ``agent`` as the machine's administrator, or as a user of it.

    Attributes:
        root: Everything lies here; the system's folders too, where they are the real ones.
        variables: Added to the environment.
        is_apart: Whether ``/etc`` and its like are folders under ``root``.
    """

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    is_apart: bool = False

    def __post_init__(self) -> None:
        (self.root / "home").mkdir(parents=True)
        if self.is_apart:
            for parent in PARENTS:
                self._link_all_else(parent)

    def _link_all_else(self, parent: str) -> None:
        aside, ours = self.root / ".aside" / parent, self.root / parent
        aside.mkdir(parents=True)
        ours.mkdir(parents=True)
        for entry in Path("/", parent).iterdir():
            if entry.name != _NAME:
                (ours / entry.name).symlink_to(aside / entry.name)

    def run(self, *arguments: str | Path, expect: int | None = 0) -> Ran:
        """Run a verb; ``expect`` is its exit code, None = whatever it is."""
        command = [sys.executable, "-m", "agent", *map(str, arguments)]
        if self.is_apart:
            command = [*_APART, _PRELUDE, "bash", str(self.root), *command]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_WAIT_S,
            cwd=self.root,
            env=self._environment(),
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert expect in (None, ran.code), f"{arguments}: {ran}"
        return ran

    def system(self, *arguments: str | Path, expect: int | None = 0) -> Ran:
        """Run a verb with ``--system``."""
        return self.run(*arguments, "--system", expect=expect)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "STACK_COMPOSER_", "OTEL_"))
        }
        source = str(Path(__file__).parents[2])
        return {**kept, "HOME": str(self.root / "home"), "PYTHONPATH": source, **self.variables}


def go_through_life(machine: Installed) -> None:
    """Trust a key, publish, pull, call, update, list, info, roll back: all with ``--system``."""
    for version in ("0.1.0", "0.2.0"):
        shutil.copytree(SAMPLES / version, machine.root / version)
    machine.system("keygen", "key.pem")
    machine.system("trust", "add", "key.pem.pub", "--owner", "acme", "--scope", "org.example.*")
    machine.system("push", "./0.1.0", "--key", "key.pem")
    machine.system("pull", PLUGIN_ID)
    assert machine.system("call", "-q", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    machine.system("push", "./0.2.0", "--key", "key.pem")
    row = machine.system("update", "--format", "json").row
    assert (row["from"], row["to"], row["outcome"]) == ("0.1.0", "0.2.0", "trial")
    row = machine.system("list", "--format", "json").row
    assert (row["version"], row["state"]) == ("0.2.0", "trial")
    assert "shadows" not in row
    info = machine.system("info", PLUGIN_ID, "--format", "json").row
    assert (info["floor"], info["calls"]) == ("0.1.0", 0)
    row = machine.system("rollback", PLUGIN_ID, "--format", "json").row
    assert (row["to"], row["outcome"]) == ("0.1.0", "rolled_back")
    assert machine.system("call", "-q", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


def modes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The permission bits of files and folders."""
    return {name: f"{stat.S_IMODE((folder / name).stat().st_mode):o}" for name in names}


def flat_names() -> list[str]:
    """The flat files of the sample."""
    return [f"{STEM}.{end}" for end in ("wasm", "sig", "toml")]
