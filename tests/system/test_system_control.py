"""The control API: a real server on a real socket, over a real installation."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.control.document import document
from agent.errors import BusyError
from sandbox.admission import Isolation
from support.control import Control, controlled
from support.system import PLUGIN_ID, Machine, Publisher, taken

CALLS = f"/v1/plugins/{PLUGIN_ID}/calls"

BYTES = """(module (memory (export "memory") 1)
  (data (i32.const 0) "\\ff\\00\\80")
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "health") (result i32) (i32.const 0))
  (func (export "give") (result i64) (i64.const 3))
  (func (export "same") (export "run") (param $p i32) (param $n i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $p)) (i64.const 32))
            (i64.extend_i32_u (local.get $n))))
  (func (export "none") (result f64) (f64.const nan))
  (func (export "big") (result i64) (i64.const 9223372036854775807))
  (func (export "trap") unreachable))"""
EXPORTS = """
[exports.give]
params = []
result = "bytes"
[exports.same]
params = ["bytes"]
result = "bytes"
[exports.none]
params = []
result = "f64"
[exports.big]
params = []
result = "i64"
[exports.trap]
params = []
result = "none"
"""


@pytest.fixture
def own(tmp_path: Path) -> Publisher:
    """A publisher, and a host with 0.1.0 from its own embedded registry."""
    return taken(tmp_path, "0.1.0")


@pytest.fixture
def control(own: Publisher) -> Iterator[Control]:
    """A service over that host."""
    with controlled(own.machine.home) as running:
        yield running


def test_every_look_up_is_as_the_command_line_has_it(own: Publisher, control: Control) -> None:
    """Plugins, one plugin, events: the rows of list, info, history; and the document lists all."""
    listed = own.machine.json("list").document["plugins"]
    assert control.get("/v1/plugins")["plugins"] == listed
    (info,) = control.get(f"/v1/plugins/{PLUGIN_ID}")["plugins"]
    assert info == own.machine.json("info", PLUGIN_ID).row
    history = own.machine.json("history", PLUGIN_ID).document["events"]
    events = control.get("/v1/events")["events"]
    assert [one["event"] for one in events] == [one["event"] for one in history]
    assert control.get("/v1/status")["plugins"][0]["id"] == PLUGIN_ID
    assert control.get("/healthz") == {"schemaVersion": 1, "status": "ok"}
    assert control.get("/readyz")["ready"] is True
    control.agency.is_ready = False
    assert control.ask("GET", "/readyz").status == 503
    assert control.ask("GET", "/metrics").body == b"agent_updates_total 0\n"
    assert json.loads(control.ask("GET", "/openapi.json").body) == document()


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_a_call_gives_its_result_its_cost_and_its_log(own: Publisher, isolation: Isolation) -> None:
    """What the call logged is with it, and what others logged is not."""
    with controlled(own.machine.home, isolation=isolation) as control:
        answers = [
            control.ask("POST", CALLS, {"function": "run", "args": [name]}).document
            for name in ("Jane", "Joe")
        ]
    assert [one["result"] for one in answers] == ["Hello, Jane", "Hello, Joe"]
    for one in answers:
        assert one["fuel_used"] > 0
        assert one["memory_peak_bytes"] > 0
        assert one["took_ms"] > 0
        assert [record["message"] for record in one["logs"]] == ["greeted"]


def test_values_that_json_has_no_word_for(own: Publisher) -> None:
    """Bytes go as base64 both ways, a number that is none as its name, an i64 whole."""
    own.release("0.1.0", plugin_id="org.example.bytes", stem="bytes", code=BYTES, extra=EXPORTS)
    own.machine.run("pull", "org.example.bytes")
    with controlled(own.machine.home) as control:

        def call(function: str, *args: object) -> object:
            target = "/v1/plugins/org.example.bytes/calls"
            answer = control.ask("POST", target, {"function": function, "args": list(args)})
            return answer.document["result"]

        assert call("give") == {"base64": "/wCA"}
        assert call("same", {"base64": "/wCA"}) == {"base64": "/wCA"}
        assert call("same", "text") == {"base64": "dGV4dA=="}
        assert call("none") == {"float": "nan"}
        assert call("big") == 2**63 - 1
        # The same from the command line, with the service and without.
        through = [own.machine.run("call", "org.example.bytes", name) for name in ("none", "big")]
    without = [own.machine.run("call", "org.example.bytes", name) for name in ("none", "big")]
    assert through == without


@pytest.mark.parametrize(
    ("function", "args", "status", "code", "exit_code"),
    [
        ("walk", [], 404, "not-found", 3),
        ("run", [], 400, "usage", 2),
        ("run", ["a", "b"], 400, "usage", 2),
        (None, ["Jane"], 200, None, None),
    ],
)
def test_a_call_that_fails_tells_as_the_command_line_does(
    control: Control,
    function: str | None,
    args: list[str],
    status: int,
    code: str | None,
    exit_code: int | None,
) -> None:
    """The HTTP status goes by the exit code's family."""
    answer = control.ask("POST", CALLS, {"function": function, "args": args})
    assert answer.status == status, answer
    error = answer.document.get("error", {})
    assert (error.get("code"), error.get("exit_code")) == (code, exit_code)


