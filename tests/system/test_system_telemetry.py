"""What a host sends to a collector: loads, calls, panics and what plugins log (contract §9)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest

from agent import PluginHost
from sandbox import CapabilityDenied, FuelExhausted, GuestTrap
from sandbox.admission import Isolation
from support.otlp import Receiver, attributes, receiving
from support.system import PLUGIN_ID, Machine, Publisher

TALKS = """(module
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (import "stack_composer_v1" "host_fetch" (func $fetch (param i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "careful\\1b[2J")
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64) (i64.const 0))
  (func (export "talk") (result i32)
    (call $log (i32.const 3) (i32.const 0) (i32.const 11)) (i32.const 7))
  (func (export "trap") (unreachable))
  (func (export "spin") (loop $l (br $l)))
  (func (export "reach")
    (drop (call $fetch (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 0)))))"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A collector."""
    with receiving() as running:
        yield running


@pytest.fixture
def talking(machine: Machine, publisher: Publisher, receiver: Receiver) -> Machine:
    """A host with a plugin that logs, traps, spins and reaches out, and a collector set."""
    publisher.release("0.1.0", code=TALKS)
    machine.run("pull", PLUGIN_ID)
    machine.configure(f'[telemetry]\nendpoint = "{receiver.endpoint}"\n')
    return machine


@pytest.mark.parametrize("where", get_args(Isolation))
@pytest.mark.parametrize("on_main", [True, False], ids=["main thread", "another thread"])
def test_a_load_a_call_and_its_log_arrive(
    talking: Machine, receiver: Receiver, where: Isolation, *, on_main: bool
) -> None:
    """With what was used; the record belongs to the call, from whichever thread or process."""
    with PluginHost(home=talking.home, isolation=where) as host:
        host.load_installed(PLUGIN_ID)
        if on_main:
            assert host.call_plugin("talk", []) == 7
        else:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(host.call_plugin, "talk", []).result() == 7
        kept = host.logs(PLUGIN_ID)
    load, call = receiver.spans()["plugin.load"], receiver.spans()["plugin.call"]
    assert attributes(load)["plugin.version"] == "0.1.0"
    facts = attributes(call)
    assert facts["plugin.id"] == PLUGIN_ID
    assert facts["plugin.function"] == "talk"
    assert facts["plugin.fuel.limit"] == 10_000_000
    assert isinstance(facts["plugin.fuel.used"], int)
    assert 0 < facts["plugin.fuel.used"] < 10_000
    assert facts["plugin.memory.peak_bytes"] == 65_536
    assert facts["plugin.release"] == attributes(load)["plugin.release"]
    (record,) = receiver.records()
    assert record.body.string_value == "careful\\x1b[2J"
    assert (record.trace_id, record.span_id) == (call.trace_id, call.span_id)
    assert [one.message for one in kept] == ["careful\\x1b[2J"]


def test_a_trap_is_a_panic_within_its_call(talking: Machine, receiver: Receiver) -> None:
    """A limit and a denial are none."""
    with PluginHost(home=talking.home) as host:
        host.load_installed(PLUGIN_ID)
        with pytest.raises(FuelExhausted):
            host.call_plugin("spin", [])
        with pytest.raises(CapabilityDenied):
            host.call_plugin("reach", [])
        host._telemetry.close()
        assert set(receiver.spans()) == {"plugin.load", "plugin.call"}
        assert attributes(receiver.spans()["plugin.call"])["plugin.capability"] == "network"
    receiver.posted.clear()
    with PluginHost(home=talking.home) as host:
        host.load_installed(PLUGIN_ID)
        with pytest.raises(GuestTrap):
            host.call_plugin("trap", [])
    call, panic = receiver.spans()["plugin.call"], receiver.spans()["plugin.panic"]
    assert (panic.trace_id, panic.parent_span_id) == (call.trace_id, call.span_id)
    assert attributes(panic)["plugin.trap.code"] == "UNREACHABLE"
