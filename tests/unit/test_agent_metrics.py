"""Figures: which plugins are outdated is told from what runs come to."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.errors import NetworkError, PolicyError, TrustError
from agent.metrics import Metrics
from agent.model import Kind, Outcome
from agent.telemetry import Telemetry

RUN = Outcome("org.example.hello", Kind.CURRENT, "plan", "", before="0.1.0", after="0.1.0")
HELD = PolicyError("cannot take it: held", reason="held")
FAULT = NetworkError("cannot reach it")


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Figures that Prometheus asks for."""
    telemetry = Telemetry("", scraped=True)
    yield telemetry.metrics
    telemetry.close()


def values(metrics: Metrics, name: str) -> list[float]:
    """What Prometheus reads of one figure."""
    families = text_string_to_metric_families(metrics.prometheus().decode())
    return [sample.value for family in families for sample in family.samples if sample.name == name]


@pytest.mark.parametrize(
    ("outcome", "outdated"),
    [
        (RUN, 0),
        (replace(RUN, newest="0.2.0"), 1),
        (replace(RUN, kind=Kind.PENDING, after="0.2.0", newest="0.2.0", error=HELD), 1),
        (replace(RUN, kind=Kind.COMMITTED, after="0.2.0", newest="0.2.0"), 0),
        (replace(RUN, kind=Kind.TRIAL, after="0.2.0", newest="99.0.0"), 1),
        (replace(RUN, kind=Kind.REFUSED, after="0.2.0", error=TrustError("no")), 1),
        (replace(RUN, kind=Kind.ROLLED_BACK, before="0.2.0", error=TrustError("no")), 1),
    ],
)
def test_a_plugin_is_outdated_where_a_newer_version_is_known(
    metrics: Metrics, outcome: Outcome, outdated: int
) -> None:
    """Whether it was taken, waits, or was refused; a run that could not look changes nothing."""
    metrics.updated(outcome, at=5)
    assert values(metrics, "agent_update_available") == [outdated]
    for unseen in (
        replace(RUN, kind=Kind.FAILED, after=None, error=FAULT),
        replace(RUN, kind=Kind.PENDING, after=None, error=HELD),
    ):
        metrics.updated(unseen, at=6)
        assert values(metrics, "agent_update_available") == [outdated]


def test_what_is_not_installed_any_more_is_left_out(metrics: Metrics) -> None:
    """Neither outdated nor ever done."""
    metrics.updated(replace(RUN, newest="0.2.0"), at=5)
    metrics.updated(replace(RUN, plugin_id="org.example.other", newest="0.2.0"), at=7)
    assert values(metrics, "agent_update_available") == [2]
    metrics.keep(["org.example.other"])
    assert values(metrics, "agent_update_available") == [1]
    assert values(metrics, "agent_last_success_seconds") == [7]


def test_a_failed_run_is_no_success(metrics: Metrics) -> None:
    """One that a rule ended is: it could be done."""
    metrics.updated(RUN, at=5)
    metrics.updated(replace(RUN, kind=Kind.FAILED, error=FAULT), at=6)
    assert values(metrics, "agent_last_success_seconds") == [5]
    metrics.updated(replace(RUN, kind=Kind.REFUSED, error=HELD), at=7)
    assert values(metrics, "agent_last_success_seconds") == [7]


def test_bytes_that_have_to_come_again_are_not_taken_back(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """They went over the network all the same; the SDK has nothing to complain about."""
    for count in (100, -100, 40):
        metrics.pulled(count)
    assert values(metrics, "agent_pull_bytes_total") == [140]
    assert not caplog.records


def test_off_nothing_is_counted() -> None:
    """And nothing is said to who asks."""
    metrics = Metrics()
    assert not metrics.is_on
    metrics.pulled(1)
    metrics.called("org.example.hello", "run", 1)
    metrics.updated(RUN, at=5)
    metrics.distrusted("org.example.hello", [TrustError("no")])
    assert metrics.prometheus() == b""
