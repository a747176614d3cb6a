"""The control API's parts: rights, values, the log book, where the socket lies, the client."""

import contextlib
import math
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control import client
from agent.control.address import socket_path
from agent.control.binding import bind
from agent.control.client import Client, reach
from agent.control.logbook import LogBook
from agent.control.peers import Access, Peer, Rights, peer_of
from agent.control.values import from_json, to_json
from agent.errors import AgentError, BusyError, ConfigError
from agent.files import Files
from sandbox import LogRecord

ID = "org.example.hello"


@pytest.mark.parametrize(
    ("uid", "groups", "access"),
    [
        (0, (), Access.FULL),
        (1000, (), Access.FULL),
        (1001, (50,), Access.READ),
        (1001, (7, 50), Access.READ),
        (1001, (7,), Access.NONE),
        (1001, (), Access.NONE),
        (1000, (7,), Access.FULL),
    ],
)
def test_rights_go_by_user_and_group(uid: int, groups: tuple[int, ...], access: Access) -> None:
    """The owner and root all; the group as configured; others nothing."""
    peer = Peer(1, uid, frozenset(groups))
    assert Rights(1000, 50, Access.READ).of(peer) is access
    is_owner = uid in (0, 1000)
    assert Rights(1000).of(peer) is (Access.FULL if is_owner else Access.NONE)


def test_the_kernel_says_who_connected() -> None:
    """Process, user and all groups, of a pair of sockets: ourselves."""
    one, other = socket.socketpair()
    with one, other:
        peer = peer_of(one)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


@given(st.text() | st.integers() | st.floats(allow_nan=False) | st.binary())
def test_values_come_back(value: str | float | bytes) -> None:
    """What JSON carries for an argument or a result is that very value."""
    import json

    back = from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        True,
        [],
        {},
        {"base64": 1},
        {"base64": "é"},
        {"base64": "a"},
        {"float": 1.0},
        {"float": "1"},
        {"base64": "", "float": "nan"},
    ],
)
def test_what_is_no_value_is_refused(data: object) -> None:
    """With what was got, and what is one."""
    with pytest.raises(ValueError, match=r"got .*, expected text, a number or"):
        from_json(data)
    assert isinstance(value := from_json({"float": "nan"}), float)
    assert math.isnan(value)


# -- the log book


def record(message: str, plugin_id: str = ID) -> LogRecord:
    """Something a plugin said."""
    return LogRecord(plugin_id, 2, message, "host_log")


def test_the_log_book_is_bounded_by_number_and_by_length() -> None:
    """The last thousand, and 256 Ki characters; one plugin's do not push out another's."""
    book = LogBook()
    book.take(record("other", "org.example.other"))
    for number in range(1_500):
        book.take(record(str(number)))
    kept = book.after(ID, 0)
    assert [one.record.message for one in kept] == [str(n) for n in range(500, 1_500)]
    assert kept[-1].number == book.last() == 1_501
    assert [one.number for one in book.after(ID, 1_499)] == [1_500, 1_501]
    for _ in range(40):
        book.take(record("x" * 8_192))
    assert sum(len(one.record.message) for one in book.after(ID, 0)) <= 262_144
    assert len(book.after("org.example.other", 0)) == 1


def test_a_call_collects_what_its_own_thread_says() -> None:
    """Another thread's records go to the book alone."""
    book = LogBook()
    with book.collecting() as mine:
        book.take(record("mine"))
        other = threading.Thread(target=book.take, args=(record("theirs"),))
        other.start()
        other.join()
    book.take(record("after"))
    assert [one.message for one in mine] == ["mine"]
    assert len(book.after(ID, 0)) == 3
    assert book.wait(2, 0) is True
    assert book.wait(3, 0) is False


# -- the place of the socket


def test_a_path_that_is_too_long_for_a_socket_gets_a_short_one() -> None:
    """The same one for service and command; others keep theirs."""
    assert socket_path(Path("/run/stack-composer/agent.sock")) == Path(
        "/run/stack-composer/agent.sock"
    )
    long = Path("/home", "é" * 60, "run", "agent.sock")
    short = socket_path(long)
    assert short == socket_path(long)
    assert short != socket_path(long.with_name("other.sock"))
    assert short.parts[:2] == ("/", "tmp")
    assert len(os.fsencode(short)) < 96


# -- the client, against what is no service


@contextlib.contextmanager
def answering(path: Path, *pieces: bytes, hangs: bool = False) -> Iterator[None]:
    """Something that listens, reads a request, and says this to it."""
    over = threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    listener.settimeout(20)

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)
                while hangs and not over.wait(0.05):
                    connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def asked(path: Path) -> dict[str, Any]:
    """Its status."""
    service = reach(path)
    assert isinstance(service, Client)
    with contextlib.closing(service):
        return service.get("/v1/status")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"hello\r\n",),
        (OK % 100, b"{"),
        (OK % 2, b"[]"),
        (OK % 3, b"\xff\xff\xff"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",),
        (OK % 100_000, b"[" * 100_000),
    ],
)
def test_an_answer_that_is_none_is_an_error(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    """It names the socket, and where to look."""
    path = tmp_path / "agent.sock"
    with answering(path, *pieces), pytest.raises(AgentError, match="cannot use the answer") as got:
        asked(path)
    assert str(path) in got.value.message
    assert got.value.hint


def test_an_answer_that_trickles_has_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many bytes come in time: busy (11)."""
    monkeypatch.setattr(client, "_ANSWER_S", 0.5)
    path = tmp_path / "agent.sock"
    with answering(path, OK % 10_000_000, hangs=True), pytest.raises(BusyError, match="silent"):
        asked(path)


def test_an_answer_without_end_is_not_read_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the bound is an error, before it is in memory."""
    monkeypatch.setattr(client, "_MAX_BYTES", 1_000)
    path = tmp_path / "agent.sock"
    said = OK % 10_000, b'"' + b"x" * 9_998 + b'"'
    with answering(path, *said), pytest.raises(AgentError, match="cannot use the answer"):
        asked(path)


def test_nothing_listens_where_there_is_nothing(tmp_path: Path) -> None:
    """No file, no folder, a dead socket: None, and no error."""
    path = tmp_path / "agent.sock"
    assert reach(path) is None
    assert reach(tmp_path / "none" / "agent.sock") is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert reach(path) is None


def test_a_short_path_is_used_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may make a folder in /tmp: one that others write to is not the service's."""
    configured = Path("/home", "x" * 100, "agent.sock")
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr("agent.control.address._SHORT", name)
        path = socket_path(configured)
        bound = bind(path, group=None, files=Files())
        bound.listener.close()
        assert path.exists()
        assert reach(configured) is None
        bound.remove()
        assert not list(Path(name).iterdir())
        path.parent.mkdir()
        path.parent.chmod(0o777)
        with answering(path), pytest.raises(ConfigError, match="others may write"):
            reach(configured)
