"""Which release an update run takes, and what it asks the registry for."""

import json
from pathlib import Path

import pytest

from agent.host import PluginHost
from sandbox import GuestTrap
from support.system import (
    PLUGIN_ID,
    STEM,
    CountedRegistry,
    Machine,
    Publisher,
    opened,
    push_by_hand,
)

RETRIEVAL = {'["log"]': '["log", "retrieval"]'}
OTHER_ID = "org.example.other"


def push_forged(machine: Machine, folder: Path, version: str) -> str:
    """Push a version signed by a key that nobody trusts; returns its payload's digest."""
    stranger = Publisher(machine, folder / f"stranger-{version}", "stranger")
    built = stranger.artifact(stranger.plugin(version))
    with opened(f"{machine.registry}/{PLUGIN_ID}", folder) as repository:
        push_by_hand(repository, built, tag=version)
    return built.layers[0].digest


def test_a_forged_version_blocks_nobody(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """Above a forged 99.0.0 the next lower version is taken in the same run."""
    publisher.release("0.2.0")
    push_forged(installed, tmp_path, "99.0.0")
    row = installed.json("update").row
    assert (row["to"], row["outcome"]) == ("0.2.0", "trial")
    assert "99.0.0" in row["detail"]


def test_a_forged_version_alone_is_refused_once_and_remembered(
    installed: Machine, docker: CountedRegistry, tmp_path: Path
) -> None:
    """The refusal is exit 7; the next run remembers it by digest and asks for the tags only."""
    push_forged(installed, tmp_path, "0.5.0")
    before = installed.snapshot()
    row = installed.json("update", expect=7).row
    assert (row["outcome"], row["step"]) == ("refused", "verify")
    docker.requests()
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "0.5.0" in again["detail"]
    assert [path for _, path in docker.requests()] == [tags_of(installed)]
    assert installed.snapshot() == before


def test_a_new_trust_store_judges_a_refused_version_anew(
    installed: Machine, tmp_path: Path
) -> None:
    """What was refused is tried again when the operator has come to trust its key."""
    stranger = Publisher(installed, tmp_path / "stranger", "stranger")
    stranger.push(stranger.plugin("0.2.0"))
    installed.run("update", expect=7)
    assert installed.json("update").row["outcome"] == "current"
    stranger.trusted_by(installed)
    assert installed.json("update").row["outcome"] == "trial"


def test_the_payload_of_a_refused_version_is_never_asked_for(
    installed: Machine, publisher: Publisher, docker: CountedRegistry, tmp_path: Path
) -> None:
    """Signature before code: only of what is believed the payload's blob is fetched."""
    digest = push_forged(installed, tmp_path, "0.4.0")
    docker.requests()
    installed.run("update", expect=7)
    assert not [path for _, path in docker.requests() if digest in path]
    pushed = publisher.release("0.4.1", sample="0.4.0")
    assert installed.json("resolve", f"{PLUGIN_ID}:0.4.1").document["digest"] == pushed["digest"]
    docker.requests()
    installed.run("update")
    asked = docker.requests()
    assert [(method, path) for method, path in asked if digest in path] == [
        ("GET", f"/v2/{name_of(installed)}/blobs/{digest}")
    ]


def name_of(machine: Machine, plugin_id: str = PLUGIN_ID) -> str:
    """The repository's name at the registry."""
    assert machine.registry is not None
    return f"{machine.registry.partition('/')[2]}/{plugin_id}"


def tags_of(machine: Machine, plugin_id: str = PLUGIN_ID) -> str:
    """The path that lists a plugin's tags."""
    return f"/v2/{name_of(machine, plugin_id)}/tags/list?n=1000"


def test_an_unchanged_check_is_one_request_for_each_plugin(
    installed: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """Versions: the list of tags. A channel: one HEAD. Nothing else, by ``check`` or ``update``."""
    publisher.release("0.1.0", plugin_id=OTHER_ID, stem="other")
    installed.run("pull", OTHER_ID)
    third = "org.example.third"
    publisher.release("0.1.0", "--tag", "stable", plugin_id=third, stem="third")
    installed.run("pull", f"{third}:stable")
    docker.requests()
    expected = [
        ("GET", tags_of(installed)),
        ("GET", tags_of(installed, OTHER_ID)),
        ("HEAD", f"/v2/{name_of(installed, third)}/manifests/stable"),
    ]
    for verb in ("check", "update"):
        rows = installed.json(verb).document["plugins"]
        assert len(rows) == 3
        assert sorted(docker.requests()) == sorted(expected)  # those that follow are asked ahead


def test_a_release_that_fails_its_probe_is_rejected_and_not_tried_again(
    installed: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """0.3.0's health function says no: exit 9, nothing changed; the next run leaves it alone.

    Its compiled code goes with it.
    """
    compiled = installed.compiled()
    publisher.release("0.3.0")
    before = without_memory(installed)
    row = installed.json("update", expect=9).row
    assert (row["outcome"], row["step"], row["from"]) == ("refused", "probe", "0.1.0")
    assert without_memory(installed) == before
    docker.requests()
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "0.3.0: rejected" in again["detail"]
    assert len(docker.requests()) == 1
    planned = installed.json("check").row
    assert (planned["action"], planned["candidate"]) == ("none", "0.3.0")
    (rejected,) = installed.json("why", PLUGIN_ID).document["rejected"]
    assert rejected["version"] == "0.3.0"
    installed.run("pull", f"{PLUGIN_ID}:0.3.0", expect=9)
    assert without_memory(installed) == before
    assert installed.compiled() == compiled


def test_the_code_of_a_kept_release_stays_compiled(
    installed: Machine, publisher: Publisher
) -> None:
    """Another release of the same code fails its probe: what serves is not compiled anew."""
    compiled = installed.compiled()
    publisher.release("0.3.0", sample="0.1.0", edit={'func = "health"': 'func = "run"'})
    assert installed.json("update", expect=9).row["step"] == "probe"
    assert installed.compiled() == compiled != set()


def without_memory(machine: Machine) -> dict[str, str]:
    """The tree but for the second place of rejections, which is to tell of one."""
    return {name: it for name, it in machine.snapshot().items() if not name.endswith("/.memory")}


def test_a_channel_that_is_moved_back_is_left_alone(
    machine: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """Not newer than what serves: passed over in silence, remembered, and no error."""
    machine.configure(probation="0s")
    old = publisher.plugin("0.1.0")
    publisher.push(old, "--tag", "stable")
    machine.run("pull", f"{PLUGIN_ID}:stable")
    publisher.release("0.2.0", "--tag", "stable")
    assert machine.json("update").row["to"] == "0.2.0"
    publisher.push(old, "--tag", "stable")
    for _ in range(2):
        docker.requests()
        row = machine.json("update", PLUGIN_ID).row
        assert (row["outcome"], row["to"]) == ("current", "0.2.0")
        assert "0.1.0 is not newer than 0.2.0" in row["detail"]
    assert len(docker.requests()) == 1


def test_nothing_is_fetched_of_a_module_that_is_too_large(
    installed: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """Its descriptor says so: neither its code nor its manifest and signature are asked for."""
    publisher.release("0.2.0")
    installed.configure("[sandbox]\nmax_module_bytes = 100\n")
    docker.requests()
    ran = installed.json("update", expect=6)
    assert "sandbox.max_module_bytes" in ran.err
    assert [path for _, path in docker.requests()] == [
        tags_of(installed),
        f"/v2/{name_of(installed)}/manifests/0.2.0",
    ]


def test_a_release_that_traps_once_live_is_rolled_back_by_an_open_host(
    installed: Machine, publisher: Publisher
) -> None:
    """0.4.0 passes its probe, traps three times in a host on trial: back at once, and rejected."""
    publisher.release("0.4.0")
    with PluginHost(home=installed.home) as host:
        host.load_plugin(f"{STEM}.wasm")
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
        assert installed.json("update").row["outcome"] == "trial"
        host_sees(host, installed, "0.4.0")
        for _ in range(3):
            with pytest.raises(GuestTrap):
                host.call_plugin("run", ["Jane"], plugin=PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
        assert installed.version() == "0.1.0"
    events = [event["event"] for event in installed.json("history", PLUGIN_ID).document["events"]]
    assert events == ["activated", "committed", "activated", "rolled back"]
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "rejected" in again["detail"]
    named = installed.json("pull", f"{PLUGIN_ID}:0.4.0").row
    assert named["outcome"] == "trial"


def host_sees(host: PluginHost, machine: Machine, version: str) -> None:
    """Have a host look at ``current`` now, and not when its last look is 100 ms old."""
    assert machine.version() == version
    host._loaded.find(PLUGIN_ID).follow(now=True)


def test_failures_of_single_calls_end_a_trial_too(installed: Machine, publisher: Publisher) -> None:
    """Each ``agent call`` records its failure and judges: the third one turns back."""
    publisher.release("0.4.0")
    installed.run("update")
    for _ in range(2):
        installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
        assert installed.version() == "0.4.0"
    installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
    assert installed.version() == "0.1.0"
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


def test_waiting_for_a_bad_release_ends_with_9(installed: Machine, publisher: Publisher) -> None:
    """``pull --wait``: reverted by others' failing calls, it says rolled_back and why, exit 9."""
    publisher.release("0.4.0")
    with installed.popen("pull", PLUGIN_ID, "--wait", "--format", "json") as waiting:
        assert waiting.stderr is not None
        assert "waiting for its probation" in waiting.stderr.readline()
        for _ in range(3):
            installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 9
    (row,) = json.loads(out)["plugins"]
    assert (row["outcome"], row["to"]) == ("rolled_back", "0.1.0")
