"""``deploy/systemd``: the service manager accepts it, and the sandbox works under its filter."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.system import PLUGIN_ID, PROCESS_WAIT_S, Machine, Publisher
from support.units import AGENT, ROOT, UNITS, allowed_calls, asked, laid_out, settings
from support.users import as_root

SERVICE = UNITS / "system" / "stack-composer-agent.service"
LOCKED_UP = UNITS / "system" / "stack-composer-.service.d" / "50-locked-up.conf"
MOST_EXPOSED = "20"
"""In tenths; without any of the keys it would be 96."""


FOLDERS = {
    "opt/stack-composer": None,  # root's
    "opt/stack-composer/plugins": 0o755,
    "etc/stack-composer": 0o755,
    "var/lib/stack-composer": 0o700,
    "var/cache/stack-composer": 0o700,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine on which the units are installed."""
    return laid_out(tmp_path / "root")


def verified(root: Path, unit: str) -> tuple[int, str, str]:
    """What ``systemd-analyze verify`` has to say."""
    return asked("systemd-analyze", f"--root={root}", "verify", unit)


@pytest.mark.parametrize(
    "unit",
    [
        "stack-composer-agent.service",
        "stack-composer-update.service",
        "stack-composer-update.timer",
    ],
)
def test_the_service_manager_accepts_the_unit(root: Path, unit: str) -> None:
    """Every key is known, every value is one, and what it starts is there: not a word is said."""
    assert verified(root, unit) == (0, "", "")


def test_the_service_manager_of_a_user_accepts_the_unit(root: Path, tmp_path: Path) -> None:
    """Not a word is said of the user's unit."""
    unit = root / "etc/systemd/user/stack-composer-agent.service"
    text = unit.read_text(encoding="utf-8")
    # The user's manager knows no other root: what is started is where the folder has it.
    unit.write_text(text.replace("=/opt/", f"={root}/opt/"), encoding="utf-8")
    command = ("systemd-analyze", "--user", "--recursive-errors=no", "verify", unit)
    assert asked(*command, runtime=tmp_path) == (0, "", "")


def test_a_slip_in_the_drop_in_is_told(root: Path) -> None:
    """The drop-in counts for both services: a key that is none is told of each."""
    drop_in = root / "etc/systemd/system" / LOCKED_UP.parent.name / LOCKED_UP.name
    drop_in.write_text(drop_in.read_text(encoding="utf-8") + "PrivateTmpp=yes\n", encoding="utf-8")
    for name in ("agent", "update"):
        _, _, err = verified(root, f"stack-composer-{name}.service")
        assert "'PrivateTmpp'" in err


def test_a_program_that_is_not_there_is_told(root: Path) -> None:
    """Verifying looks for what is started where the page installs it."""
    (root / AGENT).unlink()
    code, _, err = verified(root, SERVICE.name)
    assert code != 0
    assert f"/{AGENT} is not executable" in err


@pytest.mark.parametrize("name", ["agent", "update"])
def test_the_services_are_locked_up(root: Path, name: str) -> None:
    """What the service manager finds left open is what the agent needs, and no more."""
    code, out, err = asked(
        "systemd-analyze",
        "--offline=yes",
        f"--root={root}",
        f"--threshold={MOST_EXPOSED}",
        "security",
        f"stack-composer-{name}.service",
    )
    assert (code, err) == (0, ""), out


def test_memory_may_be_written_and_executed() -> None:
    """The engine compiles code: under ``MemoryDenyWriteExecute=`` no plugin would load."""
    for path in UNITS.rglob("*.*"):
        if path.is_file():
            assert "MemoryDenyWriteExecute" not in dict(settings(path))


def test_calls_in_children_end_before_the_service_does() -> None:
    """SIGTERM is for the service alone, and a child that ran out of memory ends no service."""
    keys = dict(settings(SERVICE))
    assert (keys["KillMode"], keys["KillSignal"]) == ("mixed", "SIGTERM")
    assert keys["OOMPolicy"] == "continue"
    assert keys["Type"] == "notify"


def under_the_filter(machine: Machine, calls: set[str], *arguments: str) -> tuple[int, str, str]:
    """Run a verb with these system calls alone."""
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "tests/support/filtered.py",
            ",".join(sorted(calls)),
            *machine.command(*arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROCESS_WAIT_S,
        cwd=ROOT,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_plugins_run_under_the_filter(installed: Machine, isolation: str) -> None:
    """With the system calls that the units leave, a plugin is called, also in a locked child."""
    call = ("call", "-q", PLUGIN_ID, "run", "Jane", "--isolation", isolation)
    ran = under_the_filter(installed, allowed_calls(LOCKED_UP), *call)
    assert ran == (0, "Hello, Jane", "")


def test_a_child_needs_what_the_filter_leaves_it(installed: Machine) -> None:
    """Without ``capset``, one of the privileged calls, no child would lock itself up."""
    calls = allowed_calls(LOCKED_UP)
    assert {"capset", "landlock_restrict_self", "openat2"} <= calls
    assert not {"mount", "ptrace", "bpf", "setuid", "keyctl", "io_uring_setup"} & calls
    call = ("call", PLUGIN_ID, "run", "Jane", "--isolation", "process")
    code, _, err = under_the_filter(installed, calls - {"capset"}, *call)
    assert "the process of org.example.hello ended" in err
    assert code in (1, 8), err  # 8 where it was so slow that the next one's start is put off


def test_updates_and_rollbacks_run_under_the_filter(
    installed: Machine, publisher: Publisher
) -> None:
    """Fetching, verifying, staging, probing in a child, activating, and the way back."""
    publisher.release("0.2.0")
    calls = allowed_calls(LOCKED_UP)
    installed.configure('[sandbox]\nisolation = "process"\n')
    for verb in (("update",), ("rollback", PLUGIN_ID), ("doctor",)):
        code, _, err = under_the_filter(installed, calls, *verb)
        assert (code, err) == (0, ""), verb
    assert installed.version() == "0.1.0"


def users_made(root: Path) -> list[str]:
    """The fields of the service's user, once ``systemd-sysusers`` has made it."""
    code, _, err = asked("systemd-sysusers", f"--root={root}")
    assert code == 0, err
    lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    return next(line.split(":") for line in lines if line.startswith("stack-composer:"))


def test_the_services_user_is_made(root: Path) -> None:
    """It can't log in, and its home, where credentials of registries are, is the state's folder."""
    assert users_made(root)[5:] == ["/var/lib/stack-composer", "/usr/sbin/nologin"]
    assert ("User", "stack-composer") in settings(LOCKED_UP)


@as_root
def test_the_folders_are_made(root: Path) -> None:
    """Verbs find them before the service ever ran; users may look at plugins and config only."""
    uid = int(users_made(root)[2])
    conf = root / "etc/tmpfiles.d/stack-composer.conf"
    assert asked("systemd-tmpfiles", f"--root={root}", "--create", conf) == (0, "", "")
    found = {name: (root / name).stat() for name in FOLDERS}
    assert {name: (s.st_uid, stat.S_IMODE(s.st_mode)) for name, s in found.items()} == {
        name: (0 if mode is None else uid, mode or 0o755) for name, mode in FOLDERS.items()
    }
