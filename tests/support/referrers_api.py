"""A registry with the referrers API: a docker-registry, and in front of it what that lacks."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from registry import sha256_digest

INDEX = "application/vnd.oci.image.index.v1+json"
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Fronted:
    """The running front.

    Attributes:
        host: ``127.0.0.1:port``.
        page: How many referrers it gives at once.
        filters: Whether it heeds ``artifactType``.
        asked: The paths of the lists that it gave.
        upstream: The docker-registry behind it.
        listed: What refers to the manifests of its repositories.
    """

    host: str
    page: int = 2
    filters: bool = True
    asked: list[str] = field(default_factory=list)

    upstream: str = ""
    listed: dict[tuple[str, str], dict[str, dict[str, object]]] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front: Fronted

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name, _, digest = urlsplit(self.path).path.partition("/referrers/")
        if digest and self.command == "GET":
            self._give_list(name, digest)
            return
        with closing(http.client.HTTPConnection(self.front.upstream, timeout=20)) as connection:
            # With our own host in it, so that upload locations lead back here.
            connection.request(self.command, self.path, body or None, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
        headers = {
            key: value for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP
        }
        name, _, reference = self.path.partition("/manifests/")
        if self.command == "PUT" and reference and answer.status == 201:
            headers |= self._take(name, body)
        self._give(answer.status, data, headers, answer.getheader("Content-Length"))

    def _take(self, name: str, raw: bytes) -> dict[str, str]:
        manifest = json.loads(raw)
        if "subject" not in manifest:
            return {}
        subject = manifest["subject"]["digest"]
        digest = sha256_digest(raw)
        self.front.listed.setdefault((name, subject), {})[digest] = {
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": len(raw),
            "artifactType": manifest.get("artifactType") or manifest["config"]["mediaType"],
            "annotations": manifest.get("annotations", {}),
        }
        return {"OCI-Subject": subject}

    def _give_list(self, name: str, digest: str) -> None:
        front = self.front
        front.asked.append(self.path)
        asked = dict(parse_qsl(urlsplit(self.path).query))
        found = list(front.listed.get((name, digest), {}).values())
        headers = {"Content-Type": INDEX}
        if front.filters and "artifactType" in asked:
            found = [one for one in found if one["artifactType"] == asked["artifactType"]]
            headers["OCI-Filters-Applied"] = "artifactType"
        start = int(asked.get("start", "0"))
        end = start + front.page
        if end < len(found):
            query = urlencode({**asked, "start": end})
            headers["Link"] = f'<{name}/referrers/{digest}?{query}>; rel="next"'
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found[start:end]}
        self._give(200, json.dumps(document).encode(), headers)

    def _give(
        self, status: int, body: bytes, headers: dict[str, str], length: str | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": length or str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = _forward  # noqa: N815 - the base class's names

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def referrers_api(upstream: str) -> Iterator[Fronted]:
    """Run a front of a docker-registry that knows subjects (OCI distribution 1.1)."""
    front = Fronted("", upstream=upstream)
    handler = type("Handler", (_Handler,), {"front": front})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        front.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            thread.join()


def ask_fallback(
    host: str, repository: str, digest: str, body: bytes | None = None
) -> dict[str, Any]:
    """Read the index at a manifest's fallback tag, or put another one there, as others would.

    Args:
        host: The registry.
        repository: Its path.
        digest: The manifest's.
        body: What to put; ``None``: read.
    """
    path = f"/v2/{repository}/manifests/{digest.replace(':', '-')}"
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        headers = {"Accept": INDEX, "Content-Type": INDEX}
        connection.request("GET" if body is None else "PUT", path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status in (200, 201), data
        return json.loads(data) if body is None else {}
    finally:
        connection.close()
