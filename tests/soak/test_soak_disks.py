"""What a full and a read-only disk do: real mounts, in a mount namespace of their own."""

import subprocess
from pathlib import Path

import pytest

from support.system import PLUGIN_ID, PROCESS_WAIT_S, SAMPLES, Machine, Publisher

PADDING_BYTES = 600_000
_APART = ("unshare", "--map-root-user", "--mount")
SCRIPT = """
set -u
mkdir "$1/kept" && cp -a "$1/plugins/." "$1/kept/"
say() { agent="$1"; shift; "$@" >/dev/null 2>&1; echo "$agent $?"; }
mount -t tmpfs -o size="$2" tmpfs "$1/plugins" || exit 99
cp -a "$1/kept/." "$1/plugins/" || exit 98
case "$2" in 64m) mount -o remount,ro "$1/plugins" || exit 97 ;; esac
say update $3 update ID
say list $3 list
$3 call -q ID run Jane; echo
mount -o remount,rw,size=64m "$1/plugins" || exit 96
say update $3 update ID
say prune $3 prune
$3 call -q ID run Jane; echo
cmp "$1"/plugins/*.wasm "$1"/plugins/.store/ID/current/*.wasm && echo same
"""

pytestmark = pytest.mark.soak


def padded(code: bytes) -> bytes:
    """The same code, as large as a plugin of some substance."""
    body = b"\x03pad" + bytes(PADDING_BYTES)
    size, rest = [], len(body)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return code + b"\0" + bytes([*size, rest]) + body


@pytest.mark.parametrize(
    ("size", "first"),
    [("300k", "update 1"), ("700k", "update 0"), ("64m", "update 1")],
    ids=["no room for the release", "no room for its copies", "read only"],
)
def test_a_disk_that_is_full_or_read_only_costs_nothing_but_the_update(
    tmp_path: Path, size: str, first: str
) -> None:
    """Exit 1, what served serves on; with room again the same command ends well."""
    machine = Machine(tmp_path / "host")
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    code = (SAMPLES / "0.2.0" / "hello-plugin.wasm").read_bytes()
    publisher.release("0.2.0", code=padded(code))
    machine.configure(probation="0s")
    agent = " ".join(machine.command())
    script = SCRIPT.replace("ID", PLUGIN_ID)
    ran = subprocess.run(
        [*_APART, "bash", "-c", script, "bash", str(machine.home), size, agent],
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * PROCESS_WAIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[:2] == [first, "list 0"], ran
    assert lines[3:5] == ["update 0", "prune 0"], ran
    assert lines[2].startswith("Hello"), ran
    assert lines[5].startswith("Hello"), ran
    assert lines[6] == "same", ran
