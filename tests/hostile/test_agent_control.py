"""The control API against users without rights, and against peers that take what they get."""

import contextlib
import functools
import json
import queue
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control.bounds import Bounds
from agent.errors import ConfigError
from support.control import WAIT_S, Answer, Control, controlled, said_to
from support.system import PLUGIN_ID, Publisher, Ran, taken
from support.users import as_root

CALLS = f"/v1/plugins/{PLUGIN_ID}/calls"
STRANGER, MEMBER, GROUP = 54_321, 54_322, 54_399
NETWORK = {'["log"]': '["log", "network"]'}
CALL = json.dumps({"function": "run", "args": ["Jane"]})
TARGETS = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/status"),
    ("GET", "/v1/plugins"),
    ("GET", "/v1/events?follow"),
    ("GET", "/nothing"),
    ("HEAD", "/v1/status"),
    ("POST", CALLS),
    ("POST", "/v1/updates"),
    ("DELETE", "/v1/plugins"),
]
TINY = Bounds(
    head_s=0.5, body_s=0.5, idle_s=0.5, beat_s=0.2, queue_s=5, drain_s=5, connections=8, streams=2
)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user may go through."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def own(tmp_path: Path) -> Publisher:
    """A publisher, and a host with 0.1.0."""
    return taken(tmp_path, "0.1.0")


def head_of(answer: str) -> str:
    """The first line."""
    return answer.partition("\r\n")[0]


def alive(control: Control) -> None:
    """The owner is answered, and calls go through."""
    answer = control.ask("POST", CALLS, {"function": "run", "args": ["Jane"]})
    assert answer.document["result"] == "Hello, Jane"


# -- rights


@as_root
def test_a_stranger_gets_403_and_nothing_else(reachable: Path) -> None:
    """Whatever is asked for, and though somebody opened the socket to all."""
    own = taken(reachable, "0.1.0")
    with controlled(own.machine.home) as control:
        assert said_to(control.path, STRANGER, "GET", "/healthz") == ""
        control.path.parent.chmod(0o755)
        control.path.chmod(0o666)
        for method, target in TARGETS:
            answer = said_to(control.path, STRANGER, method, target, CALL)
            assert head_of(answer) == "HTTP/1.1 403 Forbidden", (method, target)
            body = answer.partition("\r\n\r\n")[2]
            assert body == "" if method == "HEAD" else json.loads(body)["error"]["code"]
            assert "version" not in answer.replace("schemaVersion", "")
        assert control.agency.logs.last() == 0  # nothing was called
        alive(control)


@as_root
@pytest.mark.parametrize("group_access", ["read", "full"])
def test_a_group_reads_or_does_all(reachable: Path, group_access: str) -> None:
    """A member by a further group as by the main one; who is in another group is a stranger."""
    own = taken(reachable, "0.1.0")
    own.machine.configure(
        f'[control]\ngroup = "{GROUP}"\ngroup_access = "{group_access}"', probation="0s"
    )
    with controlled(own.machine.home) as control:
        assert control.path.stat().st_mode & 0o777 == 0o660
        assert control.path.stat().st_gid == GROUP
        assert said_to(control.path, STRANGER, "GET", "/healthz", groups=[GROUP + 1]) == ""
        for uid, groups in ((MEMBER, [GROUP]), (GROUP, [])):
            answer = said_to(control.path, uid, "GET", "/v1/status", groups=groups)
            assert head_of(answer) == "HTTP/1.1 200 OK"
            answer = said_to(control.path, uid, "POST", CALLS, CALL, groups=groups)
            if group_access == "full":
                assert '"result": "Hello, Jane"' in answer
            else:
                assert head_of(answer) == "HTTP/1.1 403 Forbidden"
                assert control.agency.logs.last() == 0


