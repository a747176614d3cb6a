"""Registries that break off and go on wrongly: the bytes are right in the end, or none come."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    ContentError,
    Descriptor,
    HttpLocation,
    HttpSettings,
    KeptConnections,
    NetworkError,
    RegistryError,
    Repository,
    Timing,
    open_repository,
)
from support.registry import PLUGIN_ID, Misbehaving, misbehaving, reply

BLOB = bytes(range(256)) * 1024
HALF = len(BLOB) // 2
DESCRIPTOR = Descriptor.of("application/wasm", BLOB)
PATIENT = HttpSettings(backoff_s=0, max_retry_after_s=0)
Handler = BaseHTTPRequestHandler


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server whose route the test sets."""
    with misbehaving() as running:
        yield running


def open_at(
    server: Misbehaving,
    settings: HttpSettings = PATIENT,
    connections: KeptConnections | None = None,
) -> Repository:
    """Open the repository that the server pretends to have."""
    return open_repository(
        HttpLocation(server.host, PLUGIN_ID),
        files=Files(),
        http=settings,
        credentials=Anonymous(),
        connections=connections,
    )


def broken_off(handler: Handler) -> None:
    """Promise all and send half."""
    reply(handler, 200, BLOB[:HALF], Content_Length=str(len(BLOB)))
    handler.close_connection = True


def rest(
    handler: Handler, data: bytes = BLOB[HALF:], said: str = f"bytes {HALF}-{len(BLOB) - 1}/"
) -> None:
    """Send what was asked for, as is said."""
    reply(handler, 206, data, Content_Range=said + (str(len(BLOB)) if said.endswith("/") else ""))


def beyond(handler: Handler) -> None:
    """Refuse the range and announce the whole blob, as docker-registry does."""
    reply(handler, 416, b"", Content_Length=str(len(BLOB)))
    handler.close_connection = True


