"""Registries, realms and stores that fish for secrets: each secret goes where it belongs only."""

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    AuthenticationError,
    Credential,
    CredentialSource,
    Descriptor,
    Given,
    HttpLocation,
    HttpSettings,
    KeptConnections,
    NetworkError,
    RegistryError,
    Repository,
    open_repository,
)
from support.registry import PASSWORD, PLUGIN_ID, USER, Misbehaving, Request, misbehaving, reply

BLOB = b"twelve bytes"
DESCRIPTOR = Descriptor.of("application/wasm", BLOB)
SETTINGS = HttpSettings(backoff_s=0, max_retry_after_s=0, read_timeout_s=2, total_timeout_s=4)
JANE = Credential(USER, PASSWORD)
TOKEN = "the.access.token"
Handler = BaseHTTPRequestHandler
Use = Callable[[Repository], object]


@pytest.fixture
def registry() -> Iterator[Misbehaving]:
    """The registry whose password Jane has."""
    with misbehaving() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Misbehaving]:
    """Another host: a store, a realm, or an attacker's."""
    with misbehaving() as running:
        yield running


def open_at(server: Misbehaving, credentials: CredentialSource | None = None) -> Repository:
    """Open the repository as Jane."""
    return open_repository(
        HttpLocation(server.host, f"plugins/{PLUGIN_ID}"),
        files=Files(),
        http=SETTINGS,
        credentials=credentials or Given(server.host, JANE),
    )


def secrets_in(request: Request) -> list[str]:
    """What a request tells of Jane."""
    text = f"{request.path} {request.headers} {request.body.decode(errors='replace')}"
    return [secret for secret in (*JANE.secrets, TOKEN) if secret in text]


def challenge(handler: Handler, realm: Misbehaving, *, scheme: str = "http") -> None:
    """Ask for a token."""
    said = f'Bearer realm="{scheme}://{realm.host}/token",service="s"'
    reply(handler, 401, WWW_Authenticate=said)


def gives_tokens(handler: Handler) -> None:
    """Be a realm."""
    reply(handler, 200, json.dumps({"token": TOKEN, "expires_in": 300}).encode())


def has_token(handler: Handler) -> bool:
    """Whether a request brought the token."""
    return handler.headers.get("Authorization") == f"Bearer {TOKEN}"


def links_to(target: str) -> Callable[[Handler], None]:
    """A registry that sends every request on, once it has the token or a password."""

    def route(handler: Handler) -> None:
        if "tags" in handler.path:
            reply(handler, 200, b'{"tags":["a"]}', Link=f'<{target}>; rel="next"')
        elif handler.command in {"POST", "PUT"}:
            reply(handler, 202, Location=target)
        else:
            reply(handler, 307, Location=target)

    return route


WAYS: dict[str, Use] = {
    "blob": lambda repository: repository.read_blob(DESCRIPTOR, max_bytes=100),
    "manifest": lambda repository: repository.manifest("0.1.0"),
    "look-up": lambda repository: repository.resolve("0.1.0"),
    "tags": lambda repository: repository.tags(),
    "upload": lambda repository: repository.push_blob(DESCRIPTOR, BLOB),
}


