"""The hook ``pre_activate``: the operator's own check before a release goes live."""

import json
import sys
from pathlib import Path

import pytest

from agent import PluginHost
from support.hooks import keeping, kept, script
from support.system import PLUGIN_ID, Machine, Publisher

LOCKED = """
import fcntl, sys
with open(sys.argv[1]) as lock:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


def hook(machine: Machine, *words: str | Path, timeout: str = "20s", probation: str = "0s") -> None:
    """Have the machine ask a command."""
    command = json.dumps([str(word) for word in words])
    machine.configure(
        f'[hooks]\npre_activate = {command}\ntimeout = "{timeout}"\n', probation=probation
    )


def test_a_release_that_is_let_through_serves(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The hook is told what would replace what, before anything has changed."""
    hook(installed, keeping(tmp_path, "ask"))
    pushed = publisher.release("0.2.0")
    assert installed.json("update").row["outcome"] == "committed"
    (event,) = kept(tmp_path, "ask")
    assert event.pop("at").endswith("+00:00")
    assert event == {
        "schemaVersion": 1,
        "event": "activating",
        "id": PLUGIN_ID,
        "version": "0.2.0",
        "release": pushed["release"],
        "from": "0.1.0",
        "to": "0.2.0",
        "reason": "",
    }


@pytest.mark.parametrize(
    ("text", "timeout", "why"),
    [
        ("echo first >&2; echo 'not on \033[2J fridays' >&2; exit 3", "20s",
         r"it ended with 3: not on \x1b[2J fridays"),
        ("sleep 600", "1s", "no end within 1 s"),
        ("kill -9 $$", "20s", "it was ended by signal 9"),
        (None, "20s", "it can't be run: No such file or directory"),
    ],
    ids=["no", "late", "killed", "missing"],
)  # fmt: skip
def test_a_veto_leaves_all_as_it_was_and_is_not_remembered(
    installed: Machine,
    publisher: Publisher,
    tmp_path: Path,
    text: str | None,
    timeout: str,
    why: str,
) -> None:
    """Refused (8, vetoed) with the last line of what it said; the next run takes the release."""
    path = tmp_path / "veto"
    hook(installed, script(path, text) if text else path, timeout=timeout)
    publisher.release("0.2.0")
    before = installed.snapshot()
    ran = installed.json("update", expect=8)
    row = ran.row
    assert (row["outcome"], row["step"]) == ("refused", "veto")
    expected = f"cannot take {PLUGIN_ID} 0.2.0: the hook pre_activate says no, {why}"
    assert row["detail"] == expected
    assert installed.snapshot() == before
    assert installed.json("why", PLUGIN_ID).document["last"]["reason"] == "vetoed"
    installed.run("update", PLUGIN_ID, expect=8)
    installed.run("pull", PLUGIN_ID, expect=8)
    hook(installed, "true")
    assert installed.json("update").row["outcome"] == "committed"


def test_a_first_install_is_asked_for_too(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """There is nothing that it would replace."""
    hook(machine, keeping(tmp_path, "ask", code=1))
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID, expect=8)
    (event,) = kept(tmp_path, "ask")
    assert (event["from"], event["to"]) == (None, "0.1.0")
    assert machine.version() is None


@pytest.mark.parametrize(
    "verb",
    [
        ("update", "--dry-run"),
        ("check",),
        ("pull", PLUGIN_ID, "--no-activate"),
        ("pull", PLUGIN_ID, "--dry-run"),
        ("rollback", PLUGIN_ID),
    ],
)
def test_what_takes_nothing_live_asks_nobody(
    installed: Machine, publisher: Publisher, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    """Neither looks, nor staging, nor the way back."""
    if verb[0] == "rollback":
        installed.configure(probation="0s")
        publisher.release("0.2.0")
        installed.run("update")
    else:
        publisher.release("0.2.0")
    hook(installed, keeping(tmp_path, "ask", code=1))
    installed.run(*verb)
    assert kept(tmp_path, "ask") == []


def test_nobody_waits_for_it_with_the_tree_locked(installed: Machine, publisher: Publisher) -> None:
    """While it runs anybody may change the plugins: it can take the lock itself."""
    hook(installed, sys.executable, "-c", LOCKED, installed.plugins / ".store" / ".lock")
    publisher.release("0.2.0")
    assert installed.json("update").row["outcome"] == "committed"


def test_a_release_that_came_meanwhile_is_not_overwritten(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The hook itself rolls out another one: the plan is made anew under the lock."""
    installed.configure(probation="0s")
    publisher.release("0.2.0")
    publisher.release("0.3.0", sample="0.2.0")
    other = " ".join(installed.command("pull", f"{PLUGIN_ID}:0.2.0"))
    not_again = "STACK_COMPOSER_HOOKS__PRE_ACTIVATE='[]'"
    hook(installed, script(tmp_path / "ask", f"{not_again} {other} >&2"))
    row = installed.json("update", expect=11).row
    assert row["outcome"] == "failed"
    assert installed.version() == "0.2.0"


def test_a_drop_in_is_asked_for_each_time(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """In the program that would take it; not remembered, so that a later one does."""
    folder = publisher.plugin("0.2.0")
    installed.run("sign", folder, "--key", publisher.key)
    for path in folder.iterdir():
        (installed.plugins / path.name).write_bytes(path.read_bytes())
    hook(installed, keeping(tmp_path, "ask", code=1))
    for _ in range(2):
        with PluginHost(home=installed.home) as host:
            host.load_installed(PLUGIN_ID)
    assert [event["to"] for event in kept(tmp_path, "ask")] == ["0.2.0"] * 2
    assert installed.version() == "0.1.0"
    hook(installed, "true")
    installed.run("update")
    assert installed.version() == "0.2.0"
