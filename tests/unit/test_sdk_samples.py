"""The committed samples are what their source says, to the byte, and need nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).resolve().parents[2]
HELLO = ROOT / "sdk" / "samples" / "hello"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.4.0")
BUILD_TIMEOUT_S = 300


def build(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the samples' build script with a compiler cache of its own."""
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, str(HELLO / "build.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        env=os.environ | caches,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty compiler cache, so that nothing comes from an earlier build."""
    return tmp_path_factory.mktemp("zig")


def test_the_samples_are_built_again_byte_for_byte(cache: Path) -> None:
    """Who distrusts a committed binary can make it."""
    result = build(cache, "--check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": same") == 3 * len(VERSIONS)


def test_the_check_sees_a_changed_and_a_missing_byte(cache: Path, tmp_path: Path) -> None:
    """--check fails where a file differs, names it, and writes nothing."""
    for version in VERSIONS:
        shutil.copytree(HELLO / version, tmp_path / version)
    wasm = tmp_path / "0.2.0" / "hello-plugin.wasm"
    wasm.write_bytes(wasm.read_bytes()[:-1] + b"!")
    (tmp_path / "0.3.0" / "README.md").unlink()
    changed = wasm.read_bytes()

    result = build(cache, "--check", "--output", str(tmp_path))
    assert result.returncode == 1
    assert "0.2.0/hello-plugin.wasm: differs" in result.stdout
    assert "0.3.0/README.md: differs" in result.stdout
    assert result.stdout.count(": same") == 10
    assert wasm.read_bytes() == changed

    assert build(cache, "--output", str(tmp_path)).returncode == 0
    assert wasm.read_bytes() == (HELLO / "0.2.0" / "hello-plugin.wasm").read_bytes()
    assert build(cache, "--check", "--output", str(tmp_path)).returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sample_is_a_small_module_and_a_manifest_of_its_version(version: str) -> None:
    """Unsigned, under a kilobyte, and named as the contract's example."""
    folder = HELLO / version
    # Who tried out `agent sign` has a .sig there, which git ignores.
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".sig") == [
        "README.md",
        "hello-plugin.toml",
        "hello-plugin.wasm",
    ]
    code = (folder / "hello-plugin.wasm").read_bytes()
    assert code.startswith(b"\0asm\x01\0\0\0")
    assert len(code) < 1024
    plugin = tomli.loads((folder / "hello-plugin.toml").read_text())["plugin"]
    assert plugin["id"] == "org.example.hello"
    assert plugin["version"] == version
    assert plugin["capabilities"] == ["log"]
    assert plugin["entry"] == "run"