def test_what_was_pulled_a_moment_ago_can_be_called(own: Publisher, control: Control) -> None:
    """The service need not have seen it yet; what is not installed is not found."""
    target = "/v1/plugins/org.example.other/calls"
    assert control.ask("POST", target, {"args": ["Jane"]}).status == 404
    own.release("0.1.0", plugin_id="org.example.other", stem="other")
    own.machine.run("pull", "org.example.other")
    assert control.ask("POST", target, {"args": ["Jane"]}).document["result"] == "Hello, Jane"


def test_an_update_through_the_service(own: Publisher, control: Control) -> None:
    """As ``agent update``: rows; a dry run changes nothing; calls go to the new release then."""
    own.release("0.2.0")
    (row,) = control.ask("POST", "/v1/updates", {"dry_run": True}).document["plugins"]
    assert (row["from"], row["to"], row["outcome"]) == ("0.1.0", "0.2.0", "planned")
    assert own.machine.version() == "0.1.0"
    (row,) = control.ask("POST", "/v1/updates", {"ids": [PLUGIN_ID]}).document["plugins"]
    assert (row["to"], row["outcome"]) == ("0.2.0", "committed")
    assert own.machine.version() == "0.2.0"


def test_events_are_followed_and_taken_up_again(own: Publisher, control: Control) -> None:
    """A stream gives what comes; another one goes on after the last number of the first."""
    own.release("0.2.0")
    last = control.get("/v1/events")["last"]
    with control.stream("/v1/events?follow") as following:
        control.ask("POST", "/v1/updates", {})
        first = following()
        event = json.loads(str(following()).removeprefix("data: "))
    assert first == f"id: {last + 1}"
    assert (event["number"], event["id"]) == (last + 1, PLUGIN_ID)
    with control.stream("/v1/events", Accept="text/event-stream", Last_Event_ID=str(last)) as again:
        assert again() == first
    page = control.get(f"/v1/events?after={last}&limit=1")
    assert [{"schemaVersion": 1, **one} for one in page["events"]] == [event]


def test_logs_are_a_page_and_a_stream(control: Control) -> None:
    """Numbered, oldest first; of the one plugin that is asked for."""
    target = f"/v1/plugins/{PLUGIN_ID}/logs"
    for name in ("Jane", "Joe"):
        control.ask("POST", CALLS, {"args": [name]})
    page = control.get(target)
    assert [one["message"] for one in page["logs"]] == ["greeted", "greeted"]
    assert control.get(f"{target}?limit=1")["logs"] == page["logs"][1:]
    assert control.get("/v1/plugins/org.example.other/logs")["logs"] == []
    with control.stream(f"{target}?follow&after=0") as following:
        assert [following() for _ in range(4)][::2] == ["id: 1", "id: 2"]
        threading.Timer(0, control.ask, ("POST", CALLS, {"args": ["Jim"]})).start()
        assert following() == "id: 3"


def test_the_socket_is_the_users_alone(control: Control) -> None:
    """Mode 0600 in a folder of mode 0700; it goes with the service."""
    assert control.path.stat().st_mode & 0o777 == 0o600
    assert control.path.parent.stat().st_mode & 0o777 == 0o700
    control.server.close()
    assert not os.path.lexists(control.path)


def test_a_dead_services_socket_is_replaced_and_a_live_ones_is_not(
    machine: Machine,
) -> None:
    """The one that answers goes on; a second says so (11)."""
    with controlled(machine.home) as first:
        with pytest.raises(BusyError, match="another service answers"), controlled(machine.home):
            pass
        assert first.ask("GET", "/healthz").status == 200
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(first.path))
    with controlled(machine.home) as second:
        assert second.ask("GET", "/healthz").status == 200
