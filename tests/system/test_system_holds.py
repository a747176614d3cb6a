"""hold and unhold by the command line: who is bound, for how long, and what still happens."""

import contextlib
import datetime as dt
import fcntl
import functools
import time
from pathlib import Path

import pytest

from agent import context as agent_context
from agent.context import Context, Options
from agent.model import Kind, Samples
from agent.pipeline import taking
from agent.pipeline.update import Pipeline
from agent.telemetry import Telemetry
from agent.verbs import holding
from support.system import PLUGIN_ID, Machine, Publisher

LATER = dt.datetime(2099, 1, 1, tzinfo=dt.UTC).timestamp()


def test_a_held_plugin_is_left_alone_by_updates_and_taken_by_a_pull(
    installed: Machine, publisher: Publisher
) -> None:
    """``update`` waits with 0, 8 where it was named, says how long; ``pull`` goes on."""
    publisher.release("0.2.0")
    row = installed.json("hold", PLUGIN_ID, "--for", "1h30m").row
    assert (row["from"], row["to"], row["outcome"], row["step"]) == (
        "0.1.0",
        "0.1.0",
        "committed",
        "hold",
    )
    until = dt.datetime.fromisoformat(row["held_until"]).timestamp()
    assert 5_300 < until - time.time() <= 5_400
    before = installed.snapshot()
    waiting = installed.json("update").row
    assert (waiting["outcome"], waiting["to"]) == ("pending", "0.2.0")
    assert f"held until {row['held_until']}, 1h" in waiting["detail"]
    for verb in ("check", "outdated"):
        planned = installed.json(verb).row
        assert (planned["action"], planned["candidate"]) == ("wait", "0.2.0")
        assert planned["reason"].startswith("held: ")
    assert installed.json("info", PLUGIN_ID).row["held_until"] == row["held_until"]
    why = installed.json("why", PLUGIN_ID).document
    assert why["bounds"]["hold_until"] == row["held_until"]
    assert why["last"]["reason"] == "held"
    named = installed.json("update", PLUGIN_ID, expect=8)
    assert f"agent pull {PLUGIN_ID} takes it all the same" in named.err
    assert installed.snapshot() == before
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "trial"


def test_unhold_lets_go(installed: Machine, publisher: Publisher) -> None:
    """The next update takes what is there; again, there is nothing to let go."""
    publisher.release("0.2.0")
    assert installed.json("hold", PLUGIN_ID).row["held_until"] == "forever"
    assert installed.json("update").row["outcome"] == "pending"
    row = installed.json("unhold", PLUGIN_ID).row
    assert (row["outcome"], row["held_until"]) == ("committed", None)
    assert installed.json("unhold", PLUGIN_ID).row["outcome"] == "current"
    assert installed.json("update").row["outcome"] == "trial"
    events = installed.json("history", PLUGIN_ID).document["events"]
    assert [e["event"] for e in events if "held" in e["event"]] == ["held", "unheld"]
    decided = [one["outcome"] for one in installed.json("audit", "show").document["lines"]]
    assert [word for word in decided if "held" in word] == ["held", "unheld"]


def test_holding_again_is_the_last_word(installed: Machine) -> None:
    """Without an end twice: nothing to do; with one, the later hold is in force."""
    installed.run("hold", PLUGIN_ID)
    again = installed.json("hold", PLUGIN_ID).row
    assert (again["outcome"], again["detail"]) == ("current", "already held until agent unhold")
    shorter = installed.json("hold", PLUGIN_ID, "--for", "1m").row
    assert shorter["outcome"] == "committed"
    assert shorter["held_until"] != "forever"


def test_a_hold_runs_out(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its time is over nothing is held and nothing says so."""
    publisher.release("0.2.0")
    installed.run("hold", PLUGIN_ID, "--for", "1d")
    monkeypatch.setattr(agent_context, "Context", functools.partial(Context, clock=lambda: LATER))
    assert installed.json("info", PLUGIN_ID).row["held_until"] is None
    assert installed.json("update").row["outcome"] == "trial"


def test_the_longer_of_two_holds_binds(installed: Machine, publisher: Publisher) -> None:
    """``unhold`` takes back the command's alone, and says that the config still holds."""
    publisher.release("0.2.0")
    section = f'[plugins."{PLUGIN_ID}"]\nhold_until = 2098-01-01T00:00:00Z\n'
    installed.configure(section)
    row = installed.json("hold", PLUGIN_ID, "--for", "1h").row
    assert row["held_until"] == "2098-01-01T00:00:00+00:00"
    row = installed.json("unhold", PLUGIN_ID).row
    assert row["detail"] == "let go; the config still holds it until 2098-01-01T00:00:00+00:00"
    assert installed.json("update").row["outcome"] == "pending"


def test_an_open_trial_is_judged_under_a_hold(installed: Machine, publisher: Publisher) -> None:
    """What fails goes back, held or not."""
    publisher.release("0.2.0")
    assert installed.json("update").row["outcome"] == "trial"
    installed.run("hold", PLUGIN_ID)
    with contextlib.closing(Context(Options(home=installed.home), environ={})) as context:
        trial = context.ledger.trial(PLUGIN_ID)
        assert trial is not None
        context.ledger.add_samples([(PLUGIN_ID, trial.release, 1, Samples(9, 9))])
    assert installed.json("update", expect=9).row["outcome"] == "rolled_back"
    assert installed.version() == "0.1.0"


def test_an_update_that_was_planned_before_the_hold_does_not_go_live(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is checked again under the tree's lock, the hold included."""
    publisher.release("0.2.0")
    with contextlib.closing(Context(Options(home=installed.home), environ={})) as context:
        pipeline = Pipeline(context, Telemetry(""))
        incoming = taking.incoming

        def hold_meanwhile(where: Context) -> contextlib.AbstractContextManager[Path]:
            holding.hold(where, PLUGIN_ID, for_s=None, dry_run=False)
            return incoming(where)

        monkeypatch.setattr(taking, "incoming", hold_meanwhile)
        outcome = pipeline.update(PLUGIN_ID, named=False)
    assert outcome.kind is Kind.REFUSED
    assert outcome.error is not None
    assert outcome.error.exit_code == 8
    assert installed.version() == "0.1.0"


def test_what_can_not_be_held(installed: Machine) -> None:
    """A plugin that is not there: 3; no time: 2; a dry run: nothing is held."""
    for verb in ("hold", "unhold"):
        ran = installed.json(verb, "org.example.other", expect=3)
        assert ran.document["error"]["code"] == "not-found"
    for text in ("0s", "soon", "-1s"):
        installed.run("hold", PLUGIN_ID, f"--for={text}", expect=2)
    assert installed.json("hold", PLUGIN_ID, "--dry-run").row["outcome"] == "planned"
    assert installed.json("info", PLUGIN_ID).row["held_until"] is None
    installed.run("hold", PLUGIN_ID)
    assert installed.json("unhold", PLUGIN_ID, "--dry-run").row["outcome"] == "planned"
    assert installed.json("info", PLUGIN_ID).row["held_until"] == "forever"


def test_a_hold_waits_for_the_tree(installed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another agent keeps it: 11, and nothing is held."""
    monkeypatch.setattr(holding, "LOCK_TIMEOUT_S", 0.0)
    with (installed.plugins / ".store" / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed.run("hold", PLUGIN_ID, expect=11)
    assert installed.json("info", PLUGIN_ID).row["held_until"] is None