@pytest.mark.parametrize("bearer", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_a_secret_elsewhere(
    registry: Misbehaving, other: Misbehaving, way: str, *, bearer: bool
) -> None:
    """Redirects, pages and upload places on another origin see neither password nor token."""
    with misbehaving() as realm:
        realm.route = gives_tokens
        onward = links_to(f"http://{other.host}/x")
        registry.route = lambda handler: (
            onward(handler) if not bearer or has_token(handler) else challenge(handler, realm)
        )
        other.route = lambda handler: reply(
            handler, 401, WWW_Authenticate=f'Basic realm=x, Bearer realm="http://{other.host}/t"'
        )
        with open_at(registry) as repository, pytest.raises(RegistryError):
            WAYS[way](repository)
    assert [secrets_in(request) for request in other.requests] == [[]] * len(other.requests)
    # A page of tags is not even asked for there; nothing else asks twice, or a realm.
    assert len(other.requests) == (0 if way == "tags" else 1)
    assert all(secrets_in(request) for request in registry.requests)


def test_another_scheme_or_port_is_elsewhere(registry: Misbehaving, other: Misbehaving) -> None:
    """The same machine under another name or port is another origin."""
    port = registry.host.rpartition(":")[2]
    for target in (f"http://{other.host}/x", f"http://localhost:{port}/x"):
        registry.requests.clear()
        registry.route = lambda handler, target=target: (
            reply(handler, 307, Location=target)
            if handler.path != "/x"
            else reply(handler, 200, BLOB)
        )
        other.route = lambda handler: reply(handler, 200, BLOB)
        with open_at(registry) as repository:
            assert repository.read_blob(DESCRIPTOR, max_bytes=100) == BLOB
        last = [*registry.requests, *other.requests][-1]
        assert last.path == "/x"
        assert not secrets_in(last)


FOREIGN = (r"http://{other}\@{ours}/x", "http://{other}@{ours}/x", "http://{other}\t@{ours}/x")


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("way", WAYS)
def test_a_host_that_can_be_read_in_two_ways_is_not_followed(
    registry: Misbehaving, other: Misbehaving, way: str, target: str
) -> None:
    """A store that we were sent to sends on to what looks like the registry, and is the store."""
    onward = links_to(target.format(other=other.host, ours=registry.host))
    registry.route = onward if way == "tags" else links_to(f"http://{other.host}/y")
    other.route = onward
    with open_at(registry) as repository, pytest.raises(RegistryError):
        WAYS[way](repository)
    assert [secrets_in(request) for request in other.requests] == [[]] * len(other.requests)
    assert len(registry.requests) == 1


def test_the_password_is_the_realm_s_and_the_token_the_registry_s(
    registry: Misbehaving, other: Misbehaving
) -> None:
    """Each is seen by one of them, after the first request that had to guess."""
    other.route = gives_tokens
    registry.route = lambda handler: (
        reply(handler, 200, b'{"tags":["0.1.0"]}')
        if has_token(handler)
        else challenge(handler, other)
    )
    with open_at(registry) as repository:
        for _ in range(3):
            assert repository.tags() == ("0.1.0",)
    (asked,) = other.requests
    assert TOKEN not in secrets_in(asked)
    assert asked.headers["Authorization"] == JANE.basic
    said = [request.headers["Authorization"] for request in registry.requests]
    assert said == [JANE.basic, *[f"Bearer {TOKEN}"] * 3]


def test_a_realm_that_sends_us_on_is_not_followed(
    registry: Misbehaving, other: Misbehaving
) -> None:
    """The credential is for the realm that the challenge names."""
    registry.route = lambda handler: challenge(handler, registry)
    with misbehaving() as realm:
        realm.route = lambda handler: reply(handler, 307, Location=f"http://{other.host}/token")
        registry.route = lambda handler: challenge(handler, realm)
        other.route = gives_tokens
        with open_at(registry) as repository, pytest.raises(AuthenticationError):
            repository.tags()
    assert not other.requests


def test_a_realm_that_moved_is_found_again(registry: Misbehaving, other: Misbehaving) -> None:
    """In a process that runs for months: the registry's next challenge names the new one."""
    kept = KeptConnections()
    location = HttpLocation(registry.host, f"plugins/{PLUGIN_ID}")

    def look(name: str) -> None:
        with open_repository(
            replace(location, name=name),
            files=Files(),
            http=SETTINGS,
            credentials=Given(registry.host, JANE),
            connections=kept,
        ) as repository:
            repository.tags()

    def names(realm: Misbehaving) -> None:
        registry.route = lambda handler: (
            reply(handler, 200, b'{"tags":[]}') if has_token(handler) else challenge(handler, realm)
        )

    def gives_one(handler: Handler) -> None:
        gives_tokens(handler)
        handler.close_connection = True

    with misbehaving() as old:
        old.route = gives_one
        names(old)
        look("plugins/org.example.a")
    other.route = gives_tokens
    names(other)
    look("plugins/org.example.b")
    look("plugins/org.example.c")
    assert len(other.requests) == 2
    # It is there still, and has moved all the same.
    other.route = lambda handler: reply(handler, 404)
    with misbehaving() as third:
        third.route = gives_tokens
        names(third)
        look("plugins/org.example.d")
    kept.close()


def test_a_registry_that_never_has_enough_is_given_up(
    registry: Misbehaving, other: Misbehaving
) -> None:
    """A wider scope with every answer: two tokens, then 4."""
    other.route = lambda handler: reply(
        handler, 200, json.dumps({"token": f"token-{len(other.requests)}"}).encode()
    )

    def greedy(handler: Handler) -> None:
        count = len(registry.requests)
        scope = f"repository:r{count}:pull,push,delete"
        said = f'Bearer realm="http://{other.host}/token",service=s,scope="{scope}"'
        reply(handler, 401, WWW_Authenticate=said)

    registry.route = greedy
    with open_at(registry) as repository, pytest.raises(AuthenticationError):
        repository.tags()
    assert len(registry.requests) == 3
    assert len(other.requests) == 2


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "Negotiate", "Digest", "", "Bearer"])
def test_a_challenge_that_asks_for_what_was_sent_is_an_error(
    registry: Misbehaving, scheme: str
) -> None:
    """No loop: what was refused once is not said again."""
    registry.route = lambda handler: reply(handler, 401, WWW_Authenticate=f'{scheme} realm="x"')
    with open_at(registry) as repository, pytest.raises(AuthenticationError):
        repository.tags()
    assert len(registry.requests) == 1


