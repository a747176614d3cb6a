"""Real registries on loopback ports, an artifact to push, and a server that misbehaves."""

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from registry import (
    ArtifactInput,
    BuiltArtifact,
    Descriptor,
    Manifest,
    Writable,
    build_artifact,
    sha256_digest,
)
from registry.model import MANIFEST_MEDIA_TYPE

PLUGIN_ID = "org.example.hello"
USER = "jane"
PASSWORD = "correct horse"


def has_ipv6() -> bool:
    """Whether this machine's loopback has an IPv6 address."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@contextmanager
def docker_registry(
    folder: Path,
    *,
    login: bool = False,
    address: str = "127.0.0.1:0",
    more: Sequence[str] = (),
    http: str = "",
    program: str | Path = "docker-registry",
) -> Iterator[str]:
    """Run a docker-registry that keeps its data in ``folder``; yields its ``host:port``.

    Args:
        folder: Existing and empty.
        login: Whether it wants ``USER`` and ``PASSWORD``.
        address: Where it listens.
        more: Lines of its configuration.
        http: More keys of its ``http`` section.
        program: Which one.
    """
    # Port 0: the system chooses one, and the log says which.
    lines = [
        "version: 0.1",
        "log: {level: info, accesslog: {disabled: true}}",
        f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}",
        f"http: {{addr: '{address}', secret: test{http and ', '}{http}}}",
        *more,
    ]
    if login:
        command = ["htpasswd", "-Bbn", USER, PASSWORD]
        passwords = subprocess.run(command, check=True, capture_output=True).stdout
        (folder / "htpasswd").write_bytes(passwords)
        lines.append(f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}")
    config = folder / "config.yml"
    config.write_text("\n".join(lines), encoding="utf-8")
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with subprocess.Popen(
        [program, "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if "listening on " in line:
                    address = line.partition("listening on ")[2]
                    break
            else:
                raise AssertionError("".join(log))
            # Someone has to read on, or the registry stops when the pipe is full.
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            yield address.split('"')[0].split()[0].rstrip(",")
        finally:
            process.kill()
            process.wait()
        drain.join()


def make_artifact(
    folder: Path,
    *,
    version: str = "0.1.0",
    payload: bytes = b"\0asm\x01\0\0\0",
    readme: bytes | None = b"# Hello\n",
) -> BuiltArtifact:
    """Build an artifact whose payload is a file in ``folder``."""
    path = folder / f"{sha256_digest(payload)[7:19]}.wasm"
    path.write_bytes(payload)
    return build_artifact(
        ArtifactInput(
            stem="hello-plugin",
            payload=path,
            signature=b"ab" * 64 + b"\n",
            plugin_manifest=f'[plugin]\nid = "{PLUGIN_ID}"\nversion = "{version}"\n'.encode(),
            readme=readme,
            created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            plugin_id=PLUGIN_ID,
            version=version,
            abi=1,
            capabilities=["log", "retrieval"],
            name="Hello Plugin",
        )
    )


def attach(
    repository: Writable,
    subject: Descriptor,
    *,
    artifact_type: str = "application/spdx+json",
    content: bytes = b"{}",
    says: str | None = None,
) -> Manifest:
    """Push a manifest that refers to another one.

    Args:
        repository: Where to.
        subject: What it refers to.
        artifact_type: What it is; empty: only its config says so.
        content: Its only layer.
        says: The digest of its subject, if that is to be another one.
    """
    config = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")
    layer = Descriptor.of("application/octet-stream", content)
    for blob, data in ((config, b"{}"), (layer, content)):
        if not repository.has_blob(blob):
            repository.push_blob(blob, data)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        **({"artifactType": artifact_type} if artifact_type else {}),
        "config": config.document(),
        "layers": [layer.document()],
        "subject": {**subject.document(), "digest": says or subject.digest},
        "annotations": {"org.example.note": "attached"},
    }
    manifest = Manifest.parse(json.dumps(document).encode())
    repository.push_manifest(manifest.raw, tag=None)
    return manifest


@dataclass(frozen=True)
class Request:
    """What a server was asked; names of headers Written-Like-This."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Route = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Misbehaving:
    """A loopback server that answers as its route says.

    Attributes:
        host: ``127.0.0.1:port``.
        requests: What it was asked, in order.
        route: Answers; set by the test.
        over: Set when the test is done, for routes that hold a connection.
        before_body: Called before the body of a request is read.
    """

    host: str
    requests: list[Request] = field(default_factory=list)
    route: Route | None = None
    over: threading.Event = field(default_factory=threading.Event)
    before_body: Callable[[], object] = lambda: None


@contextmanager
def misbehaving(tls: ssl.SSLContext | None = None) -> Iterator[Misbehaving]:
    """Run a server whose route is yet to be set.

    Args:
        tls: Speak TLS.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body go out at once

        def answer(self) -> None:
            server.before_body()
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            server.requests.append(
                Request(
                    self.command,
                    self.path,
                    {name.title(): value for name, value in self.headers.items()},
                    body,
                )
            )
            assert server.route is not None
            try:
                server.route(self)
            except OSError:  # the client hung up, as it may
                self.close_connection = True

        do_CONNECT = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = answer  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.handle_error = lambda *_: None  # type: ignore[method-assign] # clients hang up here
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        server = Misbehaving(f"127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            http.shutdown()
            thread.join()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Send an answer; in header names ``_`` stands for ``-``."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **names}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
