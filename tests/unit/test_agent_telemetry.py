"""Spans: free while off; on, they reach a real OTLP/HTTP receiver."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent import __version__
from agent.pipeline.steps import Progress, Steps
from agent.telemetry import Telemetry, endpoint_of, log_record
from sandbox import LogRecord
from support.otlp import Receiver, attributes, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A collector on loopback."""
    with receiving() as server:
        yield server


OFF = """
import sys
from agent.telemetry import Telemetry
telemetry = Telemetry("")
with telemetry.span("plugin.call", plugin_id="x") as span:
    span.set_attribute("plugin.function", "run")
telemetry.close()
assert not telemetry.is_on
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_off_imports_nothing() -> None:
    """Without an endpoint no module of OpenTelemetry is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", OFF], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_spans_arrive_with_their_parents(receiver: Receiver) -> None:
    """Nested blocks are children; names, attributes and the service are those of contract §9."""
    telemetry = Telemetry(receiver.endpoint + "/")
    assert telemetry.is_on
    with telemetry.span("agent.update", plugin_id="org.example.hello") as outer:
        with telemetry.span("agent.fetch", plugin_id="org.example.hello", plugin_fuel_used=7):
            pass
        outer.set_attribute("agent.outcome", "committed")
    telemetry.close()
    assert not telemetry.is_on
    spans = receiver.spans()
    assert set(spans) == {"agent.update", "agent.fetch"}
    assert receiver.paths == {"/v1/traces"}
    update, fetch = spans["agent.update"], spans["agent.fetch"]
    assert fetch.parent_span_id == update.span_id
    assert fetch.trace_id == update.trace_id
    assert update.parent_span_id == b""
    assert attributes(update) == {"plugin.id": "org.example.hello", "agent.outcome": "committed"}
    assert attributes(fetch)["plugin.fuel_used"] == 7
    resource = {
        fact.key: fact.value.string_value
        for fact in receiver.traces()[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "stack-composer-agent"
    assert resource["service.version"] == __version__


def test_an_error_is_on_its_span(receiver: Receiver) -> None:
    """What ended a block badly is recorded, and goes on."""
    telemetry = Telemetry(receiver.endpoint)
    with pytest.raises(ValueError, match="no"), telemetry.span("agent.verify"):
        raise ValueError("no")
    telemetry.close()
    span = receiver.spans()["agent.verify"]
    assert span.status.code == 2
    assert [event.name for event in span.events] == ["exception"]


def test_the_pipelines_steps_are_spans(receiver: Receiver) -> None:
    """Each step is shown, named for an outcome, and traced."""
    shown: list[tuple[str, str]] = []
    telemetry = Telemetry(receiver.endpoint)
    progress = Progress(
        lambda plugin_id, step: shown.append((plugin_id, step)), lambda _: None, lambda _: None
    )
    steps = Steps(telemetry, progress)
    with steps.stepping("org.example.hello", "check"):
        pass
    with pytest.raises(ValueError, match="no"), steps.stepping("org.example.hello", "verify"):
        raise ValueError("no")
    telemetry.close()
    assert steps.now == "verify"
    assert shown == [("org.example.hello", "check"), ("org.example.hello", "verify")]
    assert set(receiver.spans()) == {"agent.check", "agent.verify"}


def test_nobody_need_watch() -> None:
    """The silent progress takes everything and shows nothing."""
    steps = Steps(Telemetry(""), Progress.silent())
    with steps.stepping("org.example.hello", "fetch"):
        steps.progress.bytes_total(3)
        steps.progress.bytes_done(3)
    assert steps.now == "fetch"


def test_steps_begin_anew_for_each_plugin() -> None:
    """The place and the version of the plugin before are forgotten."""
    steps = Steps(Telemetry(""), Progress.silent())
    before = (steps.now, steps.version)
    with steps.stepping("org.example.hello", "fetch"):
        steps.version = "0.2.0"
    steps.begin()
    assert (steps.now, steps.version) == before


def test_closing_twice_is_closing_once(receiver: Receiver) -> None:
    """Nothing is sent twice."""
    telemetry = Telemetry(receiver.endpoint)
    with telemetry.span("a"):
        pass
    telemetry.close()
    telemetry.close()
    with telemetry.span("b"):
        pass
    assert set(receiver.spans()) == {"a"}
    assert len(receiver.posted) == 1


def test_what_plugins_log_arrives_in_its_trace(receiver: Receiver) -> None:
    """Level, time, plugin and stream; whoever took the records before still gets them."""
    telemetry = Telemetry(receiver.endpoint)
    taken: list[LogRecord] = []
    take = telemetry.logging(taken.append)
    said = LogRecord("org.example.hello", 3, "careful", "host_log", at_s=1.5)
    with telemetry.span("plugin.call"):
        take(said)
    telemetry.close()
    take(said)
    (record,) = receiver.records()
    span = receiver.spans()["plugin.call"]
    assert taken == [said, said]
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert (record.severity_text, record.severity_number) == ("WARN", 13)
    assert (record.body.string_value, record.time_unix_nano) == ("careful", 1_500_000_000)
    assert attributes(record) == {"plugin.id": "org.example.hello", "log.iostream": "host_log"}


def test_off_the_taker_of_log_records_stays_as_it_is() -> None:
    """Nothing is put before it."""
    assert Telemetry("").logging(log_record) is log_record


def test_the_config_wins_over_the_standard_variable() -> None:
    """Neither: off."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://standard:4318"}
    assert endpoint_of("http://ours:4318", environ) == "http://ours:4318"
    assert endpoint_of("", environ) == "http://standard:4318"
    assert endpoint_of("", {}) == ""


def test_a_collector_that_is_down_does_no_harm() -> None:
    """What could not be sent is lost, and nothing else."""
    with Receiver() as gone:
        telemetry = Telemetry(gone.endpoint)
    with telemetry.span("agent.check"):
        pass
    telemetry.close()
    assert not telemetry.is_on
