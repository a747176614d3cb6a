"""Registries that lie, stall or flood: each gets an error of ours and leaves no file."""

import gzip
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    AuthenticationError,
    ContentError,
    Credential,
    CredentialSource,
    Descriptor,
    HttpLocation,
    HttpSettings,
    NetworkError,
    NotFoundError,
    RegistryError,
    Repository,
    open_repository,
    sha256_digest,
)
from support.registry import (
    PASSWORD,
    PLUGIN_ID,
    USER,
    Misbehaving,
    Route,
    docker_registry,
    has_ipv6,
    misbehaving,
    reply,
)

BLOB = b"twelve bytes"
DESCRIPTOR = Descriptor.of("application/wasm", BLOB)
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": Descriptor.of("application/x", b"{}").document(),
        "layers": [],
    }
).encode()
IMPATIENT = HttpSettings(
    connect_timeout_s=5,
    read_timeout_s=0.3,
    total_timeout_s=0.6,
    min_bytes_per_s=1 << 40,
    attempts=1,
    backoff_s=0,
)
PATIENT = HttpSettings(backoff_s=0, max_retry_after_s=0)
Handler = BaseHTTPRequestHandler
Drip = Callable[[Handler, Misbehaving], None]


class Jane:
    """A credential for whoever asks."""

    def find(self, host: str, name: str) -> Credential | None:
        """Return it."""
        del host, name
        return Credential(USER, PASSWORD)


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server whose route the test sets."""
    with misbehaving() as running:
        yield running


def open_at(
    server: Misbehaving,
    settings: HttpSettings = PATIENT,
    credentials: CredentialSource | None = None,
) -> Repository:
    """Open the repository that the server pretends to have."""
    location = HttpLocation(server.host, f"plugins/{PLUGIN_ID}")
    return open_repository(
        location, files=Files(), http=settings, credentials=credentials or Anonymous()
    )


def chunk(data: bytes) -> bytes:
    """Frame bytes for ``Transfer-Encoding: chunked``."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def start_chunked(handler: Handler) -> None:
    """Begin an answer that does not say how long it is."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def truncated(handler: Handler) -> None:
    """Promise twelve bytes, send four, hang up."""
    reply(handler, 200, BLOB[:4], Content_Length="12")
    handler.close_connection = True


def truncated_chunks(handler: Handler) -> None:
    """Hang up in the middle of a chunk."""
    start_chunked(handler)
    handler.wfile.write(b"c\r\ntwe")
    handler.close_connection = True


def negative_chunk(handler: Handler) -> None:
    """Say that a chunk is less than empty."""
    start_chunked(handler)
    handler.wfile.write(b"-5\r\n" + b"x" * 100_000)
    handler.close_connection = True


def longer(handler: Handler) -> None:
    """Send one byte too many without saying so before."""
    start_chunked(handler)
    handler.wfile.write(chunk(BLOB) + chunk(b"!") + b"0\r\n\r\n")


def endless(handler: Handler) -> None:
    """Send until nobody reads."""
    start_chunked(handler)
    while True:
        handler.wfile.write(chunk(b"x" * 65536))


def compressed(handler: Handler) -> None:
    """Claim gzip."""
    reply(handler, 200, BLOB, Content_Encoding="gzip")


BAD_BLOBS: dict[str, tuple[Route, type[RegistryError]]] = {
    "truncated": (truncated, NetworkError),
    "truncated chunks": (truncated_chunks, NetworkError),
    "a negative chunk": (negative_chunk, NetworkError),
    "short": (lambda h: reply(h, 200, BLOB[:4]), ContentError),
    "other bytes": (lambda h: reply(h, 200, b"twelve BYTES"), ContentError),
    "long": (lambda h: reply(h, 200, BLOB + b"!"), ContentError),
    "long in chunks": (longer, ContentError),
    "endless": (endless, ContentError),
    "compressed": (compressed, ContentError),
    "empty": (lambda h: reply(h, 200), ContentError),
    "partial content": (lambda h: reply(h, 206, BLOB), RegistryError),
    "no content": (lambda h: reply(h, 204), RegistryError),
    "negative length": (lambda h: reply(h, 200, BLOB, Content_Length="-1"), ContentError),
    "two lengths": (lambda h: reply(h, 200, BLOB, Content_Length="12, 13"), RegistryError),
    "gone": (lambda h: reply(h, 404), NotFoundError),
    "teapot": (lambda h: reply(h, 418), RegistryError),
}


@pytest.mark.parametrize("case", BAD_BLOBS)
def test_a_bad_blob_leaves_nothing(server: Misbehaving, tmp_path: Path, case: str) -> None:
    """Neither a file under the blob's name nor a temporary one is left, nor is it read."""
    server.route, kind = BAD_BLOBS[case]
    with open_at(server) as repository:
        with pytest.raises(kind):
            repository.fetch_blob(DESCRIPTOR, tmp_path / "blob")
        with pytest.raises(kind):
            repository.read_blob(DESCRIPTOR, max_bytes=100)
    assert not list(tmp_path.iterdir())


