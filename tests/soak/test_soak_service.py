"""The service killed by the hundred; on disks that are full or read only (make soak)."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.service import Frail, service
from support.service_kills import WORK, kill_services
from support.system import PLUGIN_ID, Machine, Publisher

KILLS = 200

pytestmark = pytest.mark.soak


@pytest.fixture
def frail(tmp_path: Path) -> Frail:
    """A host with 0.1.0 installed, whose health the test decides; its registry is a folder."""
    base = f"oci:{tmp_path / 'offers'}"
    machine = Machine(tmp_path / "host", base)
    publisher = Publisher(Machine(tmp_path / "author", base), tmp_path / "publisher")
    publisher.trusted_by(machine)
    machine.configure(Frail.section(), probation="1s", update='interval = "1s"\njitter = "0s"')
    frail = Frail(publisher, machine)
    frail.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    return frail


def test_200_killed_services_leave_their_work_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in CI, other moments each run: the seed is in the message."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    seed = time.time_ns()
    seen = kill_services(tmp_path, seed, KILLS)
    told = f"{KILLS} kills of services with seed {seed}: {dict(seen)}"
    sys.stderr.write(f"{told}\n")
    assert all(seen[work] for work in WORK), told


# In a mount namespace of its own: the folder is made anew in memory, with what it held.
_MOUNT = """
set -eu
for folder in $2; do
    mkdir "$1/.kept"; cp -a "$1/$folder/." "$1/.kept/"
    mount -t tmpfs -o size="$3" tmpfs "$1/$folder"
    cp -a "$1/.kept/." "$1/$folder/"; rm -r "$1/.kept"
done
shift 3
exec "$@"
"""


def apart(machine: Machine, folders: str, size: str) -> list[str]:
    """What runs a command with these folders on disks of their own."""
    enter = ["unshare", "--map-root-user", "--mount", "bash", "-c", _MOUNT, "bash"]
    return [*enter, str(machine.home), folders, size]


def within(pid: int, command: str) -> None:
    """Run a command where a service has its disks."""
    subprocess.run(
        ["nsenter", "--preserve-credentials", "-U", "-m", "-t", str(pid), "bash", "-euc", command],
        check=True,
        timeout=60,
    )


def test_a_service_begins_on_a_read_only_state(frail: Frail) -> None:
    """It says so, and serves what is there."""
    machine = frail.machine
    script = f"mount -o remount,ro {machine.home / 'state'}; exec"
    before = [*apart(machine, "state", "64m"), "bash", "-c", f'{script} "$@"', "bash"]
    with service(machine, before=before) as running:
        running.log.wait_for(f"loaded: {PLUGIN_ID}")
        running.log.wait_for("service.lock: ")


@pytest.mark.parametrize("folder", ["plugins", "state"])
def test_a_full_disk_costs_the_update_and_is_got_over(frail: Frail, folder: str) -> None:
    """No room for a release, or for the ledger: what serves serves on; with room it is taken."""
    machine = frail.machine
    with service(machine, before=apart(machine, folder, "2m")) as running:
        filler = machine.home / folder / "filler"
        within(running.process.pid, f"head -c 4m /dev/zero > {filler} || true")
        frail.release("0.2.0")
        running.log.wait_for("No space left")
        within(running.process.pid, f"rm {filler}")
        running.log.wait_for("trial at activate")
        place = running.notes.wait_for("1 on trial")
        running.notes.wait_for("0 on trial", since=place)
