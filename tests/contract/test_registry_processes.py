"""Processes that push to one layout at the same time."""

import subprocess
import sys
from pathlib import Path

from agent.files import Files
from registry import LayoutLocation, LayoutRepository, push_artifact
from support.registry import PLUGIN_ID, make_artifact

PROCESSES = 4
TAGS_EACH = 8
ROOT = Path(__file__).parents[2]
# Waits for a line on stdin, so that all push at once; prints what became of it.
PUSH = """
import sys
from pathlib import Path
from agent.files import Files
from registry import LayoutLocation, LayoutRepository, TagMovedError
folder, plugin_id, raw, *tags = sys.argv[1:]
repository = LayoutRepository(LayoutLocation(Path(folder), plugin_id), Files())
data = Path(raw).read_bytes()
sys.stdin.readline()
for tag in tags:
    try:
        repository.push_manifest(data, tag=tag, move=False)
        print("pushed")
    except TagMovedError:
        print("refused")
"""


def push_at_once(folder: Path, manifests: list[Path], tags: list[list[str]]) -> list[str]:
    """Start a process per manifest, let all go at once, return what they printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUSH, str(folder), PLUGIN_ID, str(manifest), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for manifest, names in zip(manifests, tags, strict=True)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [line for output in outputs for line in output.split()]


def test_no_process_loses_another_s_tags(tmp_path: Path) -> None:
    """Every tag that any of them pushed is there at the end."""
    repository = LayoutRepository(LayoutLocation(tmp_path, PLUGIN_ID), Files())
    built = make_artifact(tmp_path)
    for blob in (built.config, *built.layers):
        repository.push_blob(blob, built.sources[blob.digest])
    raw = tmp_path / "manifest.json"
    raw.write_bytes(built.manifest_raw)
    tags = [[f"{p}.{t}.0" for t in range(TAGS_EACH)] for p in range(PROCESSES)]
    said = push_at_once(tmp_path, [raw] * PROCESSES, tags)
    assert said == ["pushed"] * (PROCESSES * TAGS_EACH)
    assert sorted(repository.tags()) == sorted(tag for names in tags for tag in names)


def test_one_process_wins_a_version(tmp_path: Path) -> None:
    """Of several that publish different bytes as one version exactly one succeeds."""
    repository = LayoutRepository(LayoutLocation(tmp_path, PLUGIN_ID), Files())
    manifests = []
    for number in range(PROCESSES):
        built = make_artifact(tmp_path, payload=b"\0asm %d" % number)
        push_artifact(repository, built, built.sources, tags=[f"c{number}"], force=False)
        manifests.append(tmp_path / f"{number}.json")
        manifests[-1].write_bytes(built.manifest_raw)
    said = push_at_once(tmp_path, manifests, [["1.0.0"]] * PROCESSES)
    assert sorted(said) == ["pushed"] + ["refused"] * (PROCESSES - 1)
    (winner,) = [path for path, word in zip(manifests, said, strict=True) if word == "pushed"]
    assert repository.manifest("1.0.0").raw == winner.read_bytes()
