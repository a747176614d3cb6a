"""The emergency stop where the state's disk is full, read only, or held by another process."""

import sys
from pathlib import Path

import pytest

from support.system import PLUGIN_ID, STEM, Machine, taken
from system.test_system_faulty_disks import FULL, READ_ONLY, apart

BOTH_READ_ONLY = """
for folder in "$1/state" "$1/plugins"; do
    mount --bind "$folder" "$folder"; mount -o remount,bind,ro "$folder"
done
shift; exec "$@"
"""
FILLED = FULL.replace(
    'shift; exec "$@"', 'cat /dev/zero > "$1/ballast" 2> /dev/null || true; shift; exec "$@"'
)
"""Nothing more fits from the start: no host has the ledger open."""
EMBEDS = """
import subprocess
import sys
from pathlib import Path
from agent import PluginHost
from agent.errors import AgentError
from sandbox.errors import CapabilityDenied

home, plugin_id, *agent = sys.argv[1:]
ballast = Path(home) / "state" / "ballast"


def run(*words):
    done = subprocess.run([*agent, *words], capture_output=True, text=True, timeout=60)
    print(words[0], done.returncode, done.stdout, done.stderr)


def call():
    try:
        print(host.call_plugin("run", ["Jane"]))
    except (AgentError, CapabilityDenied) as error:
        print("refused:", error)


with PluginHost(home=Path(home)) as host:
    host.load_installed(plugin_id)
    call()
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
    except OSError as error:
        print(error.strerror)
    run("deny", plugin_id, "log")
    call()
    run("disable", plugin_id)
    call()
    run("disable", plugin_id)
    run("enable", plugin_id)
    ballast.unlink()
    run("update", plugin_id)
    run("doctor", "--fix")
    run("grants", plugin_id)
    run("audit", "show")
    run("doctor")
    call()
"""
HOLDS = "is disabled all the same, by the plugin tree's word, and hosts refuse its calls"


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    """A host where 0.1.0 serves."""
    return taken(tmp_path, "0.1.0").machine


def lies_there(host: Machine) -> list[str]:
    """What of the plugin is where programs look."""
    flat = (host.plugins / f"{STEM}{part}" for part in (".wasm", ".sig", ".toml"))
    link = host.plugins / ".store" / PLUGIN_ID / "current"
    return [path.name for path in (link, *flat) if path.is_symlink() or path.exists()]


@pytest.mark.parametrize("script", [FILLED, READ_ONLY], ids=["full", "read only"])
def test_a_state_that_can_not_be_written_stops_nobody_from_stopping(
    host: Machine, script: str
) -> None:
    """The tree's word holds, is told (1), and comes into ledger and log with the doctor."""
    assert lies_there(host)
    code, said = apart(script, host.home / "state", host.command("disable", PLUGIN_ID))
    assert code == 1
    assert "0.1.0 committed: disabled, beside the ledger" in said
    assert HOLDS in said
    assert "try: agent doctor --fix writes it to the ledger" in said
    assert lies_there(host) == []
    # It can be written again: what it lacks is in the tree.
    assert "is disabled" in host.run("call", PLUGIN_ID, "run", "Jane", expect=8).err
    assert "disabled" in host.run("list").out
    assert "could not be written then" in host.run("enable", PLUGIN_ID, expect=1).err
    assert "it is disabled; agent enable brings back 0.1.0" in host.run("doctor", "--fix").out
    host.run("doctor")
    rows = host.run("audit", "show", "--format", "json").document["lines"]
    told = [row["outcome"] for row in rows if row["plugin"] == PLUGIN_ID]
    assert told == ["activating", "committed", "disabled"]
    assert "taken up" in rows[-1]["reason"]
    assert "taken up" in host.run("history", PLUGIN_ID).out
    host.run("audit", "verify")
    host.run("enable", PLUGIN_ID)
    assert "Hello, Jane" in host.run("call", PLUGIN_ID, "run", "Jane").out


@pytest.mark.parametrize("script", [FILLED, READ_ONLY], ids=["full", "read only"])
def test_a_state_that_can_not_be_written_stops_nobody_from_denying(
    host: Machine, script: str
) -> None:
    """Both can be said, one after the other; a grant can't, for it gives."""
    both = script.replace(
        'exec "$@"',
        '"$@" deny ID log || true; "$@" disable --all || true; "$@" call ID run Jane || true; '
        'exec "$@" grant ID log',
    )
    code, said = apart(both.replace("ID", PLUGIN_ID), host.home / "state", host.command())
    assert code == 1
    assert f"denied log: {PLUGIN_ID}" in said
    assert f"log is denied to {PLUGIN_ID} all the same" in said
    assert HOLDS in said
    assert f"cannot call {PLUGIN_ID}: it is disabled" in said
    assert "granted" not in said
    host.run("doctor", "--fix")
    assert "agent deny" in host.run("grants", PLUGIN_ID).out
    host.run("enable", PLUGIN_ID)
    host.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    rows = host.run("audit", "show", "--format", "json").document["lines"]
    assert [row["outcome"] for row in rows][-3:] == ["disabled", "denied", "enabled"]
    host.run("audit", "verify")


def test_a_denial_alone_is_written_beside_a_ledger_that_is_full(host: Machine) -> None:
    """A plugin that was never installed is denied something, too; JSON has the row."""
    other = "org.example.other"
    script = FILLED.replace('exec "$@"', f'"$@" deny {other} network || true; exec "$@"')
    verb = (*host.command(), "deny", PLUGIN_ID, "log")
    script = script.replace(f'"$@" deny {other}', f'"${{@:1:{len(host.command())}}}" deny {other}')
    code, said = apart(script, host.home / "state", (*verb, "--format", "json"))
    assert (code, '"granted": false' in said) == (1, True), said
    host.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    assert "agent deny" in host.run("grants", other).out
    host.run("doctor", "--fix")
    assert "agent deny" in host.run("grants", other).out
    rows = host.run("audit", "show", "--format", "json").document["lines"]
    assert [row["plugin"] for row in rows if row["outcome"] == "denied"] == [PLUGIN_ID, other]


def test_an_open_host_refuses_at_its_next_look_while_the_state_is_full(host: Machine) -> None:
    """A denial, then a stop, each by another process; room again, and all is written down."""
    program = (sys.executable, "-c", EMBEDS, str(host.home), PLUGIN_ID, *host.command())
    code, said = apart(FULL, host.home / "state", program)
    assert code == 0, said
    said = said.removeprefix("Hello, Jane No space left on device deny 1 denied log")
    assert said.index("refused") < said.index("disable 1") < said.index(HOLDS)
    assert f"refused: cannot call {PLUGIN_ID}: it is disabled" in said
    assert "already disabled, beside the ledger" in said
    assert "enable 1 agent: cannot change" in said
    assert "update 1 " in said
    assert "mended memory" in said
    assert "root doctor disabled" in said
    assert "root doctor denied" in said
    assert "log yes no agent deny" in said
    assert "Hello, Jane" not in said


def test_where_neither_place_can_be_written_it_serves_on_and_says_so(host: Machine) -> None:
    """Both disks are read only: 1, why of both, and what to do."""
    for words in (("disable", PLUGIN_ID), ("deny", PLUGIN_ID, "log")):
        code, said = apart(BOTH_READ_ONLY, host.home, host.command(*words))
        assert code == 1
        assert f"cannot {words[0]} " in said
        assert "nor can it be said in the plugin tree" in said
        assert "end the programs that run it" in said
        assert "committed" not in said
    assert "Hello, Jane" in host.run("call", PLUGIN_ID, "run", "Jane").out
    host.run("doctor")
