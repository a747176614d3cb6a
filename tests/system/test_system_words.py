"""What the verbs say to wrong input: codes, hints, documents, and a Ctrl-C at any time."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.system import PLUGIN_ID, PROCESS_WAIT_S, Machine, Publisher


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with the embedded registry alone: a folder."""
    return Machine(tmp_path / "host")


# -- JSON for what the parser refuses


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope", "--format", "json"],
        ["--format", "json", "nope"],
        ["list", "--nope", "--format", "json"],
        ["list", "--nope", "--format=json"],
        ["grant", PLUGIN_ID, "Zap", "--format", "json"],
        ["hold", PLUGIN_ID, "--for", "0s", "--format", "json"],
    ],
)
def test_a_usage_error_is_a_document_too(machine: Machine, arguments: list[str]) -> None:
    """Wherever the parser gave up; the message is on stderr as well."""
    ran = machine.run(*arguments, expect=2)
    error = ran.document["error"]
    assert error["code"] == "usage"
    assert error["message"] in ran.err


@pytest.mark.parametrize(
    "arguments", [["nope"], ["nope", "--", "--format", "json"], ["list", "--format", "xml"]]
)
def test_a_usage_error_is_text_unless_json_was_asked_for(
    machine: Machine, arguments: list[str]
) -> None:
    """What comes after ``--`` is no flag."""
    home = ("--home", machine.home)
    command = [sys.executable, "-m", "agent", *map(str, home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")


# -- what is not there


def test_a_file_that_is_not_there_is_a_usage_error(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Named by a flag or an argument: 2, the file, and what to do."""
    folder, missing = publisher.plugin("0.1.0"), tmp_path / "nowhere" / "k.pem"
    machine.run("sign", folder, "--key", publisher.key)
    ca = ("--registry", "localhost:1", "--ca-file", missing)
    for command in (
        ["push", folder, "--public", missing],
        ["push", folder, "--key", missing],
        ["keygen", missing],
        ["keygen", missing, "--dry-run"],
        ["tags", PLUGIN_ID, *ca],
        ["verify", f"{missing.parent}"],
    ):
        ran = machine.json(*command, expect=2)
        assert str(missing.parent) in ran.document["error"]["message"], command
        assert ran.err.startswith("agent: cannot ")
    assert "mkdir -p" in machine.run("keygen", missing, expect=2).err


@pytest.mark.parametrize("verb", ["verify", "call"])
@pytest.mark.parametrize("text", ["./nothere", "../nothere/at/all", "/nothere", "~/nothere"])
def test_a_path_that_is_not_there_is_no_host(machine: Machine, verb: str, text: str) -> None:
    """What can only be a path is told as one, with what to name instead."""
    error = machine.json(verb, text, expect=2).document["error"]
    assert error["message"] == f"cannot find a plugin at {text}: there is no such file or folder"
    assert "folder" in error["hint"]


@pytest.mark.parametrize("verb", ["tags", "resolve", "inspect", "verify"])
def test_what_a_registry_does_not_have_says_what_to_type(
    machine: Machine, publisher: Publisher, verb: str
) -> None:
    """No such repository: where plugins are looked for. No such version: what there is."""
    error = machine.json(verb, "org.example.none", expect=3).document["error"]
    assert error["hint"].startswith("agent config show --effective")
    if verb != "tags":
        publisher.release("0.1.0")
        error = machine.json(verb, f"{PLUGIN_ID}:9.9.9", expect=3).document["error"]
        command = error["hint"].removesuffix(" shows what may be named").split()
        assert machine.run(*command[1:]).out == "0.1.0\n"


def test_where_nobody_is_trusted_the_way_in_is_told(machine: Machine, publisher: Publisher) -> None:
    """No trust store: 7, and the command that makes one (contract §1)."""
    publisher.release("0.1.0")
    (machine.home / "config" / "trusted_keys.toml").unlink()
    error = machine.run("pull", PLUGIN_ID, expect=7).err
    assert "try: agent trust add KEY --owner NAME --scope PATTERN\n" in error


# -- Ctrl-C


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("agent", run_name="__main__")
"""


@pytest.mark.parametrize(
    "module",
    ["agent.cli.main", "click", "agent.cli.streams", "agent.cli.installed", "agent.context"],
)
def test_an_interrupt_is_130_whenever_it_comes(machine: Machine, module: str) -> None:
    """A real signal while a module is imported: no traceback."""
    home = ["--home", str(machine.home)]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "list", *home],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROCESS_WAIT_S,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")
