"""Figures and an update's spans (contract §9): at a collector, and as Prometheus reads them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent import PluginHost
from agent.context import Context, Options
from agent.model import Samples
from agent.telemetry import Telemetry
from sandbox import (
    ArgumentError,
    CapabilityDenied,
    FuelExhausted,
    GuestTrap,
    MissingExport,
)
from support.otlp import Receiver, attributes, points, receiving
from support.system import PLUGIN_ID, SAMPLES, Machine, Publisher

RELEASE_SIZE = (SAMPLES / "0.1.0" / "hello-plugin.wasm").stat().st_size
STEPS = ["agent.check", "agent.fetch", "agent.verify", "agent.fetch", "agent.stage"]
BUSY = """(module
  (import "stack_composer_v1" "host_fetch" (func $fetch (param i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64) (i64.const 0))
  (func (export "fine") (result i32) (i32.const 7))
  (func (export "trap") (unreachable))
  (func (export "spin") (loop $l (br $l)))
  (func (export "reach")
    (drop (call $fetch (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 0)))))"""
OFF = f"""
import sys
from pathlib import Path
from agent import PluginHost
with PluginHost(home=Path(sys.argv[1])) as host:
    host.load_installed("{PLUGIN_ID}")
    host.call_plugin("run", ["Jane"])
print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus"))])
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A collector."""
    with receiving() as running:
        yield running


@pytest.fixture
def told(installed: Machine, receiver: Receiver) -> Machine:
    """A host with 0.1.0 that commits at once, and a collector set."""
    installed.configure(f'[telemetry]\nendpoint = "{receiver.endpoint}"\n', probation="0s")
    return installed


def fact(**facts: str) -> frozenset[tuple[str, object]]:
    """Attributes: the first underscore is a dot."""
    return frozenset((key.replace("_", ".", 1), value) for key, value in facts.items())


def make_due(machine: Machine) -> None:
    """Probation is over."""
    with contextlib.closing(Context(Options(home=machine.home))) as context:
        trial = context.ledger.trial(PLUGIN_ID)
        assert trial is not None
        context.ledger.begin_trial_anew(trial, at=trial.started_at - 3600)


# -- spans of updates


def test_an_update_is_one_trace(told: Machine, publisher: Publisher, receiver: Receiver) -> None:
    """Its steps in order, all children of it, with version, release and digest."""
    pushed = publisher.release("0.2.0")
    receiver.posted.clear()
    told.run("update", PLUGIN_ID)
    *steps, update = receiver.every_span()
    names = [*STEPS, "agent.probe", "agent.activate", "agent.commit"]
    assert [step.name for step in steps] == names
    assert {step.parent_span_id for step in steps} == {update.span_id}
    assert {step.trace_id for step in steps} == {update.trace_id}
    assert (update.name, update.parent_span_id) == ("agent.update", b"")
    assert attributes(update) == {
        "plugin.id": PLUGIN_ID,
        "plugin.version": "0.2.0",
        "plugin.release": pushed["release"],
        "oci.manifest.digest": pushed["digest"],
        "agent.outcome": "committed",
    }
    assert attributes(steps[1])["oci.manifest.digest"] == pushed["digest"]
    assert [attributes(step).get("plugin.version") for step in steps] == [None, *["0.2.0"] * 7]


def test_the_end_of_a_trial_belongs_to_the_run_that_judges(
    told: Machine, publisher: Publisher, receiver: Receiver
) -> None:
    """``agent.commit``, or ``agent.rollback`` where it failed, within ``agent.update``."""
    told.configure(f'[telemetry]\nendpoint = "{receiver.endpoint}"\n', probation="10m")
    for version, failures, word in (("0.2.0", 0, "commit"), ("0.2.1", 9, "rollback")):
        pushed = publisher.release(version, sample="0.2.0")
        told.run("update", PLUGIN_ID)
        with contextlib.closing(Context(Options(home=told.home))) as context:
            row = (PLUGIN_ID, pushed["release"], 0, Samples(failures, failures))
            context.ledger.add_samples([row])
        make_due(told)
        receiver.posted.clear()
        told.run("update", expect=None)
        spans = receiver.spans()
        ending, update = spans[f"agent.{word}"], spans["agent.update"]
        assert ending.parent_span_id == update.span_id
        assert attributes(ending)["plugin.release"] == pushed["release"]


def test_a_load_that_fails_says_of_which_plugin(told: Machine, receiver: Receiver) -> None:
    """Its bytes were changed: the span has the id and the error."""
    (code,) = told.plugins.glob(f".store/{PLUGIN_ID}/0.1.0-*/*.wasm")
    code.parent.chmod(0o755)
    code.chmod(0o644)
    code.write_bytes(b"\0asm\x01\0\0\0")
    told.run("call", PLUGIN_ID, "run", "Jane", expect=7)
    load = receiver.spans()["plugin.load"]
    assert attributes(load) == {"plugin.id": PLUGIN_ID}
    assert load.status.code == 2


# -- figures of updates


def test_what_a_run_came_to_is_counted(
    told: Machine, publisher: Publisher, receiver: Receiver
) -> None:
    """By outcome and reason; what arrived; when it could be done; nothing newer is left."""
    publisher.release("0.2.0")
    told.run("update")
    figures = receiver.metrics()
    assert points(figures["agent.updates"]) == {fact(agent_outcome="committed", agent_reason=""): 1}
    (pulled,) = points(figures["agent.pull.bytes"]).values()
    assert pulled >= RELEASE_SIZE / 2
    assert points(figures["agent.update.available"]) == {frozenset(): 0}
    ((about, at),) = points(figures["agent.last_success"]).items()
    assert about == fact(plugin_id=PLUGIN_ID)
    with contextlib.closing(Context(Options(home=told.home))) as context:
        decision = context.ledger.decision(PLUGIN_ID)
    assert decision is not None
    assert at == decision.at
    assert "agent.signature.failures" not in figures


def test_a_version_that_is_held_back_is_available(
    told: Machine, publisher: Publisher, receiver: Receiver
) -> None:
    """A hold: pending, for that reason; nothing was fetched."""
    publisher.release("0.2.0")
    told.run("hold", PLUGIN_ID)
    told.run("update")
    figures = receiver.metrics()
    said = fact(agent_outcome="pending", agent_reason="held")
    assert points(figures["agent.updates"]) == {said: 1}
    assert points(figures["agent.update.available"]) == {frozenset(): 1}
    assert "agent.pull.bytes" not in figures


def test_a_dry_run_is_not_counted(told: Machine, publisher: Publisher, receiver: Receiver) -> None:
    """It did nothing."""
    publisher.release("0.2.0")
    told.run("check")
    assert "agent.updates" not in receiver.metrics()


def test_a_run_that_could_not_be_done_is_no_success(told: Machine, receiver: Receiver) -> None:
    """The registry is gone: failed, network, and no time of success."""
    told.run("update", "--registry", "127.0.0.1:1/gone", expect=5)
    figures = receiver.metrics()
    said = fact(agent_outcome="failed", agent_reason="network")
    assert points(figures["agent.updates"]) == {said: 1}
    assert not {"agent.last_success", "agent.update.available"} & set(figures)


@pytest.mark.parametrize("genuine", [True, False], ids=["passed over", "alone"])
def test_a_forged_release_is_a_signature_failure(
    told: Machine, publisher: Publisher, receiver: Receiver, tmp_path: Path, *, genuine: bool
) -> None:
    """Once, whether a good one was taken in its stead or not; not again while it is remembered."""
    stranger = Publisher(told, tmp_path / "stranger", "stranger")
    stranger.release("99.0.0", "--force", sample="0.2.0")
    if genuine:
        publisher.release("0.2.0")
    told.run("update", expect=0 if genuine else 7)
    assert points(receiver.metrics()["agent.signature.failures"]) == {fact(plugin_id=PLUGIN_ID): 1}
    assert points(receiver.metrics()["agent.update.available"]) == {frozenset(): 1}
    told.run("update", expect=None)
    assert "agent.signature.failures" not in receiver.metrics()


# -- figures of calls


@pytest.fixture
def busy(machine: Machine, publisher: Publisher) -> Machine:
    """A host with a plugin that ends its calls in every way."""
    publisher.release("0.1.0", code=BUSY)
    machine.run("pull", PLUGIN_ID)
    return machine


def end_in_every_way(host: PluginHost) -> None:
    """Call it."""
    host.load_installed(PLUGIN_ID)
    for _ in range(3):
        assert host.call_plugin("fine") == 7
    for function, error in (
        ("trap", GuestTrap),
        ("spin", FuelExhausted),
        ("reach", CapabilityDenied),
        ("absent", MissingExport),
    ):
        with pytest.raises(error):
            host.call_plugin(function)
    with pytest.raises(ArgumentError):
        host.call_plugin("fine", ["too much"])


ENDED = {("fine", "ok"): 3, ("trap", "trap"): 1, ("spin", "fuel"): 1, ("reach", "denied"): 1}


def test_calls_reach_a_collector(busy: Machine, receiver: Receiver) -> None:
    """How each ended and how long it took; what could not begin is none."""
    busy.configure(f'[telemetry]\nendpoint = "{receiver.endpoint}"\n')
    with PluginHost(home=busy.home) as host:
        end_in_every_way(host)
    figures = receiver.metrics()
    assert points(figures["plugin.calls"]) == {
        fact(plugin_id=PLUGIN_ID, plugin_function=function, plugin_outcome=word): count
        for (function, word), count in ENDED.items()
    }
    durations = points(figures["plugin.call.duration"])
    assert durations[fact(plugin_id=PLUGIN_ID, plugin_function="fine")] == 3
    assert figures["plugin.call.duration"].unit == "s"
    denied = fact(plugin_id=PLUGIN_ID, plugin_capability="network")
    assert points(figures["plugin.capability.denied"]) == {denied: 1}


def test_prometheus_reads_the_same(busy: Machine) -> None:
    """Without a collector; the host leaves telemetry open that it was given."""
    telemetry = Telemetry("", scraped=True)
    with PluginHost(home=busy.home, telemetry=telemetry) as host:
        end_in_every_way(host)
    text = telemetry.metrics.prometheus().decode()
    families = {one.name: one for one in text_string_to_metric_families(text)}
    calls = {
        (sample.labels["plugin_function"], sample.labels["plugin_outcome"]): sample.value
        for sample in families["plugin_calls"].samples
        if sample.name == "plugin_calls_total"
    }
    assert calls == ENDED
    counts = {
        sample.labels["plugin_function"]: sample.value
        for sample in families["plugin_call_duration_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert counts == {"fine": 3, "trap": 1, "spin": 1, "reach": 1}
    (service,) = families["target_info"].samples
    assert service.labels["service_name"] == "stack-composer-agent"
    telemetry.close()
    assert telemetry.metrics.prometheus() == b""


def test_a_plain_host_imports_nothing_of_it(installed: Machine) -> None:
    """No endpoint: neither OpenTelemetry nor Prometheus is loaded by a call."""
    done = subprocess.run(
        [sys.executable, "-c", OFF, str(installed.home)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"
