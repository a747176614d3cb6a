"""SIGKILL at moments nobody chose: verbs as processes of their own, a real registry, openssl."""

import contextlib
from pathlib import Path

import pytest

from agent.context import Context, Options
from support.kills import killed, speaking
from support.system import PLUGIN_ID, Machine, Publisher

KILLS = 20
SEED = 20_260_102


def test_what_a_kill_leaves_serves_and_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of 20 kills: what the ledger names answers, and the next update ends well."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with killed(tmp_path, SEED) as victim:
        for _ in range(KILLS):
            victim.kill_one()
        victim.kill_each()


def cut_short(folder: Path, *versions: str) -> Machine:
    """A machine on which a rollback died between the rejection and the flip back."""
    machine = Machine(folder / "host")
    publisher = Publisher(machine, folder / "publisher")
    publisher.trusted_by(machine)
    machine.configure(probation="0s")
    for version in versions:
        publisher.release(version, code=speaking(version))
        machine.run("pull", PLUGIN_ID)
    with contextlib.closing(Context(Options(home=machine.home), environ={})) as context:
        new, old, *_ = context.ledger.generations(PLUGIN_ID)
        context.ledger.turn_back(new, target=old.release, reason="by hand", at=context.clock())
    return machine


def test_whoever_opens_first_finishes_a_rollback_that_was_cut_short(tmp_path: Path) -> None:
    """Not even one call reaches the rejected release."""
    machine = cut_short(tmp_path, "0.1.0", "0.2.0")
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "0.1.0"
    assert machine.version() == "0.1.0"


def test_a_rollback_that_was_cut_short_is_finished_and_not_done_twice(tmp_path: Path) -> None:
    """Who runs it again gets that one step, and not another."""
    machine = cut_short(tmp_path, "0.1.0", "0.2.0", "0.3.0")
    row = machine.json("rollback", PLUGIN_ID).row
    assert (row["from"], row["to"], row["outcome"]) == ("0.3.0", "0.2.0", "rolled_back")
    assert machine.version() == "0.2.0"
