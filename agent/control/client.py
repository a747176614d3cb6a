"""The command line's side of the API: requests over the socket, every read bounded."""

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.control.address import require_safe_folder, socket_path
from agent.errors import AgentError, BusyError, NotFoundError, PolicyError
from agent.model import Kind, Outcome

_MAX_BYTES = 64 * 1024**2
_MAX_LINE_BYTES = 1 << 20
_CONNECT_S = 5.0
_ANSWER_S = 90.0
_WORK_S = 3_600.0
"""A call, or an update."""
_SILENCE_S = 60.0
"""A stream gives a sign of life every 15 s."""
_HINT = "agent status; the service's own log says more"
Json = dict[str, Any]
_FIELDS = {
    "plugin_id": "id",
    "step": "step",
    "detail": "detail",
    "before": "from",
    "after": "to",
    "release": "release",
    "digest": "digest",
}


class RemoteError(AgentError):
    """An error that the service told, in its words.

    Attributes:
        document: All that it said.
    """

    def __init__(self, document: Json) -> None:
        error = document["error"]
        super().__init__(str(error["message"]), hint=error["hint"])
        self.code = str(error["code"])  # type: ignore[misc]  # this one error's
        self.exit_code = int(error["exit_code"])  # type: ignore[misc]  # like this
        self.document = document


class Client:
    """A service that answered the connect; each request has a connection of its own.

    Args:
        path: Where it listens.
        connected: The first connection, which a first request takes.
    """

    def __init__(self, path: Path, connected: "_Timed") -> None:
        self._path = path
        self._connected: _Timed | None = connected

    def close(self) -> None:
        """Let go of a connection that nothing was asked on."""
        if self._connected is not None:
            self._connected.close()

    def get(self, target: str) -> Json:
        """A document.

        Raises:
            AgentError: The service's own, or that it does not answer.
        """
        return self._ask("GET", target, None, _ANSWER_S)

    def call(self, plugin: str, function: str | None, args: list[object]) -> Json:
        """Call a function of a plugin.

        Raises:
            AgentError: See ``get``.
        """
        body = {"function": function, "args": args}
        return self._ask("POST", f"/v1/plugins/{plugin}/calls", body, _WORK_S)

    def update(self, plugin_ids: Sequence[str], *, dry_run: bool) -> tuple[Outcome, ...]:
        """Run an update; no ids = all.

        Raises:
            AgentError: See ``get``.
        """
        body = {"ids": list(plugin_ids), "dry_run": dry_run}
        document = self._ask("POST", "/v1/updates", body, _WORK_S)
        try:
            return tuple(_outcome(dict(row)) for row in document["plugins"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken(error) from error

    def follow(self, target: str) -> Iterator[Json | None]:
        """The entries of a stream, until the service ends it; None = a sign of life.

        Raises:
            AgentError: See ``get``.
        """
        with self._request("GET", target, None, _SILENCE_S) as (response, connected):
            if response.status != http.client.OK:
                self._document(response)  # raises
            while True:
                connected.expire_in(_SILENCE_S)
                line = response.readline(_MAX_LINE_BYTES)
                if not line:
                    return
                if line.startswith(b"data: "):
                    yield self._parsed(line.removeprefix(b"data: "))
                elif line.startswith(b":"):
                    yield None

    def _ask(self, method: str, target: str, body: object, timeout_s: float) -> Json:
        with self._request(method, target, body, timeout_s) as (response, _):
            return self._document(response)

    @contextlib.contextmanager
    def _request(
        self, method: str, target: str, body: object, timeout_s: float
    ) -> Iterator[tuple[http.client.HTTPResponse, "_Timed"]]:
        connected, self._connected = self._connected or self._again(), None
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connected
        connected.expire_in(timeout_s)
        data = None if body is None else json.dumps(body).encode("ascii")
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            # Where it does not read on, it has said why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, data, {**headers, "Connection": "close"})
            yield connection.getresponse(), connected
        except TimeoutError as error:
            raise BusyError(
                f"cannot get an answer of the service at {self._path}: it is silent", hint=_HINT
            ) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise self._broken(error) from error
        finally:
            connection.close()
            connected.close()

    def _again(self) -> "_Timed":
        try:
            return _connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotFoundError(
                f"cannot go on: the service at {self._path} has ended", hint="agent run"
            ) from error

    def _document(self, response: http.client.HTTPResponse) -> Json:
        document = self._parsed(response.read(_MAX_BYTES + 1))
        if response.status == http.client.OK:
            return document
        try:
            raise RemoteError(document)
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken(error) from error

    def _parsed(self, data: bytes) -> Json:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._broken(error) from error
        if len(data) > _MAX_BYTES or not isinstance(document, dict):
            raise self._broken("it is no object, or too long")
        return document

    def _broken(self, why: object) -> AgentError:
        return AgentError(
            f"cannot use the answer of the service at {self._path}: {why or 'it broke off'}",
            hint=_HINT,
        )


def _outcome(row: Json) -> Outcome:
    """What a row says, as if it had been done here."""
    named = {name: row.pop(key) for name, key in _FIELDS.items()}
    kind, ungranted, error = Kind(row.pop("outcome")), row.pop("ungranted"), row.pop("error")
    return Outcome(
        **named,
        kind=kind,
        ungranted=tuple(ungranted),
        extra=row,
        error=None if error is None else RemoteError({"error": error}),
    )


def reach(configured: Path) -> Client | None:
    """The service, or None where nothing listens.

    Args:
        configured: ``Places.socket``.

    Raises:
        AgentError: Something listens, and it can't be asked; or not by this user.
    """
    path = socket_path(configured)
    try:
        connected = _connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    try:
        if path != configured:
            require_safe_folder(path)
    except BaseException:
        connected.close()
        raise
    return Client(path, connected)


class _Timed(socket.socket):
    """A socket whose reads end at one point in time, however the bytes trickle."""

    _end = float("inf")

    def expire_in(self, seconds: float) -> None:
        """From now on."""
        self._end = time.monotonic() + seconds
        self.settimeout(seconds)

    def recv_into(self, *args: Any) -> int:  # noqa: ANN401 - as the socket's own
        """Read what is there, or wait for what is left of the time."""
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time for the answer is over")
        self.settimeout(left_s)
        return super().recv_into(*args)


def _connect(path: Path) -> _Timed:
    connected = _Timed(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(os.fspath(path))
    except BlockingIOError as error:  # more wait than its queue takes
        connected.close()
        raise BusyError(f"cannot reach the service at {path}: it is busy", hint=_HINT) from error
    except PermissionError as error:
        connected.close()
        raise PolicyError(
            f"cannot use the service at {path}: you may not connect",
            reason="rights",
            hint="be its user or root; control.group lets a group in",
        ) from error
    except BaseException:
        connected.close()
        raise
    return connected
