"""Token authentication against a real docker-registry and a realm that remembers what was asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    AuthenticationError,
    Credential,
    CredentialFiles,
    CredentialSource,
    Given,
    HttpLocation,
    KeptConnections,
    Repository,
    Timing,
    check_login,
    open_repository,
    push_artifact,
)
from registry.parallel import AT_ONCE
from support.realm import IDENTITY_TOKEN, TokenRealm, token_realm
from support.registry import PASSWORD, PLUGIN_ID, USER, docker_registry, make_artifact

PULL = [f"repository:team/{PLUGIN_ID}:pull"]
PUSH = [f"repository:team/{PLUGIN_ID}:pull,push"]


@dataclass
class World:
    """A registry, its realm, and a clock that the tests move."""

    host: str
    realm: TokenRealm
    connections: KeptConnections
    now_s: float = 0.0

    def open(self, who: CredentialSource, name: str = f"team/{PLUGIN_ID}") -> Repository:
        """Open a repository as somebody."""
        return open_repository(
            HttpLocation(self.host, name),
            files=Files(),
            credentials=who,
            connections=self.connections,
        )

    @property
    def jane(self) -> Given:
        """Who may push."""
        return Given(self.host, Credential(USER, PASSWORD))


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """Run both."""
    storage = folder / "storage"
    storage.mkdir()
    with token_realm(folder) as realm, docker_registry(storage, more=realm.lines()) as host:
        world = World(host, realm, KeptConnections())
        world.connections = KeptConnections(replace(Timing(), clock=lambda: world.now_s))
        yield world
        world.connections.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A registry with a release in it; the realm has forgotten the push."""
    with world_in(tmp_path) as running:
        built = make_artifact(tmp_path)
        with running.open(running.jane) as repository:
            push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
        running.connections.close()
        running.connections = KeptConnections(running.connections.timing)
        running.realm.asked.clear()
        running.realm.who.clear()
        yield running


def test_a_push_asks_for_one_token(tmp_path: Path) -> None:
    """Pull and push together, up front: look-ups, blobs and manifest are one token's."""
    with world_in(tmp_path) as world:
        built = make_artifact(tmp_path)
        with world.open(world.jane) as repository:
            push_artifact(repository, built, built.sources, tags=["0.1.0", "stable"], force=False)
            assert repository.resolve("stable").digest == built.digest
        # The look-up at the end reads, and has a token of its own.
        assert world.realm.asked == [PUSH, PULL]
        assert set(world.realm.who) == {"basic"}


def test_anonymous_pulls_with_a_token(world: World, tmp_path: Path) -> None:
    """Where a registry wants a token of everyone, nobody's will do."""
    with world.open(Anonymous()) as repository:
        manifest = repository.manifest("0.1.0")
        repository.fetch_blob(manifest.layers[0], tmp_path / "got")
        assert repository.tags() == ("0.1.0",)
    assert world.realm.asked == [PULL]
    assert world.realm.who == ["anonymous"]


def test_anonymous_may_not_push(world: World, tmp_path: Path) -> None:
    """A token that allows less than was asked for ends as 4, after one more try of each blob."""
    built = make_artifact(tmp_path, version="0.2.0")
    with world.open(Anonymous()) as repository, pytest.raises(AuthenticationError) as caught:
        push_artifact(repository, built, built.sources, tags=["0.2.0"], force=False)
    assert f"agent login {world.host}" in str(caught.value)
    assert len(world.realm.asked) <= 1 + AT_ONCE


def test_repositories_of_a_registry_ask_once_each(world: World) -> None:
    """The realm is known from the first: the second repository's first request has its token."""
    for _ in range(2):
        for name in (f"team/{PLUGIN_ID}", "team/org.example.other"):
            with world.open(world.jane, name) as repository:
                repository.tagged("0.1.0")
    assert world.realm.asked == [PUSH, ["repository:team/org.example.other:pull,push"]]


def test_a_token_is_not_another_s(world: World) -> None:
    """What Jane got is not sent for anybody else over the same connections."""
    with world.open(world.jane) as repository:
        repository.tags()
    with world.open(Anonymous()) as repository:
        repository.tags()
    assert world.realm.who == ["basic", "anonymous"]


def test_a_token_is_got_anew_before_it_expires(world: World) -> None:
    """``expires_in`` counts, with a margin; until then no second token is asked for."""
    world.realm.lasts_s = 100
    with world.open(world.jane) as repository:
        for now_s, tokens in ((0.0, 1), (89.0, 1), (91.0, 2), (180.0, 2), (182.0, 3)):
            world.now_s = now_s
            repository.tags()
            assert len(world.realm.asked) == tokens, now_s


def test_a_refused_token_is_replaced_once(world: World) -> None:
    """One that the registry takes for expired is asked for anew; a second such ends as 4."""
    with world.open(world.jane) as repository:
        repository.tags()
        world.now_s = 1000.0
        world.realm.stale = 1
        assert repository.tags() == ("0.1.0",)
        assert len(world.realm.asked) == 3
        world.now_s = 2000.0
        world.realm.stale = 99
        with pytest.raises(AuthenticationError):
            repository.tags()
        assert len(world.realm.asked) <= 6


def test_a_wrong_password_is_told(world: World) -> None:
    """The realm says no: 4, and neither password nor its encoding is in the message."""
    wrong = Credential(USER, "hunter2")
    with (
        world.open(Given(world.host, wrong)) as repository,
        pytest.raises(AuthenticationError) as caught,
    ):
        repository.tags()
    assert f"agent login {world.host}" in str(caught.value)
    for secret in wrong.secrets:
        assert secret not in str(caught.value)
    with pytest.raises(AuthenticationError):
        check_login(world.host, wrong)


def test_an_identity_token_is_exchanged(world: World, tmp_path: Path) -> None:
    """OAuth2: the refresh token of the docker config goes to the realm alone, in a form."""
    docker = tmp_path / "docker"
    docker.mkdir()
    entry = {"auth": "PHRva2VuPjo=", "identitytoken": IDENTITY_TOKEN}
    (docker / "config.json").write_text(json.dumps({"auths": {world.host: entry}}))
    credentials = CredentialFiles.from_environment({"DOCKER_CONFIG": str(docker)}, tmp_path)
    built = make_artifact(tmp_path, version="0.2.0")
    with world.open(credentials) as repository:
        push_artifact(repository, built, built.sources, tags=["0.2.0"], force=False)
    assert (world.realm.asked, world.realm.who) == ([PUSH], ["refresh"])
    sent = world.realm.server.requests[-1]
    assert "Authorization" not in sent.headers
    assert IDENTITY_TOKEN not in sent.path
    check_login(world.host, Credential(identity_token=IDENTITY_TOKEN))
    with pytest.raises(AuthenticationError):
        check_login(world.host, Credential(identity_token="another"))


def test_a_login_is_checked_at_the_realm(world: World) -> None:
    """What ``agent login`` asks before it keeps a password."""
    check_login(world.host, Credential(USER, PASSWORD))
    assert (world.realm.asked, world.realm.who) == ([[]], ["basic"])