_AS_SOMEBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
# what lies in root's folders is loaded before
import agent.cli.change, agent.cli.main, agent.cli.status, agent.cli.stops
import agent.context, agent.control.client, agent.telemetry, http.client, json, trust
uid = int(sys.argv[2])
os.setgroups([int(group) for group in sys.argv[3].split()])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
sys.exit(agent.cli.main.main(sys.argv[4:]))
"""


def run_as(uid: int, home: Path, *arguments: str, groups: Sequence[int] = ()) -> Ran:
    """Run a verb as another user, with further groups."""
    listed = " ".join(map(str, groups))
    source = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _AS_SOMEBODY, source, str(uid), listed, *arguments]
    done = subprocess.run(
        [*command, "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@as_root
def test_the_command_line_says_that_one_has_no_rights(reachable: Path) -> None:
    """Exit 8, and who has; with the socket open to all as well."""
    own = taken(reachable, "0.1.0")
    with controlled(own.machine.home) as control:
        for said in ("you may not connect", "you have no rights here"):
            for verb in ("status", "update"):
                ran = run_as(STRANGER, own.machine.home, verb)
                assert (ran.code, ran.out) == (8, ""), ran
                assert said in ran.err
            control.path.parent.chmod(0o755)
            control.path.chmod(0o666)


@as_root
def test_a_member_who_may_not_write_has_the_service_update(reachable: Path) -> None:
    """The same rows, messages and exit codes as for who may; other verbs say what to do."""
    own = taken(reachable, "0.1.0")
    own.machine.configure(f'[control]\ngroup = "{GROUP}"\ngroup_access = "full"', probation="0s")
    home = own.machine.home

    def as_member(*arguments: str) -> Ran:
        return run_as(MEMBER, home, *arguments, groups=[GROUP])

    with controlled(home):
        for more in ({}, NETWORK):
            own.release("0.3.0" if more else "0.2.0", edit=more)
            for arguments in (
                ("update", "--dry-run"),
                ("update", "--dry-run", "--format", "json"),
                ("update", "--dry-run", PLUGIN_ID, "--format", "json"),
                ("update", "--dry-run", PLUGIN_ID, "org.example.other"),
                ("update", "--dry-run", PLUGIN_ID, "org.example.other", "--format", "json"),
            ):
                ran = as_member(*arguments)
                assert ran == own.machine.run(*arguments, expect=ran.code)
            if not more:
                assert as_member("update", "--format", "json").row["outcome"] == "committed"
                assert own.machine.version() == "0.2.0"
        assert as_member("update", PLUGIN_ID).code == 8
        for arguments in (("rollback", PLUGIN_ID), ("disable", PLUGIN_ID), ("update", "--offline")):
            ran = as_member(*arguments)
            assert (ran.code, ran.out) == (1, "")
            assert f"cannot use {home}/state: it is another user's, and closed to others" in ran.err
            assert "try: sudo -u NAME agent" in ran.err
        assert own.machine.version() == "0.2.0"
        put = own.plugin("0.1.0", plugin_id="org.example.new", stem="new", edit=NETWORK)
        own.machine.run("sign", put, "--key", own.key)
        shutil.copytree(put, own.machine.plugins, dirs_exist_ok=True)
        taken_in = as_member("update")
        assert "org.example.new  nothing → 0.1.0  committed" in taken_in.out
        assert "try: agent grant org.example.new network" in taken_in.err
    assert as_member("update").code == 1  # nothing listens


@as_root
def test_a_member_who_may_only_read_updates_nothing(reachable: Path) -> None:
    """Exit 8, and the key that says so; a dry run would ask registries, too."""
    own = taken(reachable, "0.1.0")
    own.machine.configure(f'[control]\ngroup = "{GROUP}"', probation="0s")
    own.release("0.2.0")
    with controlled(own.machine.home):
        for arguments in (("update",), ("update", "--dry-run")):
            ran = run_as(MEMBER, own.machine.home, *arguments, groups=[GROUP])
            assert (ran.code, ran.out) == (8, "")
            assert "control.group_access" in ran.err
    assert own.machine.version() == "0.1.0"


def test_a_group_that_there_is_not_is_a_mistake_in_the_config(own: Publisher) -> None:
    """Named with the key; nobody is let in instead."""
    own.machine.configure('[control]\ngroup = "no-such-group"')
    with (
        pytest.raises(ConfigError, match=r"control\.group: there is no group 'no-such-group'"),
        controlled(own.machine.home),
    ):
        pass


def test_a_folder_that_others_write_to_holds_no_socket(own: Publisher) -> None:
    """They could put their own socket there."""
    run = own.machine.home / "run"
    run.mkdir()
    run.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"), controlled(own.machine.home):
        pass
    assert not list(run.iterdir())


def test_what_is_no_socket_is_not_replaced(own: Publisher) -> None:
    """It is somebody's file."""
    run = own.machine.home / "run"
    run.mkdir(mode=0o700)
    (run / "agent.sock").write_text("mine")
    with pytest.raises(ConfigError, match="something else"), controlled(own.machine.home):
        pass
    assert (run / "agent.sock").read_text() == "mine"


