"""A real agency without a schedule: a host over a home, a feed over its ledger, a server."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent import PluginHost, __version__
from agent.context import Context, Options
from agent.control.address import socket_path
from agent.control.bounds import Bounds
from agent.control.logbook import LogBook
from agent.control.server import ControlServer, Settings
from agent.model import Event, Outcome
from agent.service.status import PluginStatus, ServiceStatus
from agent.telemetry import Telemetry
from agent.verbs.inventory import serving
from agent.verbs.updating import take_and_update
from sandbox.admission import Isolation

WAIT_S = 30


@dataclass(frozen=True)
class Happened:
    """A row of the ledger's history."""

    number: int
    event: Event


class LedgerFeed:
    """The history, read; ``poll`` looks whether it grew."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._more = threading.Condition()
        self._last = 0
        self.poll()

    def poll(self) -> None:
        """Look, and wake who waits."""
        with self._more:
            rows = self._context.ledger._run("SELECT coalesce(max(number), 0) FROM history")
            self._last = int(rows[0][0])
            self._more.notify_all()

    def last(self) -> int:
        """The newest number at the last look."""
        return self._last

    def after(self, number: int, limit: int) -> tuple[Happened, ...]:
        """What came after a number."""
        rows = self._context.ledger._run(
            "SELECT number, at, plugin_id, kind, version, release, detail FROM history "
            "WHERE number > ? ORDER BY number LIMIT ?",
            (number, limit),
        )
        return tuple(Happened(row[0], Event(*row[1:])) for row in rows)

    def wait(self, number: int, timeout_s: float) -> bool:
        """Block until there is more."""
        with self._more:
            return self._more.wait_for(lambda: self._last > number, timeout_s)


class Counted:
    """Something to show as metrics."""

    def prometheus(self) -> bytes:
        """One line."""
        return b"agent_updates_total 0\n"


@dataclass
class RealAgency:
    """What the service is to its API, with nothing in the background.

    Attributes:
        is_ready: What ``/readyz`` says.
        leases: How often the host was asked for.
    """

    home: Path
    isolation: Isolation = "inline"
    is_ready: bool = True
    leases: int = 0
    logs: LogBook = field(default_factory=LogBook)
    metrics: Counted = field(default_factory=Counted)
    started_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._context = Context(Options(home=self.home), environ={}, acting="service")
        self._host = PluginHost(
            context=self._context,
            on_log=self.logs.take,
            stands_in=True,
            isolation=self.isolation,
        )
        self.feed = LedgerFeed(self._context)

    def close(self) -> None:
        """Close the host and its installation."""
        self._host.close()
        self._context.close()

    @contextlib.contextmanager
    def serving(self) -> Iterator[PluginHost]:
        """The one host."""
        self.leases += 1
        yield self._host

    def context(self) -> Context:
        """The one installation."""
        return self._context

    def status(self) -> ServiceStatus:
        """What the tree says."""
        plugins = tuple(
            PluginStatus(
                one.plugin_id,
                one.version,
                "active",
                self.started_at + 3_600,
                is_running=False,
                last=self._context.ledger.decision(one.plugin_id),
                problem=None,
            )
            for one in serving(self._context, warn=lambda _: None)
        )
        return ServiceStatus(
            os.getpid(), __version__, self.started_at, self.is_ready, None, plugins
        )

    def update(self, plugin_ids: Sequence[str], *, dry_run: bool) -> tuple[Outcome, ...]:
        """Update as the command line does."""
        outcomes = take_and_update(self._context, Telemetry(""), plugin_ids, dry_run=dry_run)
        self.feed.poll()
        return outcomes


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=WAIT_S)
        self._path = path

    def connect(self) -> None:
        """To the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(os.fspath(self._path))


@dataclass
class Control:
    """A running server, and a plain HTTP client for it."""

    agency: RealAgency
    server: ControlServer
    path: Path

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        connection = _Connection(self.path)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            typed = {} if body is None else {"Content-Type": "application/json"}
            # A body that is too long is not read to its end.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, data, {**typed, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def get(self, target: str) -> dict[str, Any]:
        """A document that is there."""
        found = self.ask("GET", target)
        assert found.status == 200, found
        return found.document

    def connect(self) -> socket.socket:
        """A connection on which nothing was said."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WAIT_S)
        connection.connect(os.fspath(self.path))
        return connection

    @contextlib.contextmanager
    def stream(self, target: str, **headers: str) -> Iterator[Callable[[], str | None]]:
        """A stream; each call gives the next line that says something, None = it is over."""
        connection = _Connection(self.path)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", target, headers=named)
        response = connection.getresponse()
        assert response.status == 200, response.read()

        def following() -> str | None:
            while line := response.readline():
                text = line.decode().rstrip("\n")
                if text and not text.startswith(":"):
                    return text
            return None

        try:
            yield following
        finally:
            response.close()
            connection.close()


@contextlib.contextmanager
def controlled(
    home: Path, bounds: Bounds | None = None, *, isolation: Isolation = "inline"
) -> Iterator[Control]:
    """Run a server over a home."""
    agency = RealAgency(home, isolation=isolation)
    context = agency.context()
    path = socket_path(context.places.socket)
    settings = Settings.of(context.config.control, path, bounds)
    if bounds is not None:
        settings = replace(settings, bounds=bounds)
    server = ControlServer(agency, settings, context.files)
    try:
        yield Control(agency, server, path)
    finally:
        server.close()
        agency.close()


_SOMEBODY = """
import os, socket, sys
path, uid, groups, request = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.setgroups([int(group) for group in groups.split()])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(30)
    try:
        connection.connect(path)
    except PermissionError:
        sys.exit("may not connect")
    connection.sendall(request.encode())
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
"""


def said_to(
    path: Path, uid: int, method: str, target: str, body: str = "", *, groups: Sequence[int] = ()
) -> str:
    """All that another user gets for a request; empty where the connect was refused.

    Args:
        path: The socket; the user must be able to reach it.
        uid: Also the main group's number.
        method: Of the request.
        target: Of the request.
        body: JSON.
        groups: The user's further groups.
    """
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    listed = " ".join(map(str, groups))
    command = [sys.executable, "-c", _SOMEBODY, str(path), str(uid), listed, f"{head}\r\n{body}"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)
    if done.returncode:
        assert done.stderr == b"may not connect\n", done.stderr
    return done.stdout.decode()
