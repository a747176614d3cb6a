"""What a guest makes of its data folder: it reads as C programs do, and nothing else."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Admission, DeadlineExceeded, FuelExhausted, GuestTrap, LogRecord, folder
from sandbox.admission import Isolation
from sandbox.capabilities import WASI_MODULE
from sandbox.folder import ROOT, Folder
from sandbox.hostfuncs import files, wasi
from sandbox.isolate.serving import MOST_CHANNELS
from support.sandbox import (
    READ_EXPORTS,
    READ_FILE,
    admit,
    loaded,
    nothing_left,
    plugin_files,
    sandbox,
)

BUILD_S = 300
MEET_S = 30
MANY = 60_000
P = "/plugin/data/"

# One step for each argument, a letter and a path; what came of it, a line each.
SOURCE = r"""
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void step(char letter, const char *path) {
    char text[64] = "";
    struct stat s;
    errno = 0;
    if (letter == 'r') {
        FILE *file = fopen(path, "r");
        if (file) { text[fread(text, 1, 63, file)] = 0; fclose(file); printf("%s", text); }
    } else if (letter == 'p') {
        int fd = open(path, O_RDONLY);
        printf("%zd %.3s", pread(fd, text, 3, 2), text);
        printf(" %d", (int)lseek(fd, -1, SEEK_END));
        printf(" %d", (int)lseek(fd, 0, SEEK_CUR));
        printf(" %zd", read(fd, text, 63));
        printf(" %zd", read(fd, text, 63));
        fstat(fd, &s);
        printf(" %d", (int)s.st_size);
        close(fd);
    } else if (letter == 's') {
        if (!stat(path, &s))
            printf("%s", S_ISDIR(s.st_mode) ? "folder" : S_ISREG(s.st_mode) ? "file" : "other");
    } else if (letter == 'l') {
        ssize_t n = readlink(path, text, 63);
        if (n >= 0) printf("%.*s", (int)n, text);
    } else if (letter == 'd') {
        DIR *folder = opendir(path);
        int entries = 0, folders = 0;
        for (struct dirent *e; folder && (e = readdir(folder)); entries++)
            folders += e->d_type == DT_DIR;
        if (folder) { printf("%d %d", entries, folders); closedir(folder); }
    } else if (letter == 'y') {
        printf("%d%d%d", isatty(0), isatty(1), isatty(2));
        printf(" %d %o", fstat(1, &s), (unsigned)s.st_mode);
    } else if (letter == 'w') {
        if (open(path, O_WRONLY | O_CREAT, 0600) >= 0) printf("written");
    } else if (letter == 't') {
        if (open(path, O_RDONLY | O_TRUNC) >= 0) printf("cut");
    } else if (letter == 'u') {
        if (!unlink(path)) printf("gone");
    } else if (letter == 'm') {
        if (!mkdir(path, 0700)) printf("made");
    } else if (letter == 'n') {
        if (!rename(path, "/plugin/data/new")) printf("moved");
    } else if (letter == 'f') {
        int opened = 0;
        while (open(path, O_RDONLY) >= 0) opened++;
        printf("%d", opened);
    } else if (letter == 'e') {
        for (;;) {
            char big[4096];
            int fd = open(path, O_RDONLY);
            while (read(fd, big, sizeof big) > 0) continue;
            close(fd);
        }
    }
    if (errno) printf(" errno %d", errno);
    printf("\n");
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) step(argv[i][0], argv[i] + 1);
}
"""


# Opens a file as often as it may, then says so; gives how often that was.
OPEN_ALL = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "a.txt")
  (func (export "run") (result i32) (local $opened i32)
    (loop $again
      (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5)
          (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8)))
        (then (local.set $opened (i32.add (local.get $opened) (i32.const 1))) (br $again))))
    (call $log (i32.const 2) (i32.const 0) (i32.const 5))
    (local.get $opened)))"""


# Lists its folder once, into as much room as it is told of.
LIST = """(module
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (param i32) (result i32)
    (call $list (i32.const 3) (i32.const 1024) (local.get 0) (i64.const 0) (i32.const 0))))"""


FILE_CALLS = {
    name: kind.params
    for name, (kind, _) in (files.CALLS | wasi.CALLS).items()
    if name.startswith(("fd_", "path_"))
}