def stall(handler: Handler, server: Misbehaving) -> None:
    """Send half and then nothing."""
    reply(handler, 200, BLOB[:4], Content_Length="12")
    server.over.wait(60)


def silence(handler: Handler, server: Misbehaving) -> None:
    """Never answer."""
    del handler
    server.over.wait(60)


def drip(handler: Handler, server: Misbehaving) -> None:
    """Send a byte now and then, always within the read time-out."""
    reply(handler, 200, Content_Length="100000")
    while not server.over.wait(0.05):
        handler.wfile.write(b"x")


def drip_headers(handler: Handler, server: Misbehaving) -> None:
    """Never come to the end of the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not server.over.wait(0.05):
        handler.wfile.write(b"x")


def drip_chunk_size(handler: Handler, server: Misbehaving) -> None:
    """Never come to the end of a chunk's header."""
    start_chunked(handler)
    while not server.over.wait(0.05):
        handler.wfile.write(b"0")


def continue_for_ever(handler: Handler, server: Misbehaving) -> None:
    """Say "go on" and nothing else."""
    while not server.over.wait(0.05):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "how", [stall, silence, drip, drip_headers, drip_chunk_size, continue_for_ever]
)
def test_a_slow_registry_is_given_up(server: Misbehaving, tmp_path: Path, how: Drip) -> None:
    """Every wait has an end, also for servers that keep the connection just alive."""
    server.route = lambda handler: how(handler, server)
    large = Descriptor(DESCRIPTOR.media_type, DESCRIPTOR.digest, 100_000)
    descriptor = DESCRIPTOR if how is stall else large
    with open_at(server, IMPATIENT) as repository, pytest.raises(NetworkError):
        repository.fetch_blob(descriptor, tmp_path / "blob")
    assert not list(tmp_path.iterdir())


def test_a_registry_that_does_not_read_is_given_up(server: Misbehaving, tmp_path: Path) -> None:
    """An upload nobody takes ends as a network error."""
    (tmp_path / "large").write_bytes(bytes(64 << 20))
    descriptor = Descriptor.of("application/wasm", bytes(64 << 20))

    def route(handler: Handler) -> None:
        reply(handler, 202, Location="/upload")

    server.route = route
    settings = HttpSettings(
        connect_timeout_s=0.3, read_timeout_s=0.3, total_timeout_s=0.6, min_bytes_per_s=1 << 40
    )
    with open_at(server, settings) as repository:
        server.before_body = lambda: server.over.wait(60)
        with pytest.raises(NetworkError):
            repository.push_blob(descriptor, tmp_path / "large")


def flood_of_headers(handler: Handler) -> None:
    """Send more headers than anyone needs."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 10_000 + b"\r\n")


def long_header(handler: Handler) -> None:
    """Send one header line of a megabyte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Y: " + b"z" * (1 << 20) + b"\r\n\r\n")


