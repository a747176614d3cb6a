"""The main job by commands over a docker-registry: publish, take, run, update, go back."""

from pathlib import Path

import pytest

from agent import __version__
from support.system import PLUGIN_ID, Machine, Publisher

INSTALLED_KEYS = {
    "id",
    "version",
    "release",
    "digest",
    "state",
    "path",
    "source",
    "capabilities",
    "key_id",
}
PLAN_KEYS = {"id", "current", "candidate", "action", "reason"}
OUTCOME_KEYS = {"id", "from", "to", "release", "digest", "outcome", "step", "detail"}


def test_a_publisher_and_an_operator_do_the_whole_job(  # noqa: PLR0915 - one long story
    machine: Machine, tmp_path: Path
) -> None:
    """Key, trust, push, pull, call, update, rollback; each verb's JSON as the contract says."""
    made = machine.json("keygen", tmp_path / "key.pem").document
    assert made.keys() == {"schemaVersion", "key_id", "public", "path"}
    assert made["path"] == str(tmp_path / "key.pem")
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    (known,) = machine.json("trust", "list").document["keys"]
    assert (known["id"], known["status"]) == (publisher.key_id, "active")

    pushed = publisher.release("0.1.0", "--tag", "stable")
    assert pushed.keys() == {"schemaVersion", "ref", "digest", "release"}
    assert pushed["ref"] == f"{machine.registry}/{PLUGIN_ID}:0.1.0"
    resolved = machine.json("resolve", PLUGIN_ID).document
    assert (resolved["digest"], resolved["release"]) == (pushed["digest"], pushed["release"])
    assert machine.json("tags", PLUGIN_ID).document["versions"] == ["0.1.0"]
    assert machine.json("tags", PLUGIN_ID).document["other"] == ["stable"]
    checked = machine.json("verify", f"{PLUGIN_ID}:0.1.0").document
    assert {"accepted", "binding", "key_id", "owner", "findings"} <= checked.keys()
    assert (checked["accepted"], checked["binding"]) == (True, "v1")
    assert all(finding.keys() == {"rule", "ok", "detail"} for finding in checked["findings"])

    pulled = machine.json("pull", PLUGIN_ID).row
    assert pulled.keys() == OUTCOME_KEYS
    assert (pulled["from"], pulled["to"], pulled["outcome"]) == (None, "0.1.0", "committed")
    assert (pulled["digest"], pulled["release"]) == (pushed["digest"], pushed["release"])
    listed = machine.json("list").row
    assert listed.keys() >= INSTALLED_KEYS
    assert (listed["version"], listed["state"]) == ("0.1.0", "active")
    assert listed["source"] == f"{machine.registry}/{PLUGIN_ID}"
    assert listed["key_id"] == publisher.key_id
    assert machine.json("info", PLUGIN_ID).row.keys() >= INSTALLED_KEYS
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    called = machine.json("call", PLUGIN_ID, "run", "Jane").document
    keys = {"schemaVersion", "result", "fuel_used", "memory_peak_bytes", "took_ms"}
    assert called.keys() == keys
    assert called["result"] == "Hello, Jane"
    assert called["fuel_used"] > 0

    second = publisher.release("0.2.0")
    planned = machine.json("check").row
    assert planned.keys() == PLAN_KEYS
    assert (planned["current"], planned["candidate"], planned["action"]) == (
        "0.1.0",
        "0.2.0",
        "update",
    )
    assert machine.json("outdated").row == planned
    updated = machine.json("update").row
    assert updated.keys() == OUTCOME_KEYS
    assert (updated["from"], updated["to"], updated["outcome"]) == ("0.1.0", "0.2.0", "trial")
    assert updated["release"] == second["release"]
    assert machine.json("list").row["state"] == "trial"
    assert machine.json("update").row["outcome"] == "pending"
    first_answer = machine.run("call", PLUGIN_ID, "run", "Jane").out
    assert first_answer != "Hello, Jane"

    back = machine.json("rollback", PLUGIN_ID).row
    assert back.keys() == OUTCOME_KEYS
    assert (back["from"], back["to"], back["outcome"]) == ("0.2.0", "0.1.0", "rolled_back")
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    events = machine.json("history", PLUGIN_ID).document["events"]
    assert [(event["event"], event["version"]) for event in events] == [
        ("activated", "0.1.0"),
        ("committed", "0.1.0"),
        ("activated", "0.2.0"),
        ("rollback", "0.2.0"),
    ]
    why = machine.json("why", PLUGIN_ID).document
    assert why["version"] == "0.1.0"
    assert [item["version"] for item in why["rejected"]] == ["0.2.0"]
    assert machine.json("update").row["outcome"] == "current"
    (granted,) = machine.json("grants", PLUGIN_ID).document["grants"]
    assert granted == {
        "capability": "log",
        "requested": True,
        "granted": True,
        "by": granted["by"],
        "until": None,
        "max_calls": None,
        "calls_left": None,
    }


