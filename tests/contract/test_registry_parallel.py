"""Several blobs at once: small ones first, four connections, all of them or none."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    Descriptor,
    HttpLocation,
    HttpSettings,
    KeptConnections,
    LayoutLocation,
    LayoutRepository,
    Manifest,
    NotFoundError,
    Repository,
    Timing,
    Wanted,
    fetch_all,
    open_repository,
)
from registry.copying import Courier
from registry.exchange import Body
from registry.model import MANIFEST_MEDIA_TYPE
from registry.parallel import run_all
from registry.sending import Sender
from support.registry import PLUGIN_ID, Misbehaving, misbehaving, reply

WAIT_S = 30
STILL_S = 0.3
BLOBS = [bytes([number]) * (number + 1) * 1000 for number in range(12)]
DESCRIPTORS = [Descriptor.of("application/wasm", blob) for blob in BLOBS]


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server whose route the test sets."""
    with misbehaving() as running:
        yield running


def failure_of(work: Callable[[], None]) -> BaseException | None:
    """What a work raises."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - looked at by the test
        return error
    return None


PATIENT = HttpSettings(attempts=1, read_timeout_s=10 * WAIT_S)


def opened(
    server: Misbehaving, settings: HttpSettings = PATIENT, kept: KeptConnections | None = None
) -> Repository:
    """Open the repository that the server pretends to have."""
    return open_repository(
        HttpLocation(server.host, PLUGIN_ID),
        files=Files(),
        http=settings,
        credentials=Anonymous(),
        connections=kept,
    )


def wanted(folder: Path) -> list[Wanted]:
    """All blobs, large ones first."""
    return [Wanted(one, folder / one.digest[7:]) for one in reversed(DESCRIPTORS)]


def number_of(handler: BaseHTTPRequestHandler) -> int:
    """Which blob is asked for."""
    digest = handler.path.rpartition("/")[2]
    return next(n for n, one in enumerate(DESCRIPTORS) if one.digest == digest)


def test_four_at_once_and_small_ones_first(server: Misbehaving, tmp_path: Path) -> None:
    """The fifth is asked for when one of the first four, the smallest, has come."""
    four, lock = threading.Barrier(4), threading.Lock()
    now, most = 0, 0
    asked: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal now, most
        number = number_of(handler)
        with lock:
            now += 1
            most = max(most, now)
            asked.append(number)
        four.wait(WAIT_S)  # each waits for three more: fewer at once would not get on
        with lock:
            now -= 1
        reply(handler, 200, BLOBS[number])

    server.route = answer
    told: list[int] = []
    with opened(server) as repository:
        fetch_all(repository, wanted(tmp_path), progress=told.append)
    assert most == 4
    assert set(asked[:4]) == {0, 1, 2, 3}
    assert sum(told) == sum(map(len, BLOBS))
    for one, blob in zip(DESCRIPTORS, BLOBS, strict=True):
        assert (tmp_path / one.digest[7:]).read_bytes() == blob


def test_a_copy_moves_four_at_once(server: Misbehaving, tmp_path: Path) -> None:
    """The fifth blob of a release is asked for when one of the first four has come."""
    four = threading.Barrier(4)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        number = number_of(handler)
        four.wait(WAIT_S)  # each waits for three more: fewer at once would not get on
        reply(handler, 200, BLOBS[number])

    server.route = answer
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": DESCRIPTORS[0].document(),
        "layers": [one.document() for one in DESCRIPTORS[1:]],
    }
    manifest = Manifest.parse(json.dumps(document).encode())
    sent: list[int] = []
    target = LayoutRepository(LayoutLocation(tmp_path, PLUGIN_ID), Files())
    with opened(server) as source:
        courier = Courier(source, target, tmp_path, sent.append)
        courier.carry(manifest, tags=["0.1.0"], force=False)
    assert sorted(sent) == [len(blob) for blob in BLOBS]
    assert target.manifest("0.1.0").digest == manifest.digest


def test_one_that_fails_ends_pauses(server: Misbehaving, tmp_path: Path) -> None:
    """Those that wait for their next attempt are over with it, and do not try again."""
    pausing = threading.Semaphore(0)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if number_of(handler):
            reply(handler, 503)
            return
        for _ in range(3):
            assert pausing.acquire(timeout=WAIT_S)
        reply(handler, 404)

    def paused(seconds: float) -> None:
        pausing.release()
        Timing().sleep(seconds)

    server.route = answer
    kept = KeptConnections(Timing(sleep=paused))
    with opened(server, HttpSettings(backoff_s=10 * WAIT_S), kept) as repository:
        fetched = threading.Thread(
            target=lambda: failures.append(
                failure_of(lambda: fetch_all(repository, wanted(tmp_path)))
            )
        )
        failures: list[BaseException | None] = []
        fetched.start()
        fetched.join(WAIT_S)
        assert not fetched.is_alive()
    assert [type(failure) for failure in failures] == [NotFoundError]
    assert len(server.requests) == 4


def test_one_that_fails_ends_sends() -> None:
    """Also those whose peer takes nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(WAIT_S)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        kept = KeptConnections()

        def send() -> None:
            body = Body("text/x", bytes(64 << 20), 64 << 20, progress=lambda _: moved.set())
            settings = HttpSettings(connect_timeout_s=10 * WAIT_S, total_timeout_s=10 * WAIT_S)
            sender = Sender(url, settings, kept, lambda _: settings)
            with sender.operation(0):
                sender.send("PUT", f"{url}/x", {}, body, 1)

        def fail() -> None:
            connection, _ = deaf.accept()
            with connection:
                taken.append(connection.dup())
                assert moved.wait(WAIT_S)
                while moved.wait(STILL_S):  # until what is on the way is full
                    moved.clear()
            raise ZeroDivisionError

        moved = threading.Event()
        taken: list[socket.socket] = []
        failures: list[BaseException | None] = []
        ran = threading.Thread(
            target=lambda: failures.append(failure_of(lambda: run_all([fail, send])))
        )
        ran.start()
        ran.join(WAIT_S)
        assert not ran.is_alive()
        for connection in taken:
            connection.close()
        kept.close()
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


