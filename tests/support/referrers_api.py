"""A registry with the referrers API: a docker-registry, and in front of it what that lacks."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

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
    """

    host: str
    page: int = 2
    filters: bool = True
    asked: list[str] = field(default_factory=list)


@contextmanager
def referrers_api(upstream: str) -> Iterator[Fronted]:
    """Run a front of a docker-registry that knows subjects (OCI distribution 1.1)."""
    listed: dict[tuple[str, str], dict[str, dict[str, object]]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name, _, digest = urlsplit(self.path).path.partition("/referrers/")
            if digest and self.command == "GET":
                self.give_list(name, digest)
                return
            connection = http.client.HTTPConnection(upstream, timeout=20)
            # With our own host in it, so that upload locations lead back here.
            connection.request(self.command, self.path, body or None, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
            headers = {
                key: value for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP
            }
            length = answer.getheader("Content-Length") or str(len(data))
            name, _, reference = self.path.partition("/manifests/")
            if self.command == "PUT" and reference and answer.status == 201:
                headers |= self.take(name, body)
            self.give(answer.status, data, {**headers, "Content-Length": length})
            connection.close()

        def take(self, name: str, raw: bytes) -> dict[str, str]:
            manifest = json.loads(raw)
            if "subject" not in manifest:
                return {}
            subject = manifest["subject"]["digest"]
            digest = sha256_digest(raw)
            listed.setdefault((name, subject), {})[digest] = {
                "mediaType": manifest["mediaType"],
                "digest": digest,
                "size": len(raw),
                "artifactType": manifest.get("artifactType") or manifest["config"]["mediaType"],
                "annotations": manifest.get("annotations", {}),
            }
            return {"OCI-Subject": subject}

        def give_list(self, name: str, digest: str) -> None:
            front.asked.append(self.path)
            asked = parse_qs(urlsplit(self.path).query)
            found = list(listed.get((name, digest), {}).values())
            headers = {"Content-Type": INDEX}
            if front.filters and "artifactType" in asked:
                found = [one for one in found if [one["artifactType"]] == asked["artifactType"]]
                headers["OCI-Filters-Applied"] = "artifactType"
            start = int(asked.get("start", ["0"])[0])
            if start + front.page < len(found):
                query = {key: values[0] for key, values in asked.items()}
                query["start"] = str(start + front.page)
                link = f"{name}/referrers/{digest}?{urlencode(query)}"
                headers["Link"] = f'<{link}>; rel="next"'
            manifests = found[start : start + front.page]
            document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
            body = json.dumps(document).encode()
            self.give(200, body, {**headers, "Content-Length": str(len(body))})

        def give(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = forward  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        front = Fronted(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            thread.join()
