"""A FIFO that nobody writes to, wherever the agent reads: it is told at once, never waited for."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.system import PLUGIN_ID, STEM, Machine, Publisher


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's own settings and credentials out."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in list(os.environ):
        if name.startswith(("STACK_COMPOSER_", "OTEL_")) or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with 0.1.0 installed, and 0.2.0 to be had."""
    host = Machine(tmp_path / "host")
    someone = Publisher(host, tmp_path / "publisher")
    someone.trusted_by(host)
    someone.release("0.1.0")
    host.run("pull", PLUGIN_ID)
    someone.release("0.2.0")
    return host


def fifo_at(path: Path) -> Path:
    """Put a FIFO there, in the place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    return path


def sealed(machine: Machine, version: str = "0.1.0") -> Path:
    """The folder of a release; its owner may write it now."""
    (folder,) = machine.plugins.glob(f".store/{PLUGIN_ID}/{version}-*")
    folder.chmod(0o700)
    return folder


def segment(machine: Machine) -> Path:
    """The audit log's only segment."""
    (path,) = machine.home.glob("**/audit/000001.jsonl")
    return path


Case = Callable[[Machine, Path], tuple[int, list[str | Path]]]


def _a_sealed_file(machine: Machine, part: str) -> None:
    fifo_at(sealed(machine) / f"{STEM}.{part}")


def _call_of_a_manifest(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    _a_sealed_file(machine, "toml")
    return 6, ["call", PLUGIN_ID, "run", "x"]


def _call_of_a_module(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    _a_sealed_file(machine, "wasm")
    return 6, ["call", PLUGIN_ID, "run", "x"]


def _call_on_trial(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    machine.run("update")
    fifo_at(sealed(machine, "0.2.0") / f"{STEM}.toml")
    return 0, ["call", PLUGIN_ID, "run", "x"]


def _pull_over_a_manifest(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    _a_sealed_file(machine, "toml")
    return 0, ["pull", f"{PLUGIN_ID}:0.1.0"]


def _audit_show(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    fifo_at(segment(machine))
    return 1, ["audit", "show"]


def _audit_verify(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    fifo_at(segment(machine))
    return 1, ["audit", "verify"]


def _grant(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    fifo_at(segment(machine))
    return 1, ["grant", PLUGIN_ID, "retrieval"]


def _grant_into_a_new_log(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    fifo_at(segment(machine).with_name("000002.jsonl"))
    return 1, ["grant", PLUGIN_ID, "retrieval"]


def _docker_config(_machine: Machine, tmp_path: Path) -> tuple[int, list[str | Path]]:
    fifo_at(tmp_path / "docker" / "config.json")
    return 4, ["tags", PLUGIN_ID, "--registry", "localhost:1"]


def _public(machine: Machine, tmp_path: Path) -> tuple[int, list[str | Path]]:
    machine.run("keygen", tmp_path / "k")
    folder = tmp_path / "copy"
    shutil.copytree(sealed(machine), folder)
    return 2, ["push", folder, "--public", fifo_at(tmp_path / "k.pub")]


def _trusted_key(_machine: Machine, tmp_path: Path) -> tuple[int, list[str | Path]]:
    key = fifo_at(tmp_path / "k.pub")
    return 2, ["trust", "add", key, "--owner", "x", "--scope", "org.example.*"]


def _ca_file(_machine: Machine, tmp_path: Path) -> tuple[int, list[str | Path]]:
    return 2, [
        *("tags", PLUGIN_ID, "--registry", "localhost:1"),
        *("--ca-file", fifo_at(tmp_path / "ca.pem")),
    ]


def _config(_machine: Machine, tmp_path: Path) -> tuple[int, list[str | Path]]:
    return 2, ["list", "--config", fifo_at(tmp_path / "config.toml")]


def _ledger(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    fifo_at(machine.home / "state" / "state.db")
    return 1, ["list"]


def _doctor(machine: Machine, _tmp_path: Path) -> tuple[int, list[str | Path]]:
    _a_sealed_file(machine, "toml")
    fifo_at(machine.plugins / f"{STEM}.wasm")
    fifo_at(segment(machine))
    return 1, ["doctor", "--fix"]


@pytest.mark.parametrize(
    "make",
    [
        _call_of_a_manifest,
        _call_of_a_module,
        _call_on_trial,
        _pull_over_a_manifest,
        _audit_show,
        _audit_verify,
        _grant,
        _grant_into_a_new_log,
        _docker_config,
        _public,
        _trusted_key,
        _ca_file,
        _config,
        _ledger,
        _doctor,
    ],
    ids=lambda make: make.__name__.strip("_"),
)
def test_a_fifo_is_never_waited_for(machine: Machine, tmp_path: Path, make: Case) -> None:
    """The verb ends, with the code of a file that can't be used; a lock it took is free again."""
    code, command = make(machine, tmp_path)
    ran = machine.process(*command, expect=None)
    assert (ran.code, "Traceback" in ran.err) == (code, False), ran
