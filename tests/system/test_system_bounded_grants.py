"""Grants with an end: shown, obeyed by every process, counted once, never given back."""

import contextlib
import datetime as dt
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import PluginHost
from agent.context import Context, Options
from sandbox import CapabilityDenied
from sandbox.admission import Isolation
from support.sandbox import BUMP
from support.system import PLUGIN_ID, Machine, Publisher

FETCHES = f"""(module
  (import "stack_composer_v1" "host_fetch" (func $fetch (param i32 i32 i32 i32) (result i64)))
  {BUMP}
  (data (i32.const 0) "http://a")
  (func (export "health") (result i32) (i32.const 0))
  (func (export "idle") (result i32) (i32.const 7))
  (func (export "run") (result i64)
    (call $fetch (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0))))"""
EDIT = {'["log"]': '["log", "network"]', 'params = ["string"]': "params = []"}
CALLER = f"""
import contextlib, os, pathlib, sys
from agent import PluginHost
from sandbox import CapabilityDenied
done = 0
with PluginHost(home=pathlib.Path(sys.argv[1])) as host:
    host.load_installed("{PLUGIN_ID}")
    for _ in range(int(sys.argv[2])):
        with contextlib.suppress(CapabilityDenied):
            done += "no provider" in host.call_plugin("run")
    print(done)
"""
"""A program that calls so many times, and prints how many were let through."""
ISOLATIONS: tuple[Isolation, ...] = ("inline", "process")


@pytest.fixture
def fetching(machine: Machine, publisher: Publisher) -> Machine:
    """A host with a plugin whose ``run`` uses the network and whose ``idle`` does not."""
    publisher.release("0.1.0", code=FETCHES, edit=EDIT)
    machine.run("pull", PLUGIN_ID)
    return machine


@contextlib.contextmanager
def hosting(
    machine: Machine, now: list[float], isolation: Isolation = "inline"
) -> Iterator[PluginHost]:
    """A program whose clock is ours, with the plugin loaded."""
    context = Context(Options(home=machine.home), environ={}, clock=lambda: now[0])
    with (
        contextlib.closing(context),
        PluginHost(context=context, isolation=isolation) as host,
    ):
        host.load_installed(PLUGIN_ID)
        yield host


def look(host: PluginHost) -> None:
    """What a host does before a call, 100 ms after its last look."""
    host._loaded.find(PLUGIN_ID).follow(now=True)


def granted(machine: Machine) -> dict[str, object]:
    """What ``agent grants`` says of the network."""
    rows = machine.json("grants", PLUGIN_ID).document["grants"]
    return next(row for row in rows if row["capability"] == "network")


def used(host: PluginHost, calls: int) -> int:
    """How many of so many calls were let through to the network."""
    done = 0
    for _ in range(calls):
        with contextlib.suppress(CapabilityDenied):
            done += "no provider" in str(host.call_plugin("run"))
    return done


def test_what_a_grant_says_of_itself(fetching: Machine) -> None:
    """``grant``, ``grants``, history and audit tell until when and how many; so does a dry run."""
    asked = ("grant", PLUGIN_ID, "network", "--for", "1h30m", "--max-calls", "1000")
    dry = fetching.json(*asked, "--dry-run").document
    assert (dry["granted"], dry["max_calls"], dry["calls_left"]) == (True, 1000, 1000)
    assert 5_300 < dt.datetime.fromisoformat(dry["until"]).timestamp() - time.time() <= 5_400
    assert granted(fetching)["by"] == "nobody decided"
    said = fetching.run(*asked).out
    row = granted(fetching)
    until, extent = row["until"], f"network until {row['until']} in 1000 calls"
    assert said == f"granted {extent}: {PLUGIN_ID}\n"
    assert row == {
        "capability": "network",
        "requested": True,
        "granted": True,
        "by": "agent grant",
        "until": until,
        "max_calls": 1000,
        "calls_left": 1000,
    }
    shown = fetching.run("grants", PLUGIN_ID).out
    assert f"agent grant, until {until}, 1000 of 1000 calls left" in shown
    events = fetching.json("history", PLUGIN_ID).document["events"]
    assert events[-1]["detail"] == extent
    lines = fetching.json("audit", "show").document["lines"]
    assert (lines[-1]["outcome"], lines[-1]["reason"]) == ("granted", extent)
    fetching.run("audit", "verify")


