"""What makes an update wait: consent, a hold, a cooldown, a trial."""

import contextlib
import functools
import time
from pathlib import Path

import pytest

from agent import context as agent_context
from agent.context import Context, Options
from agent.host import PluginHost
from agent.ledger.ledger import Ledger
from agent.model import Samples
from sandbox import GuestTrap
from support.system import (
    PLUGIN_ID,
    STEM,
    Machine,
    Publisher,
)

RETRIEVAL = {'["log"]': '["log", "retrieval"]'}
OTHER_ID = "org.example.other"


def test_an_update_that_asks_for_more_waits_for_consent(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` reports it pending with 0, naming it is 8, ``pull`` is 8; granted, it is taken."""
    publisher.release("0.2.0", edit=RETRIEVAL)
    before = installed.snapshot()
    row = installed.json("update").row
    assert (row["outcome"], row["step"], row["to"]) == ("pending", "consent", "0.2.0")
    assert "retrieval" in row["detail"]
    planned = installed.json("check").row
    assert (planned["action"], planned["candidate"]) == ("wait", "0.2.0")
    named = installed.json("update", PLUGIN_ID, expect=8)
    assert named.row["outcome"] == "pending"
    assert f"agent grant {PLUGIN_ID} retrieval" in named.err
    assert installed.json("pull", PLUGIN_ID, expect=8).row["outcome"] == "pending"
    assert installed.snapshot() == before
    installed.run("grant", PLUGIN_ID, "retrieval")
    assert installed.json("update").row["outcome"] == "trial"


def test_a_denial_is_a_decision_too(installed: Machine, publisher: Publisher) -> None:
    """An operator who has denied the capability takes the update without it."""
    publisher.release("0.2.0", edit=RETRIEVAL)
    installed.run("deny", PLUGIN_ID, "retrieval")
    assert installed.json("update").row["outcome"] == "trial"
    rows = {r["capability"]: r for r in installed.json("grants", PLUGIN_ID).document["grants"]}
    assert (rows["retrieval"]["requested"], rows["retrieval"]["granted"]) == (True, False)


def test_a_first_install_warns_of_what_is_not_granted(
    machine: Machine, publisher: Publisher
) -> None:
    """It proceeds with what is granted, and says what is not."""
    publisher.release("0.1.0", edit=RETRIEVAL)
    ran = machine.json("pull", PLUGIN_ID)
    assert ran.row["outcome"] == "committed"
    assert "retrieval" in ran.err


@pytest.mark.parametrize(
    ("update", "section", "reason"),
    [
        ("", 'hold_until = "forever"', "held"),
        ("", "hold_until = 2099-01-01T00:00:00Z", "held"),
        ('cooldown = "7d"', "", "cooldown"),
    ],
)
def test_held_and_cooling_updates_wait(
    installed: Machine, publisher: Publisher, update: str, section: str, reason: str
) -> None:
    """A hold and a cooldown bind ``update``: pending with 0, 8 where named; never ``pull``."""
    publisher.release("0.2.0")
    installed.configure(f'[plugins."{PLUGIN_ID}"]\n{section}\n', update=update)
    before = installed.snapshot()
    row = installed.json("update").row
    assert row["outcome"] == "pending"
    assert reason in row["detail"]
    planned = installed.json("check").row
    assert (planned["action"], planned["candidate"]) == ("wait", "0.2.0")
    assert planned["reason"].startswith(reason)
    assert installed.json("update", PLUGIN_ID, expect=8).row["outcome"] == "pending"
    assert installed.snapshot() == before
    assert installed.json("pull", f"{PLUGIN_ID}:0.2.0").row["outcome"] == "trial"


def test_a_constraint_bounds_what_is_taken(installed: Machine, publisher: Publisher) -> None:
    """The highest version that it admits; the others are named with the reason."""
    publisher.release("0.1.4")
    publisher.release("0.2.0")
    installed.configure(f'[plugins."{PLUGIN_ID}"]\nconstraint = "~0.1"\n', probation="0s")
    row = installed.json("update").row
    assert (row["to"], row["outcome"]) == ("0.1.4", "committed")
    again = installed.json("update").row
    assert again["outcome"] == "current"
    assert "constraint" in again["detail"]


def test_pre_releases_are_taken_only_when_asked_for(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` passes 0.2.0-rc.1 over; naming it takes it."""
    publisher.release("0.2.0-rc.1", sample="0.2.0")
    assert installed.json("update").row["outcome"] == "current"
    row = installed.json("pull", f"{PLUGIN_ID}:0.2.0-rc.1").row
    assert (row["to"], row["outcome"]) == ("0.2.0-rc.1", "trial")


def test_a_plugin_on_trial_is_left_alone_unless_named(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` reports the trial as pending; named, it goes on past a trial that is over."""
    publisher.release("0.2.0")
    installed.run("update")
    publisher.release("0.2.1", sample="0.2.0")
    row = installed.json("update").row
    assert (row["outcome"], row["step"]) == ("pending", "trial")
    named = installed.json("update", PLUGIN_ID).row
    assert (named["from"], named["to"], named["outcome"]) == ("0.2.0", "0.2.1", "trial")
    assert installed.json("rollback", PLUGIN_ID).row["to"] == "0.1.0"


def hours_later(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Let the following verbs run so much later."""
    clock = functools.partial(_shifted, 3600 * hours)
    monkeypatch.setattr(agent_context, "Context", functools.partial(Context, clock=clock))


def _shifted(seconds: int) -> float:
    return time.time() + seconds


def test_an_update_run_ends_a_trial_whose_time_is_over(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``list`` says that it is due and changes nothing; ``update`` commits it and goes on."""
    publisher.release("0.2.0")
    installed.run("update")
    hours_later(monkeypatch, 1)
    row = installed.json("list").row
    assert (row["state"], row["due"]) == ("trial", True)
    assert "trial (due)" in installed.run("list").out
    assert installed.json("update", "--dry-run").row["outcome"] == "pending"
    assert installed.json("list").row["state"] == "trial"
    publisher.release("0.2.1", sample="0.2.0")
    row = installed.json("update").row
    assert (row["from"], row["to"], row["outcome"]) == ("0.2.0", "0.2.1", "trial")
    assert installed.json("info", PLUGIN_ID).row["floor"] == "0.2.0"


def test_an_update_run_ends_a_trial_that_went_badly(
    installed: Machine, publisher: Publisher
) -> None:
    """Failures that nobody has judged yet: the run goes back, says rolled_back, ends with 9."""
    release = publisher.release("0.4.0")["release"]
    installed.run("update")
    ledger = Ledger(installed.home / "state" / "state.db")
    ledger.add_samples([(PLUGIN_ID, release, int(time.time() // 60), Samples(calls=3, failures=3))])
    ledger.close()
    ran = installed.json("update", expect=9)
    assert (ran.row["from"], ran.row["to"]) == ("0.4.0", "0.1.0")
    assert (ran.row["outcome"], ran.row["step"]) == ("rolled_back", "rollback")
    assert "3 of 3 calls failed" in ran.err
    assert installed.version() == "0.1.0"


@pytest.mark.parametrize("fault", ["key", "bytes"])
def test_a_due_trial_of_what_cannot_serve_goes_back(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Its key was revoked, or its bytes broke: broken in ``list``, and never committed."""
    other = Publisher(installed, publisher.folder / "other", "other")
    other.trusted_by(installed)
    other.release("0.2.0")
    installed.run("update")
    if fault == "key":
        installed.run("trust", "revoke", other.key_id, "--reason", "laptop stolen")
    else:
        code = Path(installed.json("info", PLUGIN_ID).row["path"]) / f"{STEM}.wasm"
        code.chmod(0o600)
        code.write_bytes(b"\0asm")
    hours_later(monkeypatch, 1)
    assert installed.json("list").row["state"] == "broken"
    assert "  broken  " in installed.run("list").out
    reason = installed.json("check").row["reason"]
    assert "trial due: would go back, it could not serve any more: " in reason
    row = installed.json("update", expect=9).row
    assert (row["outcome"], row["from"], row["to"]) == ("rolled_back", "0.2.0", "0.1.0")
    assert installed.json("info", PLUGIN_ID).row["floor"] == "0.1.0"
    events = [event["event"] for event in installed.json("history", PLUGIN_ID).document["events"]]
    assert events[-2:] == ["activated", "rolled back"]


def test_a_host_serves_on_where_a_due_trial_cannot_be_judged(
    installed: Machine, publisher: Publisher
) -> None:
    """A trust store that can't be read costs no call its result; nothing is committed by it."""
    publisher.release("0.4.0")
    installed.run("update")
    context = Context(Options(home=installed.home), clock=functools.partial(_shifted, 3600))
    with contextlib.closing(context), PluginHost(context=context) as host:
        host.load_plugin(f"{STEM}.wasm")
        (installed.home / "config" / "trusted_keys.toml").write_text("schema = 'none'")
        with pytest.raises(GuestTrap):
            host.call_plugin("run", ["Jane"])
        assert context.ledger.trial(PLUGIN_ID) is not None


def test_a_cooldown_ends(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is taken once it has been seen for as long as the cooldown says."""
    publisher.release("0.2.0")
    installed.configure(update='cooldown = "2h"')
    assert installed.json("update").row["outcome"] == "pending"
    hours_later(monkeypatch, 1)
    assert installed.json("update").row["outcome"] == "pending"
    hours_later(monkeypatch, 2)
    assert installed.json("update").row["outcome"] == "trial"


def test_a_namespace_rule_moves_where_updates_come_from(
    installed: Machine, publisher: Publisher
) -> None:
    """Remembered is where a plugin came from, unless a rule of the operator's says otherwise."""
    publisher.release("0.2.0")
    mirror = f"{installed.registry}/mirror"
    publisher.push(publisher.plugin("0.3.1", sample="0.2.0"), "--registry", mirror)
    installed.configure(probation="0s")
    assert installed.json("update").row["to"] == "0.2.0"
    installed.configure(f'[registry.namespaces]\n"org.example" = "{mirror}"\n', probation="0s")
    assert installed.json("update").row["to"] == "0.3.1"
    assert installed.json("list").row["source"] == f"{mirror}/{PLUGIN_ID}"