def no_http(handler: Handler) -> None:
    """Speak another protocol."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    handler.close_connection = True


def nothing(handler: Handler) -> None:
    """Hang up."""
    handler.close_connection = True


@pytest.mark.parametrize("route", [flood_of_headers, long_header, no_http, nothing])
def test_what_is_no_http_is_a_network_error(server: Misbehaving, route: Route) -> None:
    """No exception of a library comes through."""
    server.route = route
    with open_at(server) as repository, pytest.raises(NetworkError):
        repository.tags()


def test_nobody_listens() -> None:
    """A refused connection is a network error that names the host."""
    with misbehaving() as gone:
        host = gone.host
    location = HttpLocation(host, PLUGIN_ID)
    opened = open_repository(location, files=Files(), http=PATIENT, credentials=Anonymous())
    with opened as repository, pytest.raises(NetworkError, match=host):
        repository.tags()


def with_(**changes: object) -> bytes:
    """Write the manifest with some keys changed."""
    return json.dumps({**json.loads(MANIFEST), **changes}).encode()


BAD_MANIFESTS = {
    "oversize": MANIFEST[:-1] + b" " * (4 << 20) + b"}",
    "key twice": MANIFEST[:-1] + b',"layers":[]}',
    "key twice, deep": MANIFEST[:-1] + b',"subject":{"a":1,"a":2}}',
    "index": with_(mediaType="application/vnd.oci.image.index.v1+json", manifests=[]),
    "index in disguise": with_(manifests=[]),
    "docker": with_(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
    "schema 1": with_(schemaVersion=1),
    "schema true": with_(schemaVersion=True),
    "no config": with_(config=None),
    "no layers": with_(layers=None),
    "layer is text": with_(layers=["x"]),
    "size is negative": with_(layers=[{**DESCRIPTOR.document(), "size": -1}]),
    "size is true": with_(layers=[{**DESCRIPTOR.document(), "size": True}]),
    "size is huge": with_(layers=[{**DESCRIPTOR.document(), "size": 2**63}]),
    "no digest": with_(layers=[{**DESCRIPTOR.document(), "digest": None}]),
    "sha512": with_(layers=[{**DESCRIPTOR.document(), "digest": "sha512:" + "0" * 128}]),
    "digest is a path": with_(layers=[{**DESCRIPTOR.document(), "digest": "sha256:../../x"}]),
    "media type": with_(layers=[{**DESCRIPTOR.document(), "mediaType": "text/\x1b[31m"}]),
    "annotations": with_(annotations={"a": 1}),
    "half a surrogate pair": MANIFEST[:-1] + b',"annotations":{"a":"\\ud800"}}',
    "nested": b'{"a":' * 100_000,
    "long number": MANIFEST[:-1] + b',"x":' + b"9" * 10_000 + b"}",
    "NaN": MANIFEST[:-1] + b',"x":NaN}',
    "list": b"[]",
    "not JSON": b"<html>",
    "UTF-16": MANIFEST.decode().encode("utf-16"),
    "latin-1": b'{"a":"\xe4"}',
    "empty": b"",
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(server: Misbehaving, case: str) -> None:
    """Each is a ``ContentError``, and nothing else comes out."""
    raw = BAD_MANIFESTS[case]
    server.route = lambda handler: reply(handler, 200, raw)
    with open_at(server) as repository, pytest.raises(ContentError):
        repository.manifest("0.1.0")


def test_a_good_manifest_is_taken(server: Misbehaving) -> None:
    """The one that the bad ones are made of passes: they fail for their own reasons."""
    server.route = lambda handler: reply(handler, 200, with_(x=[1, {"a": 1}]))
    with open_at(server) as repository:
        assert repository.manifest("0.1.0").layers == ()


def test_a_manifest_of_another_digest_is_refused(server: Misbehaving) -> None:
    """Good bytes are not enough: they must be those asked for."""
    server.route = lambda handler: reply(handler, 200, MANIFEST)
    with open_at(server) as repository, pytest.raises(ContentError, match="expected sha256:0000"):
        repository.manifest("sha256:" + "0" * 64)


def test_a_false_digest_header_is_refused(server: Misbehaving) -> None:
    """A registry that does not know its own bytes is not believed."""
    said = "sha256:" + "0" * 64
    server.route = lambda handler: reply(handler, 200, MANIFEST, Docker_Content_Digest=said)
    with open_at(server) as repository, pytest.raises(ContentError):
        repository.manifest("0.1.0")


@pytest.mark.parametrize("said", ["", "sha256:xyz", "md5:0", "sha256:" + "0" * 63, "a\tb"])
def test_a_malformed_digest_header_is_refused(server: Misbehaving, said: str) -> None:
    """What HEAD says is checked before anyone keeps it."""
    server.route = lambda handler: reply(
        handler, 200, MANIFEST, Docker_Content_Digest=said, Content_Type="text/plain"
    )
    with open_at(server) as repository, pytest.raises(ContentError):
        repository.resolve("0.1.0")


def test_a_registry_without_the_digest_header_is_asked_for_the_bytes(server: Misbehaving) -> None:
    """The header is optional; the hash of the bytes says the same."""
    server.route = lambda handler: reply(handler, 200, MANIFEST)
    with open_at(server) as repository:
        assert repository.resolve("0.1.0").digest == sha256_digest(MANIFEST)


BAD_TAG_LISTS = {
    "huge": b'{"tags":["' + b"a" * (5 << 20) + b'"]}',
    "not JSON": b"<html>",
    "no object": b'["0.1.0"]',
    "object": b'{"tags":{"0.1.0":1}}',
    "text": b'{"tags":"0.1.0"}',
    "key twice": b'{"tags":[],"tags":["0.1.0"]}',
}


@pytest.mark.parametrize("case", BAD_TAG_LISTS)
def test_a_bad_tag_list_is_refused(server: Misbehaving, case: str) -> None:
    """Each is a ``ContentError``."""
    server.route = lambda handler: reply(handler, 200, BAD_TAG_LISTS[case])
    with open_at(server) as repository, pytest.raises(ContentError):
        repository.tags()


def test_what_is_no_tag_is_not_listed(server: Misbehaving) -> None:
    """Entries that no reference could name are left out; null means none."""
    listed = [1, None, ["0.3.0"], "../x", "a b", "\x1b[31m", "0.1.0", "0.1.0", ""]
    server.route = lambda handler: reply(handler, 200, json.dumps({"tags": listed}).encode())
    with open_at(server) as repository:
        assert repository.tags() == ("0.1.0",)
        server.route = lambda handler: reply(handler, 200, b'{"name":"x","tags":null}')
        assert repository.tags() == ()


def test_pages_are_followed_at_home_only(server: Misbehaving) -> None:
    """A ``Link`` is followed on the same host, a bounded number of times, and nowhere else."""

    def pages(handler: Handler) -> None:
        if "last=a" in handler.path:
            reply(handler, 200, b'{"tags":["b"]}')
        else:
            link = '<http://elsewhere.example/>; rel="first", </v2/x/tags/list?last=a>; rel="next"'
            reply(handler, 200, b'{"tags":["a"]}', Link=link)

    server.route = pages
    with open_at(server) as repository:
        assert repository.tags() == ("a", "b")
        server.route = lambda handler: reply(
            handler, 200, b'{"tags":["a"]}', Link='<http://localhost:1/x>; rel="next"'
        )
        with pytest.raises(ContentError, match="another host"):
            repository.tags()
        server.route = lambda handler: reply(
            handler, 200, b'{"tags":["a"]}', Link='</v2/x/tags/list>; rel="next"'
        )
        with pytest.raises(ContentError, match="pages"):
            repository.tags()


def test_a_redirect_takes_no_credentials_along(server: Misbehaving, tmp_path: Path) -> None:
    """Another origin, and be it another port, never sees ``Authorization``; our own does."""
    with misbehaving() as other:
        other.route = lambda handler: reply(handler, 200, BLOB)
        server.route = lambda handler: reply(
            handler, 307, Location=f"http://{other.host}/blob?sig=x"
        )
        with open_at(server, credentials=Jane()) as repository:
            repository.fetch_blob(DESCRIPTOR, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == BLOB
    assert ["Authorization" in request.headers for request in server.requests] == [True]
    assert ["Authorization" in request.headers for request in other.requests] == [False]


def test_an_upload_elsewhere_takes_no_credentials_along(server: Misbehaving) -> None:
    """The same holds for the upload location that a registry names."""
    with misbehaving() as other:
        other.route = lambda handler: reply(handler, 201)
        server.route = lambda handler: reply(
            handler, 202, Location=f"http://{other.host}/up?_state=a%2Fb"
        )
        with open_at(server, credentials=Jane()) as repository:
            repository.push_blob(DESCRIPTOR, BLOB)
    (request,) = other.requests
    assert request.body == BLOB
    assert request.path == f"/up?_state=a%2Fb&digest={DESCRIPTOR.digest}"
    assert "Authorization" not in request.headers
    assert "Authorization" in server.requests[0].headers


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher:x", "//"])
def test_a_redirect_out_of_http_is_refused(server: Misbehaving, target: str) -> None:
    """Only HTTP is followed."""
    server.route = lambda handler: reply(handler, 302, Location=target)
    with open_at(server) as repository, pytest.raises(RegistryError):
        repository.read_blob(DESCRIPTOR, max_bytes=100)


@pytest.mark.parametrize(
    "target", ["http://[::1", "http://h:x/", "http://h:99999/", "//[", "http://"]
)
def test_a_link_that_is_no_url_is_refused(server: Misbehaving, target: str) -> None:
    """Redirects, next pages and upload locations are links from strangers."""

    def route(handler: Handler) -> None:
        if "tags" in handler.path:
            reply(handler, 200, b'{"tags":[]}', Link=f'<{target}>; rel="next"')
        else:
            reply(handler, 202 if handler.command == "POST" else 307, Location=target)

    server.route = route
    with open_at(server) as repository:
        with pytest.raises(RegistryError):
            repository.read_blob(DESCRIPTOR, max_bytes=100)
        with pytest.raises(RegistryError):
            repository.tags()
        with pytest.raises(RegistryError):
            repository.push_blob(DESCRIPTOR, BLOB)


def test_a_redirect_loop_ends(server: Misbehaving) -> None:
    """Five redirects are enough."""
    server.route = lambda handler: reply(handler, 302, Location="/again")
    with open_at(server) as repository, pytest.raises(NetworkError, match="redirects"):
        repository.read_blob(DESCRIPTOR, max_bytes=100)
    assert len(server.requests) == 6


def test_a_huge_error_is_read_in_part(server: Misbehaving) -> None:
    """The body of a 401 is read up to 64 KiB; the error comes without it."""

    def route(handler: Handler) -> None:
        handler.send_response(401)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(chunk(b"x" * 65536))

    server.route = route
    with open_at(server) as repository, pytest.raises(AuthenticationError, match="agent login 127"):
        repository.tags()


def test_an_error_cut_short_is_an_error(server: Misbehaving) -> None:
    """The status is enough, where the body breaks off."""

    def route(handler: Handler) -> None:
        reply(handler, 404, b"{", Content_Length="100")
        handler.close_connection = True

    server.route = route
    with open_at(server) as repository, pytest.raises(NotFoundError):
        repository.tags()


def test_a_manifest_too_large_is_not_pushed(server: Misbehaving) -> None:
    """What nobody could pull is refused before it is sent."""
    with open_at(server) as repository, pytest.raises(ContentError, match="expected ≤"):
        repository.push_manifest(BAD_MANIFESTS["oversize"], tag="0.1.0")
    assert not server.requests


def test_what_a_registry_says_is_shown_on_one_line(server: Misbehaving) -> None:
    """Control characters of its messages do not reach a terminal, and they are cut."""
    said = {"errors": [{"code": "X", "message": "a\x1b[31m\nb" + "c" * 10_000}]}
    server.route = lambda handler: reply(handler, 400, json.dumps(said).encode())
    with open_at(server) as repository, pytest.raises(RegistryError) as caught:
        repository.tags()
    assert str(caught.value).isprintable()
    assert "X: a" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("errors", [b'{"errors":5}', b'{"errors":[1]}', b"[" * 60_000, b"\xff"])
def test_an_error_that_makes_no_sense_is_an_error(server: Misbehaving, errors: bytes) -> None:
    """The status alone decides."""
    server.route = lambda handler: reply(handler, 403, errors)
    with open_at(server) as repository, pytest.raises(AuthenticationError):
        repository.tags()


def test_secrets_are_in_no_message(server: Misbehaving) -> None:
    """Neither credentials nor signed links are shown."""
    server.route = lambda handler: reply(
        handler, 307, Location="/blob?sig=hunter2" if "sig" not in handler.path else "ftp://a:b@c/"
    )
    with open_at(server, credentials=Jane()) as repository, pytest.raises(RegistryError) as caught:
        repository.read_blob(DESCRIPTOR, max_bytes=100)
    for secret in ("hunter2", "a:b", PASSWORD):
        assert secret not in str(caught.value)
    for padding in range(250, 320):
        said = {"errors": [{"code": "X", "message": "x" * padding + PASSWORD}]}
        server.route = lambda handler, said=said: reply(handler, 403, json.dumps(said).encode())
        with open_at(server, credentials=Jane()) as repository:
            with pytest.raises(RegistryError) as caught:
                repository.read_blob(DESCRIPTOR, max_bytes=100)
            assert PASSWORD[:3] not in str(caught.value)
    assert PASSWORD not in repr(Credential(USER, PASSWORD))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_recovers_is_asked_again(server: Misbehaving, status: int) -> None:
    """Three attempts at most; a Retry-After of years is cut short."""

    def route(handler: Handler) -> None:
        if len(server.requests) < 3:
            reply(handler, status, Retry_After="99999999")
        else:
            reply(handler, 200, b'{"tags":["0.1.0"]}')

    server.route = route
    with open_at(server) as repository:
        assert repository.tags() == ("0.1.0",)
        server.route = lambda handler: reply(handler, status, Retry_After="tomorrow")
        with pytest.raises(NetworkError):
            repository.tags()
    assert len(server.requests) == 6


def test_a_dropped_connection_is_tried_again(server: Misbehaving) -> None:
    """A registry that hung up once is asked once more."""

    def route(handler: Handler) -> None:
        if len(server.requests) == 1:
            nothing(handler)
        else:
            reply(handler, 200, b'{"tags":[]}')

    server.route = route
    with open_at(server) as repository:
        assert repository.tags() == ()


def test_an_upload_that_cannot_begin_is_given_up(server: Misbehaving) -> None:
    """Asking for a place to upload to may be repeated: what was begun and left costs nobody."""
    server.route = lambda handler: reply(handler, 503)
    with open_at(server) as repository, pytest.raises(NetworkError):
        repository.push_blob(DESCRIPTOR, BLOB)
    assert [request.method for request in server.requests] == ["POST"] * 3


@pytest.mark.parametrize("is_there", [True, False])
def test_an_upload_is_not_repeated_blindly(server: Misbehaving, *, is_there: bool) -> None:
    """An answer that was lost is looked for first; only then is the upload begun anew."""

    def route(handler: Handler) -> None:
        puts = [request for request in server.requests if request.method == "PUT"]
        if handler.command == "POST":
            reply(handler, 202, Location=f"/upload/{len(puts)}")
        elif handler.command == "PUT":
            reply(handler, 503 if len(puts) == 1 else 201)
        else:
            reply(handler, 200 if is_there else 404)

    server.route = route
    with open_at(server) as repository:
        repository.push_blob(DESCRIPTOR, BLOB)
    again = [] if is_there else ["POST", "PUT"]
    assert [r.method for r in server.requests] == ["POST", "PUT", "HEAD", *again]
    bodies = [request.body for request in server.requests if request.method == "PUT"]
    assert bodies == [BLOB] * (1 if is_there else 2)


def test_an_upload_without_a_place_is_refused(server: Misbehaving) -> None:
    """202 without a location is no answer."""
    server.route = lambda handler: reply(handler, 202)
    with open_at(server) as repository, pytest.raises(ContentError, match="location"):
        repository.push_blob(DESCRIPTOR, BLOB)


def test_a_push_stored_as_something_else_is_an_error(server: Misbehaving) -> None:
    """A registry that answers a push with another digest changed the bytes."""
    said = "sha256:" + "0" * 64
    server.route = lambda handler: reply(handler, 201, Docker_Content_Digest=said)
    with open_at(server) as repository, pytest.raises(ContentError, match="instead"):
        repository.push_manifest(MANIFEST, tag="0.1.0")


@pytest.mark.parametrize("credentials", [Anonymous(), Jane()])
def test_an_unchanged_check_is_one_request(
    server: Misbehaving, credentials: CredentialSource
) -> None:
    """Tags cost one GET, a channel one HEAD; nothing is asked before."""
    server.route = lambda handler: reply(
        handler,
        200,
        b'{"tags":["0.1.0"]}',
        Docker_Content_Digest=sha256_digest(MANIFEST),
        Content_Type="application/vnd.oci.image.manifest.v1+json",
    )
    with open_at(server, credentials=credentials) as repository:
        repository.tags()
        assert [request.method for request in server.requests] == ["GET"]
        repository.resolve("stable")
        assert [request.method for request in server.requests] == ["GET", "HEAD"]


def test_tls_is_checked_unless_told_otherwise(server: Misbehaving, tmp_path: Path) -> None:
    """An unknown certificate is refused with the way out; its CA, or ``insecure``, lets it in."""
    del server
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with misbehaving(context) as secure:
        secure.route = lambda handler: reply(handler, 200, b'{"tags":["0.1.0"]}')
        with (
            open_at(secure, HttpSettings(plain_http=False)) as repository,
            pytest.raises(NetworkError, match="--ca-file"),
        ):
            repository.tags()
        assert not secure.requests
        for settings in (
            HttpSettings(plain_http=False, ca_file=cert),
            HttpSettings(plain_http=False, insecure=True),
        ):
            with open_at(secure, settings) as repository:
                assert repository.tags() == ("0.1.0",)


def test_insecure_never_means_plain_http(server: Misbehaving) -> None:
    """With ``insecure`` a server that speaks no TLS is still refused."""
    server.route = lambda handler: reply(handler, 200, b'{"tags":[]}')
    settings = HttpSettings(plain_http=False, insecure=True, backoff_s=0)
    with open_at(server, settings) as repository, pytest.raises(NetworkError):
        repository.tags()


def test_a_tls_file_that_is_none_is_named(server: Misbehaving, tmp_path: Path) -> None:
    """A CA file that is missing or no PEM is an error before any request."""
    (tmp_path / "ca.pem").write_text("no PEM")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(RegistryError, match=name):
            open_at(server, HttpSettings(ca_file=tmp_path / name))
        with pytest.raises(RegistryError, match=name):
            open_at(server, HttpSettings(client_cert=tmp_path / name))


def test_a_registry_is_asked_through_the_proxy(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of the settings, else the environment's; its password is not the registry's."""
    server.route = lambda handler: reply(handler, 200, b'{"tags":["0.1.0"]}')
    location = HttpLocation("registry.example.com", PLUGIN_ID)
    settings = HttpSettings(plain_http=True, proxy=f"http://joe:hunter2@{server.host}")
    with open_repository(location, files=Files(), http=settings, credentials=Jane()) as asked:
        assert asked.tags() == ("0.1.0",)
    monkeypatch.setenv("http_proxy", f"http://{server.host}")
    plain = HttpSettings(plain_http=True)
    with open_repository(location, files=Files(), http=plain, credentials=Anonymous()) as asked:
        assert asked.tags() == ("0.1.0",)
    first, second = server.requests
    assert first.path.startswith("http://registry.example.com/v2/")
    assert first.headers["Proxy-Authorization"] == "Basic am9lOmh1bnRlcjI="
    assert first.headers["Authorization"] == Credential(USER, PASSWORD).basic
    assert "Proxy-Authorization" not in second.headers


