"""Hooks as operators write them, and who is called by the webhook."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def script(path: Path, text: str) -> str:
    """Write a shell script that can be run; its path."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def keeping(folder: Path, name: str, *, code: int = 0) -> str:
    """A script that keeps each event it is given as a line of ``NAME.log``."""
    return script(folder / name, f"cat >> '{folder / name}.log'\nexit {code}")


def kept(folder: Path, name: str) -> list[dict[str, Any]]:
    """The events that such a script was given."""
    log = folder / f"{name}.log"
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


class Called(ThreadingHTTPServer):
    """Answers what it is told to, and keeps what it gets.

    Attributes:
        answers: The status of each answer to come; 204 once there are none.
        posted: Path, headers and body of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self.came = threading.Condition()

    @property
    def url(self) -> str:
        """Its address; the path is the secret."""
        return f"http://127.0.0.1:{self.server_port}/in/s3cr3t?key=k3y"

    def events(self) -> list[dict[str, Any]]:
        """What was posted."""
        with self.came:
            return [json.loads(body) for _, _, body in self.posted]

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Wait until so many came."""
        with self.came:
            return self.came.wait_for(lambda: len(self.posted) >= count, timeout_s)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep it and answer."""
        server = self.server
        assert isinstance(server, Called)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with server.came:
            server.posted.append((self.path, dict(self.headers), body))
            status = server.answers.pop(0) if server.answers else 204
            server.came.notify_all()
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def called() -> Iterator[Called]:
    """Somebody who listens on loopback."""
    with Called() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
