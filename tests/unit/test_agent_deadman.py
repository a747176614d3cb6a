"""The dead-man switch on a real ledger: which trials a service died with, and how often."""

import contextlib
from pathlib import Path

import pytest

from agent.context import Context, Options
from agent.model import Generation
from agent.service.deadman import DeadMan
from agent.service.trials import health_every_s
from agent.telemetry import Telemetry
from support.agent import NOW, PLUGIN_ID, generation, installed_at, plugin_set
from support.system import Machine, taken


def on_trial(context: Context, version: str) -> Generation:
    """Have a version go live on trial."""
    new = generation(version, installed_at=NOW)
    context.ledger.add_generation(new)
    context.tree.seal(new, plugin_set(context.places.state, version))
    context.activation.activate(new, probation_s=600, channel=None)
    return new


def test_only_a_death_while_a_trial_ran_counts(tmp_path: Path) -> None:
    """Not an end in good order, nor one before it was loaded; another release starts at none."""
    with installed_at(tmp_path) as context:
        ledger = context.ledger
        ledger.arm_trial(PLUGIN_ID)
        assert ledger.trials() == ()
        assert ledger.count_deaths() == {}
        trial = on_trial(context, "0.2.0")
        assert [one.release for one in ledger.trials()] == [trial.release]
        assert ledger.count_deaths() == {}
        ledger.arm_trial(PLUGIN_ID)
        ledger.arm_trial(PLUGIN_ID)
        ledger.disarm_trials()
        assert ledger.count_deaths() == {}
        for deaths in (1, 2):
            ledger.arm_trial(PLUGIN_ID)
            assert ledger.count_deaths() == {PLUGIN_ID: deaths}
            assert ledger.count_deaths() == {PLUGIN_ID: deaths}
        context.activation.commit(ledger.trials()[0])
        assert ledger.count_deaths() == {}
        on_trial(context, "0.3.0")
        assert ledger.count_deaths() == {}


def test_a_trial_that_takes_the_service_down_twice_is_gone_back_from(tmp_path: Path) -> None:
    """Once is no proof; its release is rejected, and the one before serves."""
    publisher = taken(tmp_path, "0.1.0")
    machine = Machine(tmp_path / "host")
    publisher.release("0.2.0")
    machine.run("pull", f"{PLUGIN_ID}:0.2.0")
    wired = Context(Options(home=machine.home), environ={})
    with contextlib.closing(wired) as context, contextlib.closing(Telemetry("")) as telemetry:
        (trial,) = context.ledger.trials()
        for version in ("0.2.0", "0.1.0"):
            DeadMan(lambda: context).arm(PLUGIN_ID)
            DeadMan(lambda: context).judge(telemetry)
            live = context.activation.live(PLUGIN_ID)
            assert live is not None
            assert live.version == version
        assert trial.release in context.ledger.rejections(PLUGIN_ID)
        assert context.ledger.trials() == ()


def test_a_ledger_that_cannot_be_written_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the service goes on."""
    with installed_at(tmp_path) as context, contextlib.closing(Telemetry("")) as telemetry:
        on_trial(context, "0.2.0")
        context.ledger.close()
        deadman = DeadMan(lambda: context)
        deadman.arm(PLUGIN_ID)
        deadman.judge(telemetry)
        deadman.disarm()
    assert caplog.text.count("cannot keep the dead-man switch") == 3


@pytest.mark.parametrize(
    ("probation_s", "every_s"), [(600, 60), (300, 30), (7 * 86_400, 60), (5, 1), (0, 1)]
)
def test_a_trial_is_asked_ten_times_but_not_too_often(probation_s: float, every_s: float) -> None:
    """Each second at most, each minute at least."""
    assert health_every_s(probation_s) == every_s