# What the second request, which asks for the rest, is answered; and how many there are in all.
GOES_ON: dict[str, tuple[Callable[[Handler], None], int]] = {
    "the rest": (rest, 2),
    "the rest of who knows": (lambda h: rest(h, said=f"bytes {HALF}-{len(BLOB) - 1}/*"), 2),
    "all": (lambda h: reply(h, 200, BLOB), 2),
    "416": (beyond, 3),
    "another part": (lambda h: rest(h, BLOB, f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}"), 3),
    "a shorter part": (lambda h: rest(h, BLOB[HALF:-1], f"bytes {HALF}-{len(BLOB) - 2}/*"), 3),
    "a part of another size": (lambda h: rest(h, said=f"bytes {HALF}-{len(BLOB) - 1}/9"), 3),
    "a part without a range": (lambda h: reply(h, 206, BLOB[HALF:]), 3),
    "nonsense": (lambda h: rest(h, said="bytes */*"), 3),
    "other bytes": (lambda h: rest(h, b"x" * HALF), 3),
}


@pytest.mark.parametrize("case", GOES_ON)
def test_what_goes_on_wrongly_is_fetched_as_a_whole(
    server: Misbehaving, tmp_path: Path, case: str
) -> None:
    """The rest is taken only where it follows on what came; the hash over both decides."""
    second, requests = GOES_ON[case]

    def route(handler: Handler) -> None:
        if len(server.requests) == 1:
            broken_off(handler)
        elif len(server.requests) == 2:
            second(handler)
        else:
            reply(handler, 200, BLOB)

    server.route = route
    with open_at(server) as repository:
        repository.fetch_blob(DESCRIPTOR, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == BLOB
    assert len(server.requests) == requests
    assert server.requests[1].headers["Range"] == f"bytes={HALF}-"
    assert "Range" not in server.requests[0].headers
    assert requests == 2 or "Range" not in server.requests[2].headers


NEVER_RIGHT: dict[str, tuple[Callable[[Handler], None], type[RegistryError]]] = {
    "the rest is longer": (lambda h: rest(h, BLOB[HALF:] + b"!"), ContentError),
    "the rest is shorter": (lambda h: rest(h, BLOB[HALF:-1]), ContentError),
    "the rest is gone": (lambda h: reply(h, 404), RegistryError),
    "the rest breaks off": (
        lambda h: reply(
            h, 206, Content_Length="9", Content_Range=f"bytes {HALF}-{len(BLOB) - 1}/*"
        ),
        NetworkError,
    ),
    "the whole breaks off": (broken_off, NetworkError),
    "the whole is another": (lambda h: reply(h, 200, b"x" * len(BLOB)), ContentError),
    "the whole is shorter": (lambda h: reply(h, 200, BLOB[:-1]), ContentError),
    "416 for ever": (beyond, RegistryError),
}


@pytest.mark.parametrize("case", NEVER_RIGHT)
def test_what_is_never_right_leaves_nothing(server: Misbehaving, tmp_path: Path, case: str) -> None:
    """A typed error after a bounded number of requests, and no file."""
    then, kind = NEVER_RIGHT[case]

    def route(handler: Handler) -> None:
        if len(server.requests) == 1:
            broken_off(handler)
        else:
            then(handler)
            handler.close_connection = True

    server.route = route
    with open_at(server) as repository, pytest.raises(kind):
        repository.fetch_blob(DESCRIPTOR, tmp_path / "got")
    assert not list(tmp_path.iterdir())
    assert len(server.requests) <= 6


def test_a_document_that_breaks_off_is_fetched_again(server: Misbehaving) -> None:
    """A list of tags or a manifest is small: all of it once more."""

    def route(handler: Handler) -> None:
        if len(server.requests) < 3:
            reply(handler, 200, b'{"tags"', Content_Length="100")
            handler.close_connection = True
        else:
            reply(handler, 200, b'{"tags":["0.1.0"]}')

    server.route = route
    with open_at(server) as repository:
        assert repository.tags() == ("0.1.0",)
        server.requests.clear()
        server.route = broken_off
        with pytest.raises(NetworkError):
            repository.manifest("0.1.0")
    assert len(server.requests) == 3


def test_a_drip_is_given_up_however_large_the_blob(server: Misbehaving, tmp_path: Path) -> None:
    """A little now and then is no transfer: the time that its size would allow does not count."""
    large = Descriptor(DESCRIPTOR.media_type, DESCRIPTOR.digest, 1 << 40)

    def drip(handler: Handler) -> None:
        reply(handler, 200, Content_Length=str(1 << 40))
        for _ in range(600):
            if server.over.wait(0.05):
                return
            handler.wfile.write(b"x")

    server.route = drip
    settings = HttpSettings(read_timeout_s=0.5, attempts=1)
    with open_at(server, settings) as repository, pytest.raises(NetworkError, match=r"only \d+"):
        repository.fetch_blob(large, tmp_path / "got")
    assert not list(tmp_path.iterdir())


@dataclass
class Clock:
    """A clock that moves only when somebody sleeps, and who slept how long."""

    now_s: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now_s += seconds

    def timing(self, chance: float) -> Timing:
        """With this much of the jitter."""
        return Timing(lambda: self.now_s, self.sleep, lambda low, up: low + (up - low) * chance)


def test_a_transfer_has_the_time_that_its_size_allows(server: Misbehaving, tmp_path: Path) -> None:
    """In one request: what an operation has beside its data is not what its data have."""
    clock = Clock()
    settings = HttpSettings(total_timeout_s=60, min_bytes_per_s=1000)

    def slow(handler: Handler) -> None:
        reply(handler, 200, BLOB[:HALF], Content_Length=str(len(BLOB)))
        clock.now_s += 61
        handler.wfile.write(BLOB[HALF:])

    server.route = slow
    kept = KeptConnections(clock.timing(0))
    with open_at(server, settings, kept) as repository:
        repository.fetch_blob(DESCRIPTOR, tmp_path / "got")
        assert repository.read_blob(DESCRIPTOR, max_bytes=len(BLOB)) == BLOB
        assert [request.method for request in server.requests] == ["GET", "GET"]
        with pytest.raises(ContentError):
            repository.manifest("0.1.0")
    kept.close()
    assert len(server.requests) == 3


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_pauses_double_with_jitter(server: Misbehaving, chance: float) -> None:
    """From ``backoff_s`` on, each up to twice as long by chance: a fleet does not come at once."""
    server.route = lambda handler: reply(handler, 503)
    clock = Clock()
    kept = KeptConnections(clock.timing(chance))
    settings = HttpSettings(backoff_s=1, attempts=4)
    with open_at(server, settings, kept) as repository, pytest.raises(NetworkError):
        repository.tags()
    kept.close()
    assert clock.slept == [(1 + chance) * 2**n for n in range(3)]


@pytest.mark.parametrize(
    ("said", "slept"),
    [
        ("3", [3.0, 3.0]),
        ("0", [1.0, 2.0]),
        ("99999999", [10.0, 10.0]),
        ("-5", [1.0, 2.0]),
        ("1e9", [1.0, 2.0]),
        ("٣", [1.0, 2.0]),
        ("Fri, 31 Dec 2999 23:59:59 GMT", [1.0, 2.0]),
        ("", [1.0, 2.0]),
    ],
)
@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_registry_may_ask_for_patience(
    server: Misbehaving, status: int, said: str, slept: list[float]
) -> None:
    """``Retry-After`` in seconds lengthens a pause, up to a cap; nonsense does not."""

    def route(handler: Handler) -> None:
        if len(server.requests) < 3:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.wfile.write(b"")
            handler._headers_buffer.append(f"Retry-After: {said}\r\n".encode())  # type: ignore[attr-defined]
            handler.end_headers()
        else:
            reply(handler, 200, b'{"tags":[]}')

    server.route = route
    clock = Clock()
    kept = KeptConnections(clock.timing(0))
    settings = HttpSettings(backoff_s=1, attempts=3, max_retry_after_s=10)
    with open_at(server, settings, kept) as repository:
        assert repository.tags() == ()
    kept.close()
    assert clock.slept == slept


def test_all_attempts_together_have_a_deadline(server: Misbehaving) -> None:
    """However many are allowed, and however long each may be asked to wait."""
    server.route = lambda handler: reply(handler, 429, Retry_After="10")
    clock = Clock()
    kept = KeptConnections(clock.timing(0))
    settings = HttpSettings(attempts=1000, total_timeout_s=35, max_retry_after_s=10)
    with open_at(server, settings, kept) as repository, pytest.raises(NetworkError, match="time"):
        repository.tags()
    kept.close()
    assert clock.slept == [10.0, 10.0, 10.0, 5.0]
    assert len(server.requests) == 4


LARGE = bytes(range(256)) * 20_000


def upload_at(server: Misbehaving, answers: list[tuple[int, dict[str, str]]]) -> list[str]:
    """Push a blob of 5 MB to a registry that answers so in turn; the methods it was asked by."""
    left = list(answers)

    def route(handler: Handler) -> None:
        status, said = left.pop(0)
        handler.send_response(status)
        for name, value in {"Content-Length": "0", **said}.items():
            handler.send_header(name, value)
        handler.end_headers()

    server.route = route
    with open_at(server) as repository:
        repository.push_blob(Descriptor.of("application/wasm", LARGE), LARGE)
    assert not left
    return [request.method for request in server.requests]


PLACE = {"Location": "/upload"}
UPLOADS: dict[str, tuple[list[tuple[int, dict[str, str]]], str]] = {
    "as it should": ([(202, PLACE), (202, PLACE), (201, {})], "POST PATCH PUT"),
    "dropped": (
        [(202, PLACE), (404, {}), (404, {}), (202, PLACE), (202, PLACE), (201, {})],
        "POST PATCH GET POST PATCH PUT",
    ),
    "out of step": (
        [(202, PLACE), (416, {}), (204, {"Range": "0-99"}), (202, PLACE), (201, {})],
        "POST PATCH GET PATCH PUT",
    ),
    "status without a range": (
        [(202, PLACE), (500, {}), (204, {}), (202, PLACE), (202, PLACE), (201, {})],
        "POST PATCH GET POST PATCH PUT",
    ),
    "status of more than there is": (
        [
            *[(202, PLACE), (500, {}), (204, {"Range": f"0-{len(LARGE)}"})],
            *[(202, PLACE), (202, PLACE), (201, {})],
        ],
        "POST PATCH GET POST PATCH PUT",
    ),
    "status of all": (
        [(202, PLACE), (500, {}), (204, {"Range": f"0-{len(LARGE) - 1}"}), (201, {})],
        "POST PATCH GET PUT",
    ),
    "too large": (
        [(202, PLACE), (413, {}), (202, PLACE), (202, PLACE), (201, {})],
        "POST PATCH POST PATCH PUT",
    ),
    "too large for less than a whole": (
        [
            *[(202, {**PLACE, "OCI-Chunk-Min-Length": "9999999"}), (413, {})],
            *[(202, PLACE), (202, PLACE), (201, {})],
        ],
        "POST PATCH POST PATCH PUT",
    ),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_an_upload_follows_what_the_registry_says(server: Misbehaving, case: str) -> None:
    """Every answer leads on to one that ends it; what is sent always follows on what is there."""
    answers, methods = UPLOADS[case]
    assert " ".join(upload_at(server, answers)) == methods
    for request in server.requests:
        if request.method == "PATCH":
            said = request.headers.get("Content-Range", f"0-{len(LARGE) - 1}")
            first, _, last = said.partition("-")
            assert request.body == LARGE[int(first) : int(last) + 1]


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500])
def test_an_upload_that_is_never_taken_ends(server: Misbehaving, status: int) -> None:
    """A typed error after a bounded number of requests, whatever is refused."""
    server.route = lambda handler: reply(
        handler, 202 if handler.command == "POST" else status, Location="/upload"
    )
    with open_at(server) as repository, pytest.raises(RegistryError):
        repository.push_blob(Descriptor.of("application/wasm", LARGE), LARGE)
    assert len(server.requests) <= 24


def test_a_source_that_ends_early_is_told(server: Misbehaving, tmp_path: Path) -> None:
    """A file that somebody cuts while it is sent."""
    path = tmp_path / "blob"
    path.write_bytes(LARGE)
    descriptor = Descriptor.of("application/wasm", LARGE)

    def route(handler: Handler) -> None:
        path.write_bytes(LARGE[:100])
        reply(handler, 202, Location="/upload")

    server.route = route
    with open_at(server) as repository, pytest.raises(ContentError, match="the source ends"):
        repository.push_blob(descriptor, path)
