"""The cache of compiled code: used when it is ours, and only then."""

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.files import Files
from sandbox import ForeignCode
from sandbox.aot import AotCache, ForeignCodeError
from support.sandbox import ECHO, plugin_files, sandbox

ROOT = Path(__file__).parents[2]
DIGEST = hashlib.sha256(b"payload").hexdigest()


def cache(folder: Path, binding: bytes = b"b" * 32) -> AotCache:
    """A cache of the folder ``aot`` within ``folder``."""
    return AotCache(folder / "aot", Files(), binding)


def content(box: AotCache, digest: str = DIGEST) -> bytes | str | None:
    """What is loaded; ``foreign`` where the entry is not the cache's own."""
    try:
        code = box.load(digest)
    except ForeignCodeError:
        return "foreign"
    return None if code is None else code.read()


def entry_of(folder: Path) -> Path:
    """The one entry that the cache holds."""
    (entry,) = (folder / "aot").glob("*.aot")
    return entry


def test_what_was_stored_is_found_again(tmp_path: Path) -> None:
    """An artefact comes back, from another cache object too, in a folder of 0700."""
    cache(tmp_path).store(DIGEST, b"code")
    assert content(cache(tmp_path)) == b"code"
    assert stat.S_IMODE((tmp_path / "aot").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "aot" / "key").stat().st_mode) == 0o600
    assert content(cache(tmp_path), "0" * 64) is None


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_flipped_bit_is_a_miss(tmp_path: Path, place: int) -> None:
    """Neither a changed seal nor changed code is ever handed out."""
    cache(tmp_path).store(DIGEST, b"code" * 10)
    entry = entry_of(tmp_path)
    data = bytearray(entry.read_bytes())
    data[place] ^= 1
    entry.write_bytes(data)
    assert content(cache(tmp_path)) == "foreign"


def test_an_entry_is_good_for_its_module_and_engine_only(tmp_path: Path) -> None:
    """An entry moved to another digest or another engine is a miss, also when truncated."""
    box = cache(tmp_path)
    box.store(DIGEST, b"code")
    entry = entry_of(tmp_path)
    other = hashlib.sha256(b"other").hexdigest()
    foreign = cache(tmp_path, b"c" * 32)
    (tmp_path / "aot" / entry.name.replace(DIGEST, other)).write_bytes(entry.read_bytes())
    foreign._entry(DIGEST).write_bytes(entry.read_bytes())
    for path in (tmp_path / "aot").glob("*.aot"):
        path.chmod(0o600)
    assert content(box, other) == "foreign"
    assert content(foreign, DIGEST) == "foreign"
    entry.write_bytes(entry.read_bytes()[:20])
    assert content(box) == "foreign"


def test_a_key_that_others_can_read_is_replaced(tmp_path: Path) -> None:
    """Entries under a key with loose modes, or another key, are misses."""
    box = cache(tmp_path)
    box.store(DIGEST, b"code")
    (tmp_path / "aot" / "key").chmod(0o644)
    assert content(box) == "foreign"
    box.store(DIGEST, b"code")
    assert content(box) == b"code"
    (tmp_path / "aot" / "key").write_bytes(b"k" * 32)
    assert content(box) == "foreign"


def test_a_folder_that_others_can_enter_is_not_used(tmp_path: Path) -> None:
    """A cache folder with loose modes neither gives nor takes code."""
    box = cache(tmp_path)
    box.store(DIGEST, b"code")
    (tmp_path / "aot").chmod(0o755)
    assert content(box) is None
    box.store("1" * 64, b"code")
    assert len(list((tmp_path / "aot").glob("*.aot"))) == 1


def test_a_link_or_a_pipe_is_a_miss(tmp_path: Path) -> None:
    """Entries that are not regular files are passed over, without waiting."""
    box = cache(tmp_path)
    box.store(DIGEST, b"code")
    entry = entry_of(tmp_path)
    entry.rename(tmp_path / "moved")
    entry.symlink_to(tmp_path / "moved")
    assert content(box) == "foreign"
    entry.unlink()
    os.mkfifo(entry, 0o600)
    assert content(box) == "foreign"


def test_a_cache_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    """A file where the folder should be: every load is a miss, every store is silent."""
    (tmp_path / "aot").write_bytes(b"")
    box = cache(tmp_path)
    box.store(DIGEST, b"code")
    assert content(box) is None
    box.prune([])


