"""The wheel holds the four packages, the SDK's data, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as hatchling builds it, without any network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_each_top_level_name_is_ours_alone(wheel: Path) -> None:
    """registry, trust, sandbox, agent and the dist-info; no tests, no benchmarks, no sdk."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    (info,) = {name for name in top if name.endswith(".dist-info")}
    assert info.startswith("stack_composer_agent-")
    assert top == {"registry", "trust", "sandbox", "agent", info}
    assert not [name for name in names if "test" in name.lower() or "__pycache__" in name]


def test_every_module_and_the_sdk_are_in_it(wheel: Path) -> None:
    """What lies in the four folders is what is shipped; the SDK lies under ``agent/_sdk``."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(ROOT))
        for package in ("registry", "trust", "sandbox", "agent")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names if not name.startswith("agent/_sdk/")} >= sources
    assert "agent/_sdk/include/stack_composer_v1.h" in names
    assert "agent/_sdk/samples/hello/0.1.0/hello-plugin.wasm" in names


def test_the_command_and_the_licence_are_declared(wheel: Path) -> None:
    """``agent`` is the command, Apache-2.0 the licence, with its text."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        assert "agent = agent.__main__:run" in archive.read(points).decode()
        text = archive.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
    assert [name for name in names if name.endswith("licenses/LICENSE")]