# Each of them as an export; the name of a file lies at 0.
ANY_CALL = "(module {} {} {})".format(
    " ".join(
        f'(import "{WASI_MODULE}" "{name}" (func ${name} (param {" ".join(params)}) (result i32)))'
        for name, params in FILE_CALLS.items()
    ),
    """(memory (export "memory") 2) (data (i32.const 0) "a.txt") (func (export "run"))""",
    " ".join(
        f'(func (export "{name}") (param {" ".join(params)}) (result i32)'
        f" (call ${name} {' '.join(f'(local.get {place})' for place in range(len(params)))}))"
        for name, params in FILE_CALLS.items()
    ),
)
ANY_EXPORTS = "".join(
    f'[exports.{name}]\nparams = {list(params)}\nresult = "i32"\n'
    for name, params in FILE_CALLS.items()
)
OPEN = [ROOT, 1, 0, 5, 0, 2, 2, 0, 64]
MOST_ERRNO = 76
EDGES = {
    "i32": (1, 5, 1024, 1025, 131_068, 131_072, -1, -8, 2**31 - 1, -(2**31)),
    "i64": (1, 64, 2**32, 2**40, 2**63 - 1, -1, -(2**63)),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The program, built with the C library that most plugins have."""
    place = tmp_path_factory.mktemp("program")
    (place / "files.c").write_text(SOURCE, encoding="ascii")
    flags = ("-target", "wasm32-wasi", "-Os", "-s", "-Wl,-z,stack-size=65536")
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *flags, "-o", "files.wasm", "files.c"],
        cwd=place,
        check=True,
        timeout=BUILD_S,
    )
    return (place / "files.wasm").read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a file, a folder, a pipe, and links inward and out."""
    (tmp_path / "secret").write_text("secret")
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a.txt").write_text("0123456789")
    for number in range(100):
        (data / "sub" / f"n{number}").write_text("n")
    (data / "in").symlink_to("sub/n1")
    (data / "up").symlink_to("../secret")
    (data / "absolute").symlink_to(tmp_path / "secret")
    os.mkfifo(data / "pipe")
    return data


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the property is about."""
    place = tmp_path_factory.mktemp("around") / "tree"
    (place / "sub").mkdir(parents=True)
    for path in (place / "a.txt", place / "sub" / "n1", place.parent / "secret"):
        path.write_text("x")
    links = {"in": "sub/n1", "up": "..", "out": "../secret", "absolute": "/etc/passwd"}
    for name, target in links.items():
        (place / name).symlink_to(target)
    return place


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that takes longer to list than a call may take."""
    place = tmp_path_factory.mktemp("crowd")
    for number in range(MANY):
        (place / str(number)).symlink_to("none")
    return place


@pytest.fixture(autouse=True)
def all_given_back() -> Iterator[None]:
    """Whatever a guest leaves open, no descriptor of ours is."""
    with nothing_left():
        yield


def came_of(program: bytes, admission: Admission, *steps: str) -> list[str]:
    """What came of each step."""
    with loaded(program, admission, entry='"_start"', capabilities='["fs_read"]') as plugin:
        return str(plugin.call("_start", steps).value).splitlines()


def test_a_program_reads_as_from_any_folder(
    program: bytes,
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """Files, places in them, folders of many entries, links within, and what is known of each."""
    steps = {
        f"r{P}a.txt": "0123456789",
        f"r{P}sub/../in": "n",
        f"p{P}a.txt": "3 234 9 9 1 0 10",
        f"s{P}a.txt": "file",
        f"s{P}sub": "folder",
        f"s{P}pipe": "other",
        f"l{P}in": "sub/n1",
        f"d{P}sub": "102 2",
        f"l{P}a.txt": " errno 28",
        f"l{P}sub": " errno 28",
        f"r{P}none": " errno 44",
        "y": "000 0 0 errno 59",
    }
    found = came_of(program, admit("fs_read", data_dir=data), *steps)
    assert dict(zip(steps, found, strict=True)) == steps


def test_a_program_changes_nothing_and_leaves_by_no_path(
    program: bytes,
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """Every way to write and every way out is an error in the guest."""
    changes = (f"w{P}new", f"w{P}a.txt", f"t{P}a.txt", f"u{P}a.txt", f"m{P}new", f"n{P}a.txt")
    ways_out = (f"r{P}up", f"r{P}absolute", f"l{P}absolute", f"r{P}sub/../../secret")
    before = sorted(data.rglob("*"))
    found = came_of(program, admit("fs_read", data_dir=data), *changes, *ways_out)
    assert found == [" errno 63"] * len([*changes, *ways_out])
    assert came_of(program, admit("fs_read", data_dir=data), "r/etc/passwd") == [" errno 44"]
    assert sorted(data.rglob("*")) == before
    assert (data / "a.txt").read_text() == "0123456789"


def test_a_named_pipe_is_refused_and_not_waited_for(
    program: bytes,
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """Nobody writes to it, and the guest goes on at once; a device would be refused as well."""
    assert came_of(program, admit("fs_read", data_dir=data), f"r{P}pipe", f"r{P}a.txt") == [
        " errno 2",
        "0123456789",
    ]


def test_reading_costs_fuel(program: bytes, data: Path, isolation: Isolation) -> None:  # noqa: ARG001
    """A guest that reads for ever runs out, by what the host did for it."""
    with pytest.raises(FuelExhausted, match=r"[1-9]\d{6} of them in host functions"):
        came_of(program, admit("fs_read", data_dir=data), f"e{P}a.txt")


def test_open_files_are_bounded_and_closed(
    program: bytes,
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """What a guest never closes is closed with its instance, kept ones' at their end."""
    admission = admit("fs_read", data_dir=data)
    assert came_of(program, admission, f"f{P}a.txt") == ["63 errno 33"]
    with loaded(
        READ_FILE, admission, extra=READ_EXPORTS, instance='"reused"', capabilities='["fs_read"]'
    ) as plugin:
        for _ in range(63):
            assert plugin.call("run", ["a.txt"]).value == "0123456789"
        with pytest.raises(GuestTrap):
            plugin.call("run", ["a.txt"])
        assert plugin.call("run", ["a.txt"]).value == "0123456789"


def test_the_files_of_all_guests_of_a_process_are_bounded_together(
    program: bytes, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others have open is not there for one more; what ends gives all of it back."""
    monkeypatch.setattr(folder, "_MOST_TOGETHER", 70)
    together = threading.Barrier(2)

    def meet(_: LogRecord) -> None:
        together.wait(MEET_S)

    words = {"capabilities": '["fs_read"]'}
    admission = admit("fs_read", data_dir=data, wall_timeout_ms=60_000)
    with sandbox(admission, on_log=meet) as box, ThreadPoolExecutor(2) as pool:
        plugin = box.load(plugin_files(OPEN_ALL, **words))
        calls = [pool.submit(plugin.call) for _ in range(2)]
        assert sum(int(call.result(2 * MEET_S).value or 0) for call in calls) == 70
    with sandbox(admission) as box:
        kept = box.load(plugin_files(READ_FILE, READ_EXPORTS, instance='"reused"', **words))
        for _ in range(9):
            assert kept.call("run", ["a.txt"]).value == "0123456789"
        assert came_of(program, admission, f"f{P}a.txt", f"r{P}none") == [
            "61 errno 41",
            " errno 41",
        ]
        del kept
        assert came_of(program, admission, f"f{P}a.txt") == ["63 errno 33"]
    assert folder._together.add(0) == 0


def test_a_plugin_that_is_dropped_leaves_nothing_open(
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """Nobody closed it, and its kept instance had a file open: that goes with it."""
    words = {"instance": '"reused"', "capabilities": '["fs_read"]'}
    with sandbox(admit("fs_read", data_dir=data)) as box:
        plugin = box.load(plugin_files(READ_FILE, READ_EXPORTS, **words))
        assert plugin.call("run", ["a.txt"]).value == "0123456789"
        del plugin


def test_as_many_calls_as_a_child_serves_have_their_files_open(data: Path) -> None:
    """Each as many as it may: the child goes on to hear its host, and none of them is in want."""
    together = threading.Barrier(MOST_CHANNELS)

    def meet(_: LogRecord) -> None:
        together.wait(MEET_S)

    admission = admit("fs_read", data_dir=data, isolation="process", wall_timeout_ms=60_000)
    with sandbox(admission, on_log=meet) as box, ThreadPoolExecutor(MOST_CHANNELS) as pool:
        plugin = box.load(plugin_files(OPEN_ALL, capabilities='["fs_read"]'))
        calls = [pool.submit(plugin.call) for _ in range(MOST_CHANNELS)]
        assert [call.result(2 * MEET_S).value for call in calls] == [63] * MOST_CHANNELS


def test_a_listing_ends_with_the_calls_time(
    crowd: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """However long the folder is: it was not read to its end, which would have cost more fuel."""
    admission = admit("fs_read", data_dir=crowd, fuel_units=10**9, wall_timeout_ms=25)
    with (
        loaded(LIST, admission, capabilities='["fs_read"]') as plugin,
        pytest.raises(DeadlineExceeded) as caught,
    ):
        plugin.call("run", [4096])
    assert caught.value.stats.fuel_used < MANY * 100


def test_a_listing_goes_into_the_guests_memory_only(
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """Room that is not there is refused before anything is looked at."""
    with loaded(LIST, admit("fs_read", data_dir=data), capabilities='["fs_read"]') as plugin:
        assert plugin.call("run", [64512]).value == 0
        with pytest.raises(GuestTrap, match=r"1024\+64513") as caught:
            plugin.call("run", [64513])
    assert caught.value.code == "MEMORY_OUT_OF_BOUNDS"


def test_listings_are_bounded_together(
    program: bytes, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in the host's memory; one that is closed makes room."""
    monkeypatch.setattr(folder, "_MOST_ENTRIES", 102)
    admission = admit("fs_read", data_dir=data)
    steps = (f"d{P}sub", f"d{P}sub")
    assert came_of(program, admission, *steps) == ["102 2", "102 2"]
    (data / "sub" / "more").touch()
    assert came_of(program, admission, f"d{P}sub", f"d{P}") == [" errno 48", "8 3"]
    seen = Folder(data)
    seen.list(ROOT, lambda: None)
    with pytest.raises(OSError, match="annot allocate"):
        seen.list(seen.open(ROOT, b"sub", follows=False), lambda: None)
    seen.close_all()


def test_what_goes_while_a_folder_is_listed_spoils_nothing(data: Path) -> None:
    """A name that is not there any more is told as it was, with its type."""
    seen = Folder(data)

    def remove() -> None:
        for path in (data / "sub").iterdir():
            path.unlink()

    found = seen.list(seen.open(ROOT, b"sub", follows=False), remove)
    assert {kind for _, _, kind in found[2:]} == {stat.S_IFREG}
    assert len(found) == 102
    seen.close_all()


@pytest.mark.parametrize("name", FILE_CALLS)
def test_whatever_number_a_guest_passes_it_has_an_answer_or_a_trap(
    name: str,
    data: Path,
    isolation: Isolation,  # noqa: ARG001
) -> None:
    """In every file call, in each place, of the folder, a file and nothing: the others are 0."""
    params = FILE_CALLS[name]
    words = {"instance": '"reused"', "capabilities": '["fs_read"]'}
    with sandbox(admit("fs_read", data_dir=data)) as box:
        plugin = box.load(plugin_files(ANY_CALL, ANY_EXPORTS, **words))
        assert plugin.call("path_open", OPEN).value == 0
        for descriptor in (ROOT, ROOT + 1, ROOT + 2):
            for place, word in enumerate(params):
                for number in EDGES[word]:
                    numbers = [descriptor, *(0 for _ in params[1:])]
                    numbers[place] = number
                    trapped = None
                    try:
                        answer = plugin.call(name, numbers).value
                    except GuestTrap as trap:
                        trapped = trap.code
                        plugin.call("path_open", OPEN)  # of the next instance
                    assert trapped == "MEMORY_OUT_OF_BOUNDS" or answer in range(MOST_ERRNO + 1)


def test_without_the_kernels_help_no_link_is_followed(
    program: bytes, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no ``openat2`` each part of a path is opened by itself."""
    monkeypatch.setattr(folder, "_OPENAT2", 99_999)
    found = came_of(
        program,
        admit("fs_read", data_dir=data),
        *(f"r{P}sub/./n1", f"r{P}in", f"r{P}up", f"l{P}in", f"d{P}sub", f"r{P}sub/../a.txt"),
    )
    assert found == ["n", " errno 32", " errno 32", "sub/n1", "102 2", " errno 63"]


@given(
    st.lists(
        st.sampled_from(["..", ".", "", "a.txt", "sub", "n1", "in", "up", "out", "absolute", "no"]),
        max_size=6,
    ).map("/".join)
    | st.binary(max_size=20).map(os.fsdecode),
    st.booleans(),
    st.sampled_from([437, 99_999]),
)
def test_no_path_leads_out(tree: Path, path: str, follows: bool, call: int) -> None:  # noqa: FBT001
    """Whatever is opened lies in the folder, by either way; nothing but an OSError comes out."""
    opened = Folder(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_OPENAT2", call)
        try:
            number = opened.open(ROOT, os.fsencode(path), follows=follows)
            found = Path(f"/proc/self/fd/{opened.get(number).descriptor}").readlink()
            assert found.is_relative_to(tree)
        except OSError:
            pass
        finally:
            opened.close_all()