def test_prune_keeps_what_it_is_told(tmp_path: Path) -> None:
    """Entries of other payloads go, whatever engine they were for."""
    box = cache(tmp_path)
    box.prune([])
    box.store(DIGEST, b"code")
    box.store("1" * 64, b"code")
    cache(tmp_path, b"c" * 32).store("1" * 64, b"code")
    box.prune([DIGEST])
    assert entry_of(tmp_path).name.startswith(DIGEST)
    assert content(box) == b"code"


def test_a_payload_is_forgotten_alone(tmp_path: Path) -> None:
    """Whatever engine it was compiled for; one that is not there is no error."""
    box = cache(tmp_path)
    box.remove(DIGEST)
    for one in (box, cache(tmp_path, b"c" * 32)):
        one.store(DIGEST, b"code")
    box.store("1" * 64, b"code")
    box.remove(DIGEST)
    assert entry_of(tmp_path).name.startswith("1" * 64)


def test_a_plugin_runs_from_the_cache(tmp_path: Path) -> None:
    """The second load takes the entry as it is; a damaged one is compiled again."""
    files = plugin_files(ECHO)
    for damage in (False, False, True):
        if damage:
            entry_of(tmp_path).write_bytes(b"\0" * 100)
        with sandbox(cache_dir=tmp_path) as box:
            plugin = box.load(files)
            assert plugin.call("run", ["hi"]).value == "hi"
    assert entry_of(tmp_path).stat().st_size > 100


def test_foreign_code_is_told_and_compiled_again(tmp_path: Path) -> None:
    """What was tampered with never runs; the application learns of the plugin and the file."""
    found: list[ForeignCode] = []
    files = plugin_files(ECHO)
    with sandbox(cache_dir=tmp_path, on_foreign_code=found.append) as box:
        box.load(files)
        assert found == []
        entry = entry_of(tmp_path)
        whole = entry.read_bytes()
        entry.write_bytes(whole[:100] + b"\xcc" + whole[101:])
        assert box.load(files).call("run", ["hi"]).value == "hi"
        assert box.load(files).call("run", ["hi"]).value == "hi"
    assert [item.plugin_id for item in found] == ["org.example.hello"]
    assert str(entry) in found[0].reason
    assert entry.read_bytes()[:100] == whole[:100]


def test_what_was_checked_is_what_runs(tmp_path: Path) -> None:
    """A cached file that is replaced after the load changes nothing: engines map the old one."""
    files = plugin_files(ECHO)
    with sandbox(cache_dir=tmp_path) as box:
        box.load(files)
    with sandbox(cache_dir=tmp_path) as box:
        plugin = box.load(files)
        entry = entry_of(tmp_path)
        entry.unlink()
        entry.write_bytes(b"\xcc" * 20_000)
        with ThreadPoolExecutor(4) as pool:  # further engines load the code now
            answers = pool.map(lambda text: plugin.call("run", [text]).value, "abcd")
            assert list(answers) == ["a", "b", "c", "d"]


def test_processes_share_a_cache(tmp_path: Path) -> None:
    """Several that begin with an empty one at once run, with one key and whole entries."""
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}; import pathlib\n"
        "from support.sandbox import ECHO, plugin_files, sandbox\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with sandbox(cache_dir=folder, on_foreign_code=print) as box:\n"
        "    for _ in range(5):\n"
        "        print(box.load(plugin_files(ECHO)).call('run', ['hi']).value)\n"
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert outputs == ["hi\n" * 5] * 4
    with sandbox(cache_dir=tmp_path) as box:
        box.load(plugin_files(ECHO))
    assert len(list((tmp_path / "aot").iterdir())) == 2


def test_sealed_code_that_the_engine_refuses_is_compiled_again(tmp_path: Path) -> None:
    """An entry that carries our seal and is no code does not stop the plugin."""
    files = plugin_files(ECHO)
    digest = hashlib.sha256(files.payload).hexdigest()
    with sandbox(cache_dir=tmp_path) as box:
        assert box._builds._cache is not None
        box._builds._cache.store(digest, b"no code")
        assert box.load(files).call("run", ["hi"]).value == "hi"
        assert content(box._builds._cache, digest) != b"no code"
        box.prune([])
        assert content(box._builds._cache, digest) is None