def test_loopback_needs_no_proxy(server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry on this machine is asked directly; ``no_proxy`` is honoured for others."""
    server.route = lambda handler: reply(handler, 200, b'{"tags":[]}')
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with open_at(server) as repository:
        assert repository.tags() == ()
    with open_at(server, HttpSettings(proxy="http://127.0.0.1:1")) as repository:
        assert repository.tags() == ()
    settings = HttpSettings(plain_http=True, attempts=1)
    for port in ("", ":5000"):
        monkeypatch.setenv("no_proxy", f"localhost.localdomain.invalid{port}")
        location = HttpLocation(f"localhost.localdomain.invalid{port}", PLUGIN_ID)
        opened = open_repository(location, files=Files(), http=settings, credentials=Anonymous())
        with opened as repository, pytest.raises(NetworkError) as caught:
            repository.tags()
        assert "proxy" not in str(caught.value)


def test_a_proxy_that_refuses_is_a_network_error(server: Misbehaving) -> None:
    """What goes wrong on the way is not the registry's answer."""
    server.route = lambda handler: reply(handler, 403)
    location = HttpLocation("registry.example.com", PLUGIN_ID)
    settings = HttpSettings(proxy=f"http://{server.host}", backoff_s=0)
    opened = open_repository(location, files=Files(), http=settings, credentials=Anonymous())
    with opened as repository, pytest.raises(NetworkError):
        repository.tags()
    assert {request.method for request in server.requests} == {"CONNECT"}


def test_pauses_end_with_the_operation(server: Misbehaving) -> None:
    """A registry that asks for patience gets no more than the operation has."""
    server.route = lambda handler: reply(handler, 503, Retry_After="1")
    settings = HttpSettings(total_timeout_s=0.2, backoff_s=0.1, attempts=10)
    with open_at(server, settings) as repository, pytest.raises(NetworkError):
        repository.tags()
    assert len(server.requests) < 10


def test_a_flood_of_tags_is_refused(server: Misbehaving) -> None:
    """More tags than any plugin has: given up, not kept in memory page by page."""

    def flood(handler: Handler) -> None:
        page = int(handler.path.rpartition("=")[2]) if "page=" in handler.path else 0
        names = [f"0.0.{page * 20_000 + number}" for number in range(20_000)]
        body = json.dumps({"name": "x", "tags": names}).encode()
        following = f'<{handler.path.partition("?")[0]}?page={page + 1}>; rel="next"'
        reply(handler, 200, body, Link=following)

    server.route = flood
    with open_at(server) as repository, pytest.raises(ContentError, match="more than 50000"):
        repository.tags()


def test_a_registry_that_speaks_http_1_0_is_understood(server: Misbehaving, tmp_path: Path) -> None:
    """A body may end with the connection: then the digest alone says whether it is whole."""

    def old(handler: Handler) -> None:
        said = BLOB if len(server.requests) == 1 else BLOB[:4]
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n" + said)
        handler.close_connection = True

    server.route = old
    with open_at(server) as repository:
        repository.fetch_blob(DESCRIPTOR, tmp_path / "blob")
        with pytest.raises(ContentError, match="4 bytes"):
            repository.fetch_blob(DESCRIPTOR, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


def test_a_gzip_bomb_is_not_unpacked(server: Misbehaving, tmp_path: Path) -> None:
    """Nothing is ever decompressed: what is compressed unasked is refused, what is not is bytes."""
    bomb = gzip.compress(bytes(64 << 20))
    for headers in ({"Content_Encoding": "gzip"}, {"Content_Type": "application/gzip"}):
        said = dict(headers)
        server.route = lambda handler, said=said: reply(handler, 200, bomb, **said)
        with open_at(server) as repository:
            for use in (
                lambda: repository.fetch_blob(DESCRIPTOR, tmp_path / "blob"),
                lambda: repository.manifest("0.1.0"),
                repository.tags,
            ):
                with pytest.raises(ContentError):
                    use()
    assert not list(tmp_path.iterdir())


def test_a_tag_that_moves_between_two_looks_is_what_its_bytes_say(server: Misbehaving) -> None:
    """HEAD said one digest; by that digest only its own bytes are taken."""
    moved = with_(annotations={"a": "moved"})
    server.route = lambda handler: reply(
        handler,
        200,
        MANIFEST if handler.command == "HEAD" else moved,
        Docker_Content_Digest=sha256_digest(MANIFEST if handler.command == "HEAD" else moved),
        Content_Type="application/vnd.oci.image.manifest.v1+json",
    )
    with open_at(server) as repository:
        digest = repository.resolve("0.1.0").digest
        assert repository.manifest("0.1.0").digest == sha256_digest(moved)
        with pytest.raises(ContentError):
            repository.manifest(digest)


def test_a_registry_with_an_ipv6_address_is_reached(tmp_path: Path) -> None:
    """Pushed to and pulled from ``[::1]:PORT``, without TLS as for any loopback host.

    Where the machine has no IPv6 that is an error of the network, and not of the reference.
    """
    if not has_ipv6():
        nowhere = HttpLocation("[::1]:5000", PLUGIN_ID)
        opened = open_repository(nowhere, files=Files(), http=PATIENT, credentials=Anonymous())
        with opened as repository, pytest.raises(NetworkError):
            repository.tags()
        return
    (tmp_path / "storage").mkdir()
    with docker_registry(tmp_path / "storage", address="[::1]:0") as host:
        assert host.startswith("[::1]:")
        location = HttpLocation(host, PLUGIN_ID)
        opened = open_repository(location, files=Files(), http=PATIENT, credentials=Anonymous())
        with opened as repository:
            repository.push_blob(DESCRIPTOR, BLOB)
            assert repository.read_blob(DESCRIPTOR, max_bytes=100) == BLOB


def test_a_storm_of_429_ends(server: Misbehaving, tmp_path: Path) -> None:
    """Every operation gives up after its attempts, whichever it is."""
    server.route = lambda handler: reply(handler, 429, Retry_After="0")
    with open_at(server) as repository:
        for use in (
            lambda: repository.fetch_blob(DESCRIPTOR, tmp_path / "blob"),
            lambda: repository.manifest("0.1.0"),
            lambda: repository.resolve("0.1.0"),
            repository.tags,
            lambda: repository.push_blob(DESCRIPTOR, BLOB),
            lambda: repository.push_manifest(MANIFEST, tag="0.1.0"),
        ):
            server.requests.clear()
            with pytest.raises(NetworkError, match="429"):
                use()
            assert len(server.requests) == 3
    assert not list(tmp_path.iterdir())
