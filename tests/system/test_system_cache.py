"""The cache by the command line: killed pulls go on, prune keeps it small, config bounds it."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.links import Link, breaking_link
from support.registry import docker_registry
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher

SIZE_BYTES = 12 << 20
CODE = b"\0asm\x01\0\0\0" + random.Random(3).randbytes(SIZE_BYTES)  # noqa: S311 - any bytes
WAIT_S = 30
_APART = ("unshare", "--map-root-user", "--mount", "bash", "-euc")
DISKS = {
    "read only": 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"',
    "full": 'mount -t tmpfs -o size=2m,mode=700 tmpfs "$1"; shift; exec "$@"',
}


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """A link to a docker-registry."""
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host, breaking_link(host) as running:
        yield running


@pytest.fixture
def machine(link: Link, tmp_path: Path) -> Machine:
    """A host that believes a publisher of a large plugin."""
    machine = Machine(tmp_path / "host", f"{link.host}/plugins")
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    publisher.release("0.1.0", code=CODE)
    return machine


def parts(machine: Machine) -> list[Path]:
    """What came of blobs."""
    return list(machine.home.glob("cache/blobs/partial/*"))


def test_a_killed_pull_goes_on_at_the_next_start(
    link: Link, machine: Machine, tmp_path: Path
) -> None:
    """``kill -9`` in the middle: the next pull fetches the rest, and says nothing of it."""
    link.stop_at = link.down + (7 << 20)
    with machine.popen("pull", PLUGIN_ID, "--output", tmp_path / "out") as process:
        assert link.is_stopped.wait(WAIT_S)
        until = time.monotonic() + WAIT_S
        # What is on the way comes to the disk before it is killed.
        while not (found := parts(machine)) or found[0].stat().st_size < 6 << 20:
            assert time.monotonic() < until
        process.kill()
        process.wait(WAIT_S)
    (part,) = parts(machine)
    had = part.stat().st_size
    link.goes_on.set()
    down = link.down
    machine.process("pull", PLUGIN_ID, "--output", tmp_path / "out")
    assert (tmp_path / "out" / f"{STEM}.wasm").read_bytes() == CODE
    assert link.down - down <= SIZE_BYTES - had + (64 << 10)
    assert not parts(machine)


def test_two_pulls_of_one_plugin_fetch_it_once(
    link: Link, machine: Machine, tmp_path: Path
) -> None:
    """Two processes at once: the bytes come down once, and both have them."""
    down = link.down
    link.stop_at = down + (7 << 20)
    outs = [tmp_path / "a", tmp_path / "b"]
    with machine.popen("pull", PLUGIN_ID, "--output", outs[0]) as first:
        assert link.is_stopped.wait(WAIT_S)
        with machine.popen("pull", PLUGIN_ID, "--output", outs[1]) as second:
            link.goes_on.set()
            assert (first.wait(WAIT_S), second.wait(WAIT_S)) == (0, 0)
    assert link.down - down < SIZE_BYTES + (64 << 10)
    for out in outs:
        assert (out / f"{STEM}.wasm").read_bytes() == CODE


def test_prune_keeps_the_cache_as_small_as_configured(machine: Machine, tmp_path: Path) -> None:
    """A smaller size counts from the next prune on, or the next pull; it lists what goes."""
    machine.run("pull", PLUGIN_ID, "--output", tmp_path / "out")
    assert machine.run("prune").err == "nothing to remove\n"
    machine.configure()
    text = machine.config_file.read_text()
    machine.config_file.write_text(
        text.replace("[registry]\n", "[registry]\nmax_cache_bytes = 1000\n")
    )
    planned = machine.run("prune", "--dry-run").out
    assert planned == "would remove 12.0 MiB of the cache, blobs: 1\n"
    (row,) = machine.json("prune").document["cached"]
    assert row["size_bytes"] == len(CODE)
    assert not list(machine.home.glob("cache/blobs/*/*"))
    assert (tmp_path / "out" / f"{STEM}.wasm").read_bytes() == CODE


def test_a_changed_cache_changes_no_output(machine: Machine, tmp_path: Path) -> None:
    """What somebody wrote into the cache is told, thrown away and fetched again."""
    machine.run("pull", PLUGIN_ID, "--output", tmp_path / "a")
    (whole,) = (
        path
        for path in machine.home.glob("cache/blobs/sha256/*")
        if path.stat().st_size == len(CODE)
    )
    whole.unlink()
    whole.write_bytes(CODE[:-1] + b"?")
    told = machine.process("pull", PLUGIN_ID, "--output", tmp_path / "b").err
    assert "in the cache: its bytes are sha256:" in told
    assert (tmp_path / "b" / f"{STEM}.wasm").read_bytes() == CODE


def test_prune_can_empty_the_cache(machine: Machine, tmp_path: Path) -> None:
    """All of it, and nothing else; a dry run says what."""
    machine.run("pull", PLUGIN_ID, "--output", tmp_path / "out")
    (planned,) = machine.json("prune", "--cache", "--dry-run").document["cached"]
    assert planned["size_bytes"] == len(CODE)
    assert list(machine.home.glob("cache/blobs/sha256/*"))
    (row,) = machine.json("prune", "--cache").document["cached"]
    assert row == planned
    assert not list(machine.home.glob("cache/blobs/*/*"))
    assert (tmp_path / "out" / f"{STEM}.wasm").read_bytes() == CODE
    assert machine.run("prune", "--cache").err == "nothing to remove\n"


@pytest.mark.parametrize("is_there", [False, True], ids=["nothing cached", "cached"])
@pytest.mark.parametrize("disk", DISKS)
def test_a_pull_needs_no_cache(
    machine: Machine, tmp_path: Path, disk: str, *, is_there: bool
) -> None:
    """On a disk that is full or read only it says so and goes on without, to the right bytes."""
    cache = machine.home / "cache"
    (cache if not is_there else cache / "blobs").mkdir(parents=True, exist_ok=True)
    if is_there:
        machine.run("pull", PLUGIN_ID, "--output", tmp_path / "first")
    out = tmp_path / "out"
    command = machine.command("pull", PLUGIN_ID, "--output", out)
    ran = subprocess.run(
        [*_APART, DISKS[disk], "-", str(cache), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROCESS_WAIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    assert ("going on without" in ran.stderr) or is_there, ran.stderr
    assert (out / f"{STEM}.wasm").read_bytes() == CODE