def flood(handler: Handler) -> None:
    """A token that never ends."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")


BAD_REALMS: dict[str, tuple[Callable[[Handler], None], type[RegistryError]]] = {
    "flood": (flood, RegistryError),
    "no JSON": (lambda h: reply(h, 200, b"<html>"), AuthenticationError),
    "header in token": (
        lambda h: reply(h, 200, b'{"token":"a\\r\\nX-Evil: 1"}'),
        AuthenticationError,
    ),
    "compressed": (lambda h: reply(h, 200, b"\x1f\x8b", Content_Encoding="gzip"), RegistryError),
    "refused": (lambda h: reply(h, 403), AuthenticationError),
    "gone": (lambda h: reply(h, 404), AuthenticationError),
    "broken": (lambda h: reply(h, 503), NetworkError),
    "asks back": (lambda h: reply(h, 401, WWW_Authenticate="Basic"), AuthenticationError),
}


@pytest.mark.parametrize("case", BAD_REALMS)
def test_a_bad_realm_is_an_error(registry: Misbehaving, other: Misbehaving, case: str) -> None:
    """Typed, soon, and without any secret in it."""
    other.route, kind = BAD_REALMS[case]
    registry.route = lambda handler: challenge(handler, other)
    with open_at(registry) as repository, pytest.raises(kind) as caught:
        repository.tags()
    assert not any(secret in str(caught.value) for secret in JANE.secrets)


def test_a_realm_that_says_nothing_is_given_up(registry: Misbehaving, other: Misbehaving) -> None:
    """It is part of the operation, and ends with it."""
    other.route = lambda handler: reply(handler, 200 + other.over.wait(60))
    registry.route = lambda handler: challenge(handler, other)
    with open_at(registry) as repository, pytest.raises(NetworkError):
        repository.tags()


@pytest.mark.parametrize(
    "where", ["message", "code", "realm", "userinfo", "path", "token", "realm's answer"]
)
def test_a_registry_that_repeats_what_we_sent_is_not_shown(
    registry: Misbehaving, other: Misbehaving, tmp_path: Path, where: str
) -> None:
    """What goes into terminals and logs has no password in it, whoever wrote the text."""
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    texts = f"you sent {pair}, that is {PASSWORD}, as Basic {pair}, or {TOKEN}"
    error = {"code": texts if where == "code" else "X", "message": texts}
    other.route = (
        gives_tokens
        if where != "realm's answer"
        else lambda handler: reply(handler, 400, json.dumps({"errors": [error]}).encode())
    )

    def route(handler: Handler) -> None:
        if where == "realm":
            reply(handler, 401, WWW_Authenticate=f'Bearer realm="{texts}"')
        elif where == "path" and handler.path != f"/{pair}":
            reply(handler, 307, Location=f"/{pair}")
        elif where == "realm's answer" or (where == "token" and not has_token(handler)):
            challenge(handler, other)
        elif where == "userinfo":
            reply(handler, 307, Location=f"ftp://{USER}:{PASSWORD.replace(' ', '')}@h/?{pair}")
        else:
            reply(handler, 403, json.dumps({"errors": [error]}).encode())

    registry.route = route
    with open_at(registry) as repository, pytest.raises(RegistryError) as caught:
        repository.fetch_blob(DESCRIPTOR, tmp_path / "blob")
    for secret in (*JANE.secrets, PASSWORD.replace(" ", ""), *([TOKEN] * (where == "token"))):
        # Spans and logs get the whole chain.
        assert secret not in "".join(traceback.format_exception(caught.value))


def test_the_netrc_is_not_read(
    registry: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other programs keep for this host is theirs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    registry.route = lambda handler: reply(handler, 200, b'{"tags":[]}')
    location = HttpLocation(registry.host, PLUGIN_ID)
    with open_repository(location, files=Files(), http=SETTINGS) as repository:
        repository.tags()
    assert "Authorization" not in registry.requests[0].headers