def test_the_last_word_counts(fetching: Machine) -> None:
    """A grant without options has no end; a denial takes a bounded one back; 0 is no end."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "1")
    fetching.run("grant", PLUGIN_ID, "network")
    assert (granted(fetching)["max_calls"], granted(fetching)["until"]) == (None, None)
    for _ in range(2):
        fetching.run("call", PLUGIN_ID)
    fetching.run("grant", PLUGIN_ID, "network", "--for", "1h")
    fetching.run("deny", PLUGIN_ID, "network")
    assert (granted(fetching)["granted"], granted(fetching)["until"]) == (False, None)
    fetching.run("call", PLUGIN_ID, expect=8)
    for bad in (("--for", "0s"), ("--max-calls", "0"), ("--max-calls", str(1 << 53))):
        fetching.run("grant", PLUGIN_ID, "network", *bad, expect=2)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_calls_are_counted_over_processes(fetching: Machine, isolation: Isolation) -> None:
    """Each ``agent call`` that uses it is one; idle calls are free and go on; then 8, and why."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "2")
    for left in (1, 0):
        fetching.run("call", PLUGIN_ID, "idle", "--isolation", isolation)
        assert "no provider" in fetching.process("call", PLUGIN_ID, "--isolation", isolation).out
        assert granted(fetching)["calls_left"] == left
    refused = fetching.process("call", PLUGIN_ID, "--isolation", isolation, expect=8)
    assert "the 2 calls it was granted for are used up" in refused.err
    assert f"agent grant {PLUGIN_ID} network" in refused.err
    assert fetching.run("call", PLUGIN_ID, "idle", "--isolation", isolation).out == "7\n"
    assert granted(fetching)["granted"] is False
    assert "0 of 2 calls left" in fetching.run("grants", PLUGIN_ID).out


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_two_hosts_share_what_is_left(fetching: Machine, isolation: Isolation) -> None:
    """Never more than was granted, whoever asks; what a host set aside comes back at its end."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "40")
    now = [time.time()]
    with hosting(fetching, now, isolation) as one:
        with hosting(fetching, now) as other:
            done = used(one, 3) + used(other, 1)
            assert done == 4
            assert granted(fetching)["calls_left"] != 36  # some are set aside
        done += used(one, 100)
    assert done <= 40
    assert granted(fetching)["calls_left"] == 40 - done
    with hosting(fetching, now, isolation) as last:
        done += used(last, 100)
    assert done == 40
    assert granted(fetching)["calls_left"] == 0


def test_processes_at_once_share_what_is_left(fetching: Machine) -> None:
    """Each takes what it gets; together never more, and nothing is lost in an orderly end."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "100")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CALLER, fetching.home, "60"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    done = [int(process.communicate(timeout=120)[0]) for process in running]
    assert sum(done) <= 100
    left = granted(fetching)["calls_left"]
    assert left == 100 - sum(done)
    with hosting(fetching, [time.time()]) as host:
        assert used(host, 101) == left


