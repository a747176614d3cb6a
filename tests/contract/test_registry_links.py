"""Links that break, to a real docker-registry: what went over is not sent again."""

import random
from collections.abc import Iterator
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
    NetworkError,
    Repository,
    open_repository,
    sha256_digest,
)
from support.links import Link, breaking_link
from support.registry import PLUGIN_ID, docker_registry, misbehaving, reply
from support.tls import nginx

SIZE_BYTES = 32 << 20
EVERY_BYTES = 5 << 20
BLOB = random.Random(1).randbytes(SIZE_BYTES)  # noqa: S311 - any bytes will do
DESCRIPTOR = Descriptor.of("application/wasm", BLOB)
SETTINGS = HttpSettings(backoff_s=0.01, max_retry_after_s=0)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def link(registry: str) -> Iterator[Link]:
    """A link to it."""
    with breaking_link(registry) as running:
        yield running


@pytest.fixture
def repository(link: Link, tmp_path: Path) -> Iterator[Repository]:
    """A repository behind the link, of this test alone."""
    yield from opened(link.host, tmp_path)


def opened(host: str, folder: Path) -> Iterator[Repository]:
    """Open a repository with a name of its own."""
    location = HttpLocation(host, f"r{abs(hash(folder))}/{PLUGIN_ID}")
    with open_repository(
        location, files=Files(), http=SETTINGS, credentials=Anonymous()
    ) as repository:
        yield repository


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The blob as a file."""
    path = tmp_path / "blob"
    path.write_bytes(BLOB)
    return path


def test_a_download_goes_on_where_it_broke(
    repository: Repository, link: Link, source: Path, tmp_path: Path
) -> None:
    """More breaks than attempts, as long as it gets on; no more than 1.05 × the bytes come."""
    repository.push_blob(DESCRIPTOR, source)
    link.down, link.connections, link.down_every = 0, 0, EVERY_BYTES
    pieces: list[int] = []
    repository.fetch_blob(DESCRIPTOR, tmp_path / "got", progress=pieces.append)
    assert (tmp_path / "got").read_bytes() == BLOB
    assert link.connections > SETTINGS.attempts
    assert link.down <= 1.05 * SIZE_BYTES
    assert sum(pieces) == SIZE_BYTES
    assert repository.read_blob(DESCRIPTOR, max_bytes=SIZE_BYTES) == BLOB


def test_a_download_that_does_not_get_on_is_given_up(
    repository: Repository, link: Link, source: Path, tmp_path: Path
) -> None:
    """A few KiB a connection: after three in a row it is a network error, and no file is left."""
    repository.push_blob(DESCRIPTOR, source)
    link.connections, link.down_every = 0, 20_000
    (tmp_path / "into").mkdir()
    with pytest.raises(NetworkError):
        repository.fetch_blob(DESCRIPTOR, tmp_path / "into" / "got")
    assert link.connections <= SETTINGS.attempts + 1
    assert not list((tmp_path / "into").iterdir())


def test_an_upload_goes_on_where_it_broke(source: Path, tmp_path: Path) -> None:
    """A registry that keeps what came is asked what it has; that is not sent again.

    docker-registry 2.8 drops an upload whose request was cut, so this one is our own.
    """
    kept = bytearray()

    def route(handler: BaseHTTPRequestHandler) -> None:
        request = server.requests[-1]
        place, has = f"/upload?state={len(kept)}", f"0-{max(len(kept) - 1, 0)}"
        if request.method == "POST":
            kept.clear()
            reply(handler, 202, Location=place)
        elif request.method == "PATCH":
            said = f"{len(kept)}-{SIZE_BYTES - 1}" if kept else None
            assert request.headers.get("Content-Range") == said
            kept.extend(request.body)
            reply(handler, 202, Location="/upload?state=done")
        elif request.method == "PUT":
            assert f"digest={DESCRIPTOR.digest}" in request.path
            reply(handler, 201 if sha256_digest(bytes(kept)) == DESCRIPTOR.digest else 400)
        else:
            reply(handler, 204, Location=place, Range=has)

    with misbehaving() as server, breaking_link(server.host) as link:
        server.route = route
        link.up_every, link.cuts = EVERY_BYTES, 4
        for repository in opened(link.host, tmp_path):
            repository.push_blob(DESCRIPTOR, source)
        assert link.cuts == 0
        assert link.up <= 1.3 * SIZE_BYTES
    methods = [request.method for request in server.requests]
    assert methods == ["POST", *["PATCH", "GET"] * 4, "PATCH", "PUT"]


def test_an_upload_that_was_dropped_begins_anew(
    repository: Repository, link: Link, source: Path
) -> None:
    """docker-registry forgets what came by a request that was cut: all of it once more."""
    link.up_every, link.cuts = EVERY_BYTES, 2
    repository.push_blob(DESCRIPTOR, source)
    assert link.cuts == 0
    assert repository.read_blob(DESCRIPTOR, max_bytes=SIZE_BYTES) == BLOB
    other = Descriptor.of("application/wasm", BLOB[1:])
    source.write_bytes(BLOB[1:])
    link.cuts = 99
    with pytest.raises(NetworkError):
        repository.push_blob(other, source)


def test_a_small_upload_begins_anew(repository: Repository, link: Link) -> None:
    """One request with all of it, cut in the middle: once more from the start."""
    blob = BLOB[: 1 << 20]
    descriptor = Descriptor.of("application/wasm", blob)
    link.up_every, link.cuts = 1 << 19, 2
    repository.push_blob(descriptor, blob)
    assert repository.read_blob(descriptor, max_bytes=1 << 20) == blob


def test_bytes_that_changed_are_not_uploaded(
    repository: Repository, link: Link, source: Path
) -> None:
    """What the registry got in parts has to be the blob as a whole: it checks, and we say so."""
    with source.open("r+b") as file:
        file.seek(SIZE_BYTES - 1)
        file.write(b"x")
    link.up_every, link.cuts = EVERY_BYTES, 2
    with pytest.raises(ContentError, match="DIGEST_INVALID"):
        repository.push_blob(DESCRIPTOR, source)
    assert not repository.has_blob(DESCRIPTOR)


def test_a_gateway_that_takes_no_large_bodies_gets_chunks(
    registry: str, source: Path, tmp_path: Path
) -> None:
    """413 for the whole: in parts of 8 MiB it goes through; if those do not either, it is told."""
    (tmp_path / "nginx").mkdir()
    with nginx(tmp_path / "nginx", registry, max_body="9m") as host:
        for repository in opened(host, tmp_path):
            repository.push_blob(DESCRIPTOR, source)
            assert repository.has_blob(DESCRIPTOR)
    (tmp_path / "narrow").mkdir()
    with nginx(tmp_path / "narrow", registry, max_body="1m") as host:
        for repository in opened(host, tmp_path / "other"):
            with pytest.raises(ContentError, match="413"):
                repository.push_blob(DESCRIPTOR, source)
