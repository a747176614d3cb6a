"""What is asked of a realm, and what of its answers is believed."""

import json
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from registry import AuthenticationError, Credential, HttpSettings
from registry.tokens import KeptTokens, Realm, Token, TokenRequest, merged
from registry.transport import Transport

HTTPS, HTTP = "https://registry.example.com", "http://registry.example.com"
REALM = Realm("https://auth.example.com/token?x=1", "registry.example.com")


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        (HTTPS, "https://auth.elsewhere.example/token"),
        (HTTP, "https://auth.elsewhere.example/token"),
        (HTTP, "http://registry.example.com:5001/token"),
    ],
)
def test_a_realm_that_is_trusted(registry: str, realm: str) -> None:
    """Https anywhere, for the one request that the challenge asks for; http for http alone."""
    assert Realm.of({"realm": realm, "service": "s"}, registry) == Realm(realm, "s")


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "token",
        "/token",
        "//auth.example.com/token",
        "http://registry.example.com/token",
        "ftp://auth.example.com/token",
        "file:///etc/passwd",
        "https://",
        "https://[::1",
        "https://h:port/",
        "https://jane:hunter2@auth.example.com/token",
        "https://auth.example.com\\.registry.example.com/token",
        "https://auth.example.com\t/token",
    ],
)
def test_a_realm_that_is_not(realm: str) -> None:
    """Nothing is sent in the clear for an https registry, nor to what is no URL of a host."""
    with pytest.raises(AuthenticationError, match="expected an https URL") as caught:
        Realm.of({"realm": realm}, HTTPS)
    assert "hunter2" not in str(caught.value)


def test_what_is_asked() -> None:
    """GET with the scopes and Basic, or a form with the identity token and nothing else secret."""
    scopes = {"repository:b:pull", "repository:a:pull,push"}
    asked = TokenRequest.of(REALM, scopes, Credential("jane", "hunter2"))
    assert asked.method == "GET"
    assert parse_qs(urlsplit(asked.url).query) == {
        "x": ["1"],
        "service": [REALM.service],
        "scope": ["repository:a:pull,push", "repository:b:pull"],
    }
    assert asked.authorization == Credential("jane", "hunter2").basic
    asked = TokenRequest.of(REALM, scopes, Credential(identity_token="hunter2"))
    assert (asked.method, asked.url, asked.authorization) == ("POST", REALM.url, None)
    assert parse_qs((asked.form or b"").decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["stack-composer"],
        "refresh_token": ["hunter2"],
        "service": [REALM.service],
        "scope": ["repository:a:pull,push repository:b:pull"],
    }
    assert "hunter2" not in repr(asked)
    bare = TokenRequest.of(Realm("https://h/t", ""), [], None)
    assert (bare.url, bare.authorization) == ("https://h/t", None)


@pytest.mark.parametrize(
    ("answer", "until_s"),
    [
        ({"token": "abc"}, 154.0),
        ({"access_token": "abc", "expires_in": 300}, 390.0),
        ({"token": "abc", "access_token": "other", "expires_in": 10}, 109.0),
        ({"token": "abc", "expires_in": 10**12}, 100 + 86400 - 10),
        ({"token": "abc", "expires_in": 10**400}, 100 + 86400 - 10),
        ({"token": "abc", "expires_in": -5}, 154.0),
        ({"token": "abc", "expires_in": "300"}, 154.0),
        ({"token": "abc", "expires_in": True}, 154.0),
    ],
)
def test_how_long_a_token_lasts(answer: dict[str, object], until_s: float) -> None:
    """``expires_in`` less a margin; a minute where it is missing or nonsense, a day at most."""
    token = Token.parse(json.dumps(answer).encode(), REALM.url, 100.0)
    assert (token.text, token.until_s) == ("abc", until_s)
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token":5}',
        b'{"token":""}',
        b'{"token":"a\\r\\nX-Evil: 1"}',
        b'{"token":"a b"}',
        b'{"token":"' + b"a" * 70_000 + b'"}',
        b'{"token":"a","token":"b"}',
        b'{"token":' * 10_000,
    ],
)
def test_what_is_no_token_is_refused(raw: bytes) -> None:
    """Nothing that could end or change a header is ever put into one."""
    with pytest.raises(AuthenticationError):
        Token.parse(raw, REALM.url, 0.0)


def test_docker_hub_is_not_where_its_name_says() -> None:
    """References and logins say docker.io; the API is elsewhere, and no other host's."""
    assert Transport("docker.io", "x", HttpSettings(), None).origin == (
        "https://registry-1.docker.io"
    )
    assert Transport("ghcr.io", "x", HttpSettings(), None).origin == "https://ghcr.io"


def test_scopes_are_merged() -> None:
    """One for each resource, with all actions; what is none is left out, and so is a flood."""
    assert merged(["repository:a:pull", "repository:a:push", "x", "registry:catalog:*"]) == {
        "repository:a:pull,push",
        "registry:catalog:*",
    }
    assert merged(["repository:h:5000/a:pull"]) == {"repository:h:5000/a:pull"}
    assert len(merged(f"repository:{number}:pull" for number in range(1000))) == 16


def test_threads_that_need_a_token_ask_once() -> None:
    """The others wait for it."""
    kept, asked, gate = KeptTokens(), [], threading.Barrier(4)
    got: list[str] = []

    def ask() -> Token:
        asked.append(1)
        return Token("abc", 100.0)

    def need() -> None:
        gate.wait(30)
        token = kept.get(HTTPS, REALM, frozenset(), None, spent=None, now_s=lambda: 0.0, ask=ask)
        got.append(token.text)

    threads = [threading.Thread(target=need) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (got, asked) == (["abc"] * 4, [1])