# -- requests


def exchanged(control: Control, data: bytes) -> bytes:
    """All that comes back for some bytes, until the service hangs up."""
    with control.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        return drained(connection)


def drained(connection: socket.socket) -> bytes:
    """What comes until the other end hangs up."""
    found, end = b"", time.monotonic() + WAIT_S
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65_536):
            found += data
            assert time.monotonic() < end
    return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),
        (b"GET /v1/sta", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: y", b"408"),
        (b"POST " + CALLS.encode() + b" HTTP/1.1\r\nHost: x\r\n"
         b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 1_000_000, b"431"),
        (b"GET /" + b"x" * 1_000_000, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
    ids=["silence", "line", "head", "body", "headers", "target", "tls", "length"],
)  # fmt: skip
def test_who_does_not_finish_is_hung_up_on(own: Publisher, sent: bytes, status: bytes) -> None:
    """Slow, endless or broken: an answer in a line, within the bound, and others are answered."""
    with controlled(own.machine.home, TINY) as control:
        answer = exchanged(control, sent)
        assert answer.split(b" ", 2)[1] == status
        alive(control)


def test_one_byte_at_a_time_does_not_buy_time(own: Publisher) -> None:
    """The head has one deadline, however it trickles."""
    with controlled(own.machine.home, TINY) as control, control.connect() as connection:
        over = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
                while not over.wait(0.05):
                    connection.sendall(b"y")

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = drained(connection)
        over.set()
        thread.join()
        assert answer.startswith(b"HTTP/1.1 408")
        alive(control)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (1 << 20 | 1), 413),
        (b"[" * 100_000, 400),
        (b'{"args": [' + b"9" * 10_000 + b"]}", 400),
        (b'{"args": ["\xff"]}', 400),
        (b'{"args": [NaN]}', 400),
        (b'{"args": [true]}', 400),
        (b'{"args": [null]}', 400),
        (b'{"args": [{"base64": "?"}]}', 400),
        (b'{"args": [{"base64": "", "x": 1}]}', 400),
        (b'{"args": "Jane"}', 400),
        (b'{"arguments": ["Jane"]}', 400),
        (b'{"function": 1}', 400),
        (b'{"args": ["\\udcff"]}', 400),
        (b"[]", 400),
        (b"", 415),
    ],
)
def test_a_body_that_is_no_call(own: Publisher, body: bytes, status: int) -> None:
    """Refused with a word on what was expected; nothing was called."""
    with controlled(own.machine.home) as control:
        answer = control.ask("POST", CALLS, body or None)
        assert (answer.status, answer.document["error"]["exit_code"]) == (status, 2)
        assert control.agency.logs.last() == 0
        alive(control)


