"""What a child gives up: tried in processes that gave it up, and read off a real child."""

import functools
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.isolate import landlock
from sandbox.isolate.process import ProcessRunner
from support.sandbox import CODE, ECHO, READ_EXPORTS, READ_FILE, admit, plugin_files, sandbox

TRY = """
import ctypes, json, os, socket, sys
from sandbox.isolate.lockdown import lock_down

folder = os.open({folder!r}, os.O_PATH | os.O_DIRECTORY)
server = {port}
code = os.open({code!r}, os.O_RDONLY)
lock_down(data_bytes={data_bytes}, folder=folder, code=code)

def outcome(do):
    try:
        do()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"

def connect():
    with socket.socket() as end:
        end.settimeout(9)
        end.connect(("127.0.0.1", server))

print(json.dumps({{
    "read": outcome(lambda: open("/etc/passwd").close()),
    "list": outcome(lambda: os.listdir("/")),
    "write": outcome(lambda: open("/tmp/never", "w").close()),
    "run": outcome(lambda: os.execv("/bin/true", ["true"])),
    "connect": outcome(connect),
    "signal": outcome(lambda: os.kill({parent}, 0)),
    "own file": outcome(lambda: open(f"/proc/self/fd/{{folder}}/note").close()),
    "code": outcome(lambda: open(f"/proc/self/fd/{{code}}").close()),
    "code write": outcome(lambda: open(f"/proc/self/fd/{{code}}", "r+").close()),
    "beside the code": outcome(lambda: open({code!r} + ".other").close()),
    "own write": outcome(lambda: open(f"/proc/self/fd/{{folder}}/other", "w").close()),
    "memory": outcome(lambda: bytearray({data_bytes} + (64 << 20))),
}}))
"""


REFUSED = ("read", "list", "write", "run", "own write", "code write", "beside the code")
NO_PRIVILEGES = "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); "


def tried(tmp_path: Path) -> dict[str, Any]:
    """What a process can still do after it locked itself down."""
    folder, code = tmp_path / "folder", tmp_path / "code"
    folder.mkdir()
    for path in (folder / "note", code, tmp_path / "code.other"):
        path.write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = TRY.format(
            folder=str(folder),
            code=str(code),
            port=server.getsockname()[1],
            data_bytes=64 << 20,
            parent=os.getpid(),
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_locked_process_reads_its_folder_and_nothing_else(tmp_path: Path) -> None:
    """Files, programs and memory beyond the cap are out of reach; its folder is read only."""
    found = tried(tmp_path)
    assert (found["own file"], found["code"]) == ("done", "done")
    assert found["memory"] == "MemoryError"
    if landlock_version():
        refused = {what: found[what] for what in REFUSED}
        assert set(refused.values()) == {"PermissionError"}, refused


def test_a_locked_process_reaches_no_network_and_no_process(tmp_path: Path) -> None:
    """TCP and signals to others are refused by the kernels that can, and by no other."""
    found, version = tried(tmp_path), landlock_version()
    assert found["connect"] == ("PermissionError" if version >= 4 else "done")
    assert found["signal"] == ("PermissionError" if version >= 6 else "done")


def test_one_of_several_threads_is_not_locked_down() -> None:
    """What it gave up the others would still have."""
    code = """
import threading
from sandbox.isolate.lockdown import lock_down
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    lock_down(data_bytes=1 << 30, folder=None, code=0)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "cannot lock down one of several threads\n"


@functools.cache
def landlock_version() -> int:
    """This kernel's; asked in a process of its own, which gives up all."""
    code = "from sandbox.isolate import landlock; print(landlock.give_up(None, 0))"
    done = subprocess.run(
        [sys.executable, "-c", NO_PRIVILEGES + code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


def test_a_child_is_a_locked_process() -> None:
    """No privileges to gain, no capabilities, no core file, memory and descriptors capped."""
    with sandbox(admit(isolation="process", mem_bytes=1 << 20)) as box:
        plugin = box.load(plugin_files(ECHO))
        plugin.call("run", ["x"])
        assert isinstance(plugin._runner, ProcessRunner)
        pid = plugin._runner.keeper.pid
        assert pid is not None
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert status["NoNewPrivs"] == "1"
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[1] < 1 << 30
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] <= 1024


def test_a_child_goes_the_fast_way_into_the_engine() -> None:
    """It can load nothing itself: that was done before. Its engine keeps the room for instances."""
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(ECHO))
        plugin.call("run", ["x"])
        assert isinstance(plugin._runner, ProcessRunner)
        mapped = Path(f"/proc/{plugin._runner.keeper.pid}/statm").read_text("ascii").split()[0]
        assert int(mapped) * resource.getpagesize() > 4 << 30


@pytest.mark.parametrize("is_kept", [False, True], ids=["compiled now", "cached"])
def test_a_child_inherits_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_kept: bool,  # noqa: FBT001
) -> None:
    """No environment, no folder, and no descriptor but nowhere, its sockets and its code.

    That is the sealed memory that it was compiled to, or the very file in the cache, for reading.
    Only root may look: to its own user a child is closed.
    """
    monkeypatch.setenv("SECRET", "hunter2")
    cache, data = tmp_path / "cache" if is_kept else None, tmp_path / "data"
    data.mkdir()
    if cache is not None:
        with sandbox(admit("fs_read", data_dir=data), cache_dir=cache) as box:
            box.load(plugin_files(READ_FILE, READ_EXPORTS, capabilities='["fs_read"]'))
    apart = admit("fs_read", isolation="process", data_dir=data)
    with (data / "open").open("w"), sandbox(apart, cache_dir=cache) as box:
        plugin = box.load(plugin_files(READ_FILE, READ_EXPORTS, capabilities='["fs_read"]'))
        assert plugin.call("open", ["open"]).value == 0
        assert isinstance(plugin._runner, ProcessRunner)
        proc = Path(f"/proc/{plugin._runner.keeper.pid}")
        if os.geteuid():
            with pytest.raises(PermissionError):
                (proc / "environ").read_bytes()
            return
        assert (proc / "environ").read_bytes() == b""
        assert (proc / "cwd").readlink() == Path("/")
        links = [str(link.readlink()) for link in (proc / "fd").iterdir()]
    kinds = sorted(link.partition(":")[0] for link in links)
    # the engine has some of its own, once a guest opens a file, and keeps the code's open too
    entries = [] if cache is None else [str(path) for path in cache.rglob("*.aot")]
    known = {"anon_inode", "/dev/null", "/memfd", *entries}
    ours = [link for link in kinds if link not in known]
    assert ours == sorted([str(data), "socket", "socket"])
    code = {link for link in links if link.startswith("/memfd") or link in entries}
    assert code == (set(entries) if entries else {CODE})


def test_a_data_folder_that_comes_later_is_seen(tmp_path: Path) -> None:
    """Made, replaced or removed while the plugin is loaded: each call sees what is there."""
    data = tmp_path / "data"
    with sandbox(admit("fs_read", isolation="process", data_dir=data)) as box:
        plugin = box.load(plugin_files(READ_FILE, READ_EXPORTS, capabilities='["fs_read"]'))
        assert plugin.call("open", ["note"]).value == 8
        data.mkdir()
        (data / "note").write_text("first")
        assert plugin.call("run", ["note"]).value == "first"
        data.rename(tmp_path / "old")
        data.mkdir()
        (data / "note").write_text("second")
        assert plugin.call("run", ["note"]).value == "second"


def test_landlock_says_what_the_kernel_refused() -> None:
    """An error of a system call is raised and not taken for a kernel without it."""
    with pytest.raises(OSError, match="Landlock:"):
        landlock._checked(-1)