def test_a_process_that_dies_takes_some_along(fetching: Machine) -> None:
    """It never gives anybody more: what it held is lost."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "30")
    died = CALLER.replace("print(done)", "os._exit(0)")
    subprocess.run([sys.executable, "-c", died, fetching.home, "1"], check=True, timeout=60)
    left = granted(fetching)["calls_left"]
    assert isinstance(left, int)
    assert 0 < left < 29
    with hosting(fetching, [time.time()]) as host:
        assert used(host, 60) == left


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_an_open_host_lets_go_when_the_time_is_over(
    fetching: Machine, isolation: Isolation
) -> None:
    """At the next call, by the clock forward; set back it stays over; granted again it goes on."""
    fetching.run("grant", PLUGIN_ID, "network", "--for", "1h")
    now = [time.time()]
    with hosting(fetching, now, isolation) as host:
        assert used(host, 2) == 2
        now[0] += 3_601
        for _ in range(2):
            with pytest.raises(CapabilityDenied, match="its grant ended at"):
                host.call_plugin("run")
            assert host.call_plugin("idle") == 7
            look(host)
        now[0] -= 3_000
        look(host)
        assert used(host, 2) == 0
        now[0] += 3_000
        fetching.run("grant", PLUGIN_ID, "network", "--for", "3h")
        look(host)
        assert used(host, 2) == 2


def test_before_it_was_given_a_grant_is_none(fetching: Machine) -> None:
    """A clock set back behind that moment makes no grant longer."""
    fetching.run("grant", PLUGIN_ID, "network", "--for", "1h")
    with hosting(fetching, [time.time() - 60]) as host:
        assert used(host, 1) == 0
        assert host.call_plugin("idle") == 7


def test_an_update_that_requests_what_is_over_waits(machine: Machine, publisher: Publisher) -> None:
    """A grant that is used up or over is nobody's decision: consent is asked for again."""
    publisher.release("0.1.0", code=FETCHES, edit=EDIT)
    machine.run("pull", PLUGIN_ID)
    edit = {**EDIT, '["log"]': '["log", "llm", "network"]'}
    publisher.release("0.2.0", code=FETCHES, edit=edit)
    machine.run("grant", PLUGIN_ID, "llm", "--for", "1h")
    assert machine.json("check").row["action"] == "update"
    with contextlib.closing(Context(Options(home=machine.home), environ={})) as context:
        context.ledger._run("UPDATE grants SET at = at - 7200, until = until - 7200")
    planned = machine.json("check").row
    assert (planned["action"], planned["reason"].split(":")[0]) == ("wait", "consent")
    assert machine.json("update", PLUGIN_ID, expect=8).row["step"] == "consent"
    machine.run("grant", PLUGIN_ID, "llm", "--max-calls", "1")
    assert machine.json("update").row["outcome"] == "trial"


def test_the_config_has_no_end(fetching: Machine) -> None:
    """What it grants stays granted; ``grant`` says so."""
    fetching.configure(f'[plugins."{PLUGIN_ID}"]\ngrants = ["network"]\n')
    said = fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "1").err
    assert "without an end, by the config" in said
    for _ in range(2):
        fetching.run("call", PLUGIN_ID)
    assert granted(fetching)["by"] == "config: grants"


def test_an_older_ledger_gives_no_call_back(fetching: Machine, tmp_path: Path) -> None:
    """The tree remembers what was spent: refused until the doctor takes up the fewer calls."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "2")
    state, kept = fetching.home / "state", tmp_path / "kept"
    shutil.copytree(state, kept)
    fetching.process("call", PLUGIN_ID)
    fetching.process("call", PLUGIN_ID)
    memory = fetching.plugins / ".store" / PLUGIN_ID / ".memory"
    assert json.loads(memory.read_text("utf-8"))["decisions"][0]["calls_left"] == 0
    shutil.rmtree(state)
    shutil.copytree(kept, state)
    assert granted(fetching)["calls_left"] == 0
    fetching.process("call", PLUGIN_ID, expect=8)
    fetching.run("doctor", "--fix", expect=None)
    assert granted(fetching)["calls_left"] == 0
    fetching.process("call", PLUGIN_ID, expect=8)


def test_a_busy_tree_stops_no_call(fetching: Machine) -> None:
    """While another agent is at it the ledger alone counts; the tree follows."""
    fetching.run("grant", PLUGIN_ID, "network", "--max-calls", "2")
    with (fetching.plugins / ".store" / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetching.process("call", PLUGIN_ID)
        assert granted(fetching)["calls_left"] == 1
    fetching.process("call", PLUGIN_ID)
    fetching.process("call", PLUGIN_ID, expect=8)
    memory = fetching.plugins / ".store" / PLUGIN_ID / ".memory"
    assert json.loads(memory.read_text("utf-8"))["decisions"][0]["calls_left"] == 0