def test_a_trial_is_committed_when_its_probation_is_over(
    machine: Machine, publisher: Publisher
) -> None:
    """``pull --wait`` stays until a short probation ends, and says committed."""
    machine.configure(probation="1s")
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.2.0")
    row = machine.json("pull", PLUGIN_ID, "--wait").row
    assert (row["outcome"], row["step"]) == ("committed", "commit")
    listed = machine.json("info", PLUGIN_ID).row
    assert (listed["state"], listed["floor"]) == ("active", "0.2.0")


def test_no_probation_commits_at_once(machine: Machine, publisher: Publisher) -> None:
    """``probation = "0s"``: an update is committed in the run that took it."""
    machine.configure(probation="0s")
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.2.0")
    assert machine.json("update").row["outcome"] == "committed"
    assert machine.json("update").row["outcome"] == "current"


def test_the_embedded_registry_needs_no_server(tmp_path: Path) -> None:
    """The same job over the default registry, an OCI image layout under the host's home."""
    machine = Machine(tmp_path / "host")
    publisher = Publisher(machine, tmp_path / "publisher")
    publisher.trusted_by(machine)
    pushed = publisher.release("0.1.0")
    assert pushed["ref"] == f"oci:{tmp_path}/host/registry/{PLUGIN_ID}:0.1.0"
    machine.run("pull", PLUGIN_ID)
    publisher.release("0.2.0")
    assert machine.json("update").row["outcome"] == "trial"
    assert machine.json("rollback", PLUGIN_ID).row["to"] == "0.1.0"


@pytest.mark.parametrize("start", ["registry", "oci"])
def test_processes_do_what_calls_in_process_do(
    machine: Machine, publisher: Publisher, tmp_path: Path, start: str
) -> None:
    """Real processes: the exit code is the process's, data on stdout, messages on stderr."""
    base = str(machine.registry) if start == "registry" else f"oci:{tmp_path}/layouts"
    assert machine.process("--version").out.strip().endswith(__version__)
    folder = publisher.plugin("0.1.0")
    machine.process("push", folder, "--key", publisher.key, "--registry", base)
    machine.process("--registry", base, "pull", PLUGIN_ID)
    ran = machine.process("call", PLUGIN_ID, "run", "Jane")
    assert ran.out == "Hello, Jane"
    assert "greeted" in ran.err
    missing = machine.process("pull", f"{PLUGIN_ID}:9.9.9", "--registry", base, expect=3)
    assert "9.9.9" in missing.err


def test_pushing_the_same_twice_gives_the_same_digest(
    machine: Machine, publisher: Publisher
) -> None:
    """A second push of the same folder changes nothing; other bytes at the version are refused."""
    folder = publisher.plugin("0.1.0")
    first = publisher.push(folder)
    assert publisher.push(folder) == first
    other = publisher.plugin("0.1.0", sample="0.2.0")
    ran = machine.json("push", other, "--key", publisher.key, expect=8)
    assert ran.document["error"]["code"] == "policy"
    assert machine.json("resolve", f"{PLUGIN_ID}:0.1.0").document["digest"] == first["digest"]
    assert publisher.push(other, "--force")["digest"] != first["digest"]


def test_an_unsigned_folder_is_not_pushed(machine: Machine, publisher: Publisher) -> None:
    """Without ``--key`` the ``.sig`` must be valid, under the trust store or ``--public``."""
    folder = publisher.plugin("0.1.0")
    assert machine.json("push", folder, expect=7).document["error"]["code"] == "trust"
    machine.run("sign", folder, "--key", publisher.key)
    machine.run("push", folder, "--public", publisher.public)
    stranger = Publisher(machine, publisher.folder.parent / "stranger")
    machine.run("push", folder, "--public", stranger.public, expect=7)
