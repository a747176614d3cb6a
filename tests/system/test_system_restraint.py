"""What an unattended run finds goes live only where nothing restrains it, to the last moment."""

import contextlib
from collections.abc import Iterator

import pytest

from agent.context import Context, Options
from agent.errors import PolicyError
from agent.model import Kind
from agent.pipeline.restraint import Restraint
from agent.pipeline.staging import Stage
from agent.pipeline.update import Pipeline
from agent.telemetry import Telemetry
from support.system import PLUGIN_ID, Machine, Publisher

CLOSED = Restraint("window", "window opens tomorrow")


def closing() -> Iterator[Restraint | None]:
    """A window that is open when the run begins, and closes while it fetches."""
    yield None
    while True:
        yield CLOSED


def test_a_window_that_closes_meanwhile_keeps_what_was_fetched_from_going_live(
    installed: Machine, publisher: Publisher
) -> None:
    """It waits for the next one, which then takes it; `agent why` says so."""
    publisher.release("0.2.0")
    said = closing()
    with contextlib.closing(Context(Options(home=installed.home), {})) as context:
        pipeline = Pipeline(context, Telemetry(""), restrains=lambda: next(said))
        outcome = pipeline.update(PLUGIN_ID, named=False)
        assert (outcome.kind, outcome.after) == (Kind.PENDING, "0.2.0")
        assert isinstance(outcome.error, PolicyError)
        assert outcome.error.reason == "window"
        live, decision = context.activation.live(PLUGIN_ID), context.ledger.decision(PLUGIN_ID)
        assert live is not None
        assert live.version == "0.1.0"
        assert decision is not None
        assert (decision.reason, decision.detail) == (
            "window",
            "0.2.0 waits: window opens tomorrow",
        )
        taken = Pipeline(context, Telemetry("")).update(PLUGIN_ID, named=False)
        assert (taken.kind, taken.after) == (Kind.TRIAL, "0.2.0")


def test_what_is_denied_while_it_is_probed_does_not_go_live(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A health call takes its time: the trust store has the last word."""
    release = publisher.release("0.2.0")["release"]
    store = installed.home / "config" / "trusted_keys.toml"
    probe = Stage.seal_and_probe

    def deny_meanwhile(stage: Stage) -> None:
        probe(stage)
        text = store.read_text(encoding="utf-8")
        store.write_text(f'{text}\n[[deny]]\nrelease = "{release}"\nreason = "it spies"\n')

    monkeypatch.setattr(Stage, "seal_and_probe", deny_meanwhile)
    assert "it spies" in installed.run("update", PLUGIN_ID, expect=7).err
    assert installed.version(PLUGIN_ID) == "0.1.0"
    assert [g for g in installed.plugins.glob(".store/*/*") if "0.2.0" in g.name] == []