@pytest.mark.parametrize(
    "plugin",
    [
        "..",
        "org.example.hello%00",
        "%2e%2e%2forg.example.hello",
        "org.example.hello%0a",
        "org.example.HELLO",
        "org%ff.example",
        "a." + "b" * 200,
        "org.example.hello%20",
        "~",
    ],
)
def test_what_is_no_id_reaches_neither_disk_nor_ledger(own: Publisher, plugin: str) -> None:
    """400, or 404 where the path is none."""
    with controlled(own.machine.home) as control:
        before = sorted(map(str, own.machine.home.rglob("*")))
        for method, tail in (("GET", ""), ("GET", "/logs"), ("POST", "/calls")):
            body: object = {"args": []} if method == "POST" else None
            answer = control.ask(method, f"/v1/plugins/{plugin}{tail}", body)
            assert answer.status in (400, 404), (method, tail)
            assert answer.document["error"]["code"] in ("usage", "not-found")
        assert sorted(map(str, own.machine.home.rglob("*"))) == before


# -- many, and those who do not read


def test_connections_are_bounded(own: Publisher) -> None:
    """Those beyond the bound are closed at once; there is room again when others go."""
    with controlled(own.machine.home, replace(TINY, head_s=30)) as control:
        with contextlib.ExitStack() as stack:
            many = [stack.enter_context(control.connect()) for _ in range(TINY.connections)]
            many[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert many[-1].recv(100).startswith(b"HTTP/1.1 200")
            with control.connect() as more:
                assert drained(more) == b""
        alive(control)


def test_who_does_not_read_an_answer_is_dropped(own: Publisher) -> None:
    """A document of a megabyte that nobody takes costs a connection for a moment."""
    with controlled(own.machine.home, TINY) as control, control.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(request)
        alive(control)
        connections = control.server._server.server_state.connections
        wait_until(lambda: not connections)


def test_a_stream_that_is_not_read_is_dropped(own: Publisher) -> None:
    """And its place is free: only so many may be open."""
    with controlled(own.machine.home, TINY) as control, contextlib.ExitStack() as stack:
        hung_up = select.poll()
        for _ in range(TINY.streams):
            deaf = stack.enter_context(control.connect())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.sendall(b"GET /v1/events?follow&after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            hung_up.register(deaf, 0)
        event = control.agency.feed.after(0, 1)[0].event
        for _ in range(400):
            control.agency.context().ledger.record(replace(event, detail="x" * 20_000))
        control.agency.feed.poll()
        # Nobody reads a byte meanwhile: a reader who reads on is kept.
        wait_until(lambda: len(hung_up.poll(0)) == TINY.streams)
        with control.stream("/v1/events?follow"):  # there is room again
            pass


def test_only_so_many_streams(own: Publisher) -> None:
    """One more is busy (11, 503)."""
    with controlled(own.machine.home, TINY) as control, contextlib.ExitStack() as stack:
        for _ in range(TINY.streams):
            stack.enter_context(control.stream("/v1/events?follow"))
        answer = control.ask("GET", "/v1/events?follow")
        assert (answer.status, answer.document["error"]["exit_code"]) == (503, 11)
        assert control.get("/v1/status")


def test_every_stream_is_told(own: Publisher) -> None:
    """As many as may be open: what happens wakes all of them at once, and none is lost."""
    with controlled(own.machine.home) as control, contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(control.stream("/v1/events?follow"))
            for _ in range(Bounds().streams)
        ]
        for verb in ("disable", "enable", "disable"):
            own.machine.run(verb, PLUGIN_ID)
            control.agency.feed.poll()  # as the service does
            for following in readers:
                assert f'"{verb}d"' in f"{following()}{following()}"


_FOLLOWS = """
import os, socket, sys
path, uid, groups, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
os.setgroups([int(group) for group in groups.split()])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
many = [socket.socket(socket.AF_UNIX) for _ in range(count)]
for one in many:
    one.settimeout(30)
    one.connect(path)
    one.sendall(b"GET /v1/events?follow HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(one.recv(100).split()[1].decode(), flush=True)
sys.stdin.read()
"""


@as_root
def test_a_group_can_not_take_all_streams(reachable: Path) -> None:
    """Half of them are the owner's."""
    own = taken(reachable, "0.1.0")
    own.machine.configure(f'[control]\ngroup = "{GROUP}"', probation="0s")
    with controlled(own.machine.home, TINY) as control:
        command = [sys.executable, "-c", _FOLLOWS, str(control.path), str(MEMBER), str(GROUP), "2"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as member:
            assert member.stdout is not None
            told = [member.stdout.readline().strip() for _ in range(2)]
            with control.stream("/v1/events?follow"):
                pass
            member.communicate(timeout=WAIT_S)
        assert told == ["200", "503"]


SPINS = """(module (memory (export "memory") 1)
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64) (loop $l (br $l)) (i64.const 0)))"""
SPINS_ID = "org.example.spins"


@pytest.fixture
def spinning(own: Publisher) -> Publisher:
    """A host with a plugin that runs until its deadline, a second later."""
    own.release("0.1.0", plugin_id=SPINS_ID, stem="spins", code=SPINS)
    own.machine.run("pull", SPINS_ID)
    limits = f"[limits]\nfuel_units = {2**62}\nwall_timeout_ms = 1000\n[control]\nmax_calls = 1\n"
    own.machine.configure(limits, probation="0s")
    return own


def spin(control: Control, answers: "queue.SimpleQueue[Answer]") -> threading.Thread:
    """Call it on a thread; back when the call has a lease."""
    before = control.agency.leases

    def call() -> None:
        answers.put(control.ask("POST", f"/v1/plugins/{SPINS_ID}/calls", {"args": ["x"]}))

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: control.agency.leases > before)
    return thread


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look until it is so."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_call_in_flight_is_answered_when_the_service_stops(spinning: Publisher) -> None:
    """It ends as it would have; nothing new is taken meanwhile, and the socket is gone."""
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    with controlled(spinning.machine.home) as control:
        thread = spin(control, answers)
        control.server.close()
        assert not control.path.exists()
    thread.join()
    answer = answers.get(timeout=WAIT_S)
    assert (answer.status, answer.document["error"]["exit_code"]) == (504, 124)
    assert answer.document["took_ms"] >= 1_000


def test_a_call_that_outlives_the_service_is_told_so(
    spinning: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked is answered when the wait is over, and the log holds no fault."""
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    with controlled(spinning.machine.home, replace(TINY, drain_s=0.1)) as control:
        thread = spin(control, answers)
        control.server.close()
    thread.join()
    answer = answers.get(timeout=WAIT_S)
    assert (answer.status, answer.document["error"]["exit_code"]) == (503, 11)
    assert "the service ends" in answer.document["error"]["message"]
    assert "Traceback" not in caplog.text


def test_who_goes_in_mid_call_leaves_nothing(spinning: Publisher) -> None:
    """The call ends by itself, its place is free, and the next caller is answered."""
    with controlled(spinning.machine.home) as control:
        sent = b'{"args": ["x"]}'
        head = f"POST /v1/plugins/{SPINS_ID}/calls HTTP/1.1\r\nHost: x\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        with control.connect() as connection:
            connection.sendall(head.encode() + sent)
            wait_until(lambda: control.agency.leases == 1)
        alive(control)
        wait_until(lambda: not control.server._server.server_state.tasks)


def test_calls_beyond_what_may_wait_are_busy(spinning: Publisher) -> None:
    """One runs and three wait, with ``max_calls = 1``; the fifth is told (11), looking goes on."""
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    with controlled(spinning.machine.home) as control:
        threads = [spin(control, answers)]
        for _ in range(4):
            target = f"/v1/plugins/{SPINS_ID}/calls"
            ask = functools.partial(control.ask, "POST", target, {"args": ["x"]})
            threads.append(threading.Thread(target=lambda ask=ask: answers.put(ask())))
            threads[-1].start()
        first = answers.get(timeout=WAIT_S)
        assert (first.status, first.document["error"]["exit_code"]) == (503, 11)
        assert control.get("/v1/status")["ready"] is True
        for thread in threads:
            thread.join()
        assert [answers.get(timeout=WAIT_S).status for _ in range(4)] == [504] * 4