@pytest.mark.parametrize("begun", [False, True], ids=["no answer", "half an answer"])
def test_one_that_fails_ends_the_others(
    server: Misbehaving, tmp_path: Path, *, begun: bool
) -> None:
    """At once: the others wait for a server that says no more. No thread is left."""
    waiting, over = threading.Semaphore(0), threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        number = number_of(handler)
        if number == 0:
            for _ in range(3):
                assert waiting.acquire(timeout=WAIT_S)
            reply(handler, 404)
            return
        if begun:
            blob = BLOBS[number]
            reply(handler, 200, blob[: len(blob) // 2], Content_Length=str(len(blob)))
        waiting.release()
        if not server.over.wait(WAIT_S):
            over.set()  # the client waited for it

    server.route = answer
    with opened(server) as repository, pytest.raises(NotFoundError):
        fetch_all(repository, wanted(tmp_path))
    assert not over.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "blobs"]
    assert not list(tmp_path.iterdir())
    assert len(server.requests) == 4


def test_a_layout_gives_them_too(tmp_path: Path) -> None:
    """Whichever kind of repository it is."""
    location = LayoutLocation(tmp_path, PLUGIN_ID)
    (tmp_path / "got").mkdir()
    with open_repository(location, files=Files()) as repository:
        for one, blob in zip(DESCRIPTORS, BLOBS, strict=True):
            repository.push_blob(one, blob)
        fetch_all(repository, wanted(tmp_path / "got"))
    assert {path.read_bytes() for path in (tmp_path / "got").iterdir()} == set(BLOBS)


def test_what_fails_on_a_thread_is_raised_as_it_is() -> None:
    """Also what is no error of ours."""

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_all([fail, fail, fail])
