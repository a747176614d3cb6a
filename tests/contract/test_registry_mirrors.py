"""A docker-registry as pull-through mirror of another, and mirrors that lie or are not there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    BuiltArtifact,
    ContentError,
    Credential,
    CredentialSource,
    HttpLocation,
    HttpSettings,
    KeptConnections,
    NetworkError,
    ReferenceFormatError,
    Repository,
    open_repository,
    push_artifact,
)
from support.links import breaking_link
from support.registry import (
    PASSWORD,
    PLUGIN_ID,
    USER,
    Misbehaving,
    docker_registry,
    make_artifact,
    misbehaving,
    reply,
)

NAME = f"plugins/{PLUGIN_ID}"
QUICK = HttpSettings(backoff_s=0, max_retry_after_s=0)


@dataclass
class World:
    """A registry with a release, behind a link that counts, and its mirror.

    Attributes:
        host: The registry.
        mirror: Its mirror.
        mirrored: The mirror's storage.
        built: What was released as 0.1.0.
    """

    host: str
    mirror: str
    mirrored: Path
    built: BuiltArtifact


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """Run both."""
    for name in ("storage", "mirrored"):
        (folder / name).mkdir()
    with docker_registry(folder / "storage") as host:
        built = make_artifact(folder)
        with open_at(host) as repository:
            push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
        proxy = [f"proxy: {{remoteurl: 'http://{host}'}}"]
        with docker_registry(folder / "mirrored", more=proxy) as mirror:
            yield World(host, mirror, folder / "mirrored", built)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """See ``world_in``."""
    with world_in(tmp_path) as running:
        yield running


def open_at(
    host: str,
    *mirrors: str,
    credentials: CredentialSource | None = None,
    connections: KeptConnections | None = None,
) -> Repository:
    """Open a repository behind mirrors."""
    return open_repository(
        HttpLocation(host, NAME),
        files=Files(),
        http=QUICK,
        credentials=credentials or Anonymous(),
        connections=connections,
        mirrors=mirrors,
    )


def pull(repository: Repository, built: BuiltArtifact, folder: Path) -> None:
    """Fetch the release and require every byte."""
    manifest = repository.manifest("0.1.0")
    assert manifest.raw == built.manifest_raw
    for number, layer in enumerate(manifest.layers):
        repository.fetch_blob(layer, folder / str(number))
        assert repository.read_blob(layer, max_bytes=1000) == (folder / str(number)).read_bytes()


def test_a_pull_comes_through_the_mirror(world: World, tmp_path: Path) -> None:
    """The registry is asked what the tag names, and gives none of the bytes to us."""
    with breaking_link(world.host) as link, open_at(link.host, world.mirror) as repository:
        pull(repository, world.built, tmp_path)
        assert repository.tags() == ("0.1.0",)
        assert link.down < 2000
    for layer in world.built.layers:
        name = layer.digest.removeprefix("sha256:")
        assert list(world.mirrored.rglob(f"{name}/data"))


def test_a_mirror_that_is_not_there_is_done_without(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and not asked again for a while, by any repository of the process."""
    with misbehaving() as gone:
        host = gone.host
    kept = KeptConnections()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with open_at(world.host, host, world.mirror, connections=kept) as repository:
                pull(repository, world.built, tmp_path)
    kept.close()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"mirror {host.partition(':')[0]}"
    ]


def lie(server: Misbehaving, what: str) -> None:
    """Answer everything, wrongly."""
    ways = {
        "other bytes": (200, b"other bytes"),
        "nothing": (404, b""),
        "a login": (401, b""),
        "an error": (500, b""),
        "nonsense": (299, b"?"),
    }
    status, body = ways[what]
    server.route = lambda handler: reply(handler, status, body)


@pytest.mark.parametrize("what", ["other bytes", "nothing", "a login", "an error", "nonsense"])
def test_a_mirror_that_lies_is_passed_over(world: World, tmp_path: Path, what: str) -> None:
    """The digest is the judge: the next one is asked, and the registry in the end."""
    (tmp_path / "into").mkdir()
    with misbehaving() as liar:
        lie(liar, what)
        with open_at(world.host, liar.host) as repository:
            pull(repository, world.built, tmp_path / "into")
        assert liar.requests
    assert len(list((tmp_path / "into").iterdir())) == len(world.built.layers)


def test_a_mirror_does_not_say_what_a_tag_names(world: World, tmp_path: Path) -> None:
    """One that lags behind hides no release."""
    newer = make_artifact(tmp_path, version="0.2.0")
    with open_at(world.host, world.mirror) as repository:
        assert repository.tags() == ("0.1.0",)
        push_artifact(repository, newer, newer.sources, tags=["0.2.0", "stable"], force=False)
        assert set(repository.tags()) == {"0.1.0", "0.2.0", "stable"}
        assert repository.resolve("stable").digest == newer.digest
    with misbehaving() as liar:
        liar.route = lambda handler: reply(handler, 200, b'{"tags":["9.9.9"]}')
        with open_at(world.host, liar.host) as repository:
            assert "9.9.9" not in repository.tags()
        assert not liar.requests


def test_a_mirror_stands_in_for_a_registry_that_is_gone(world: World, tmp_path: Path) -> None:
    """What it has can still be pulled, by its tag too; what it has not is a network error."""
    with breaking_link(world.host) as link:
        with open_at(link.host, world.mirror) as repository:
            pull(repository, world.built, tmp_path)
        host = link.host
    with open_at(world.mirror) as repository:
        repository.resolve("0.1.0")
    with open_at(host, world.mirror) as repository:
        pull(repository, world.built, tmp_path)
        with pytest.raises(NetworkError, match=host):
            repository.resolve("0.9.0")
        with pytest.raises(NetworkError):
            push_artifact(repository, world.built, world.built.sources, tags=["0.3.0"], force=False)


def test_what_is_wrong_everywhere_is_an_error(tmp_path: Path) -> None:
    """The registry's own answer is the one that counts."""
    with misbehaving() as registry, misbehaving() as liar:
        lie(liar, "nothing")
        registry.route = lambda handler: reply(handler, 200, b"other bytes")
        built = make_artifact(tmp_path)
        (tmp_path / "into").mkdir()
        with open_at(registry.host, liar.host) as repository, pytest.raises(ContentError):
            repository.fetch_blob(built.layers[0], tmp_path / "into" / "got")
    assert not list((tmp_path / "into").iterdir())


class Each:
    """A password of its own for each host."""

    def find(self, host: str, name: str) -> Credential | None:
        """Return it."""
        assert name.endswith(PLUGIN_ID)
        return Credential(USER, f"{PASSWORD} of {host}")


def test_a_mirror_sees_its_own_password_only(tmp_path: Path) -> None:
    """Each host gets what belongs to it, and below its own path."""
    built = make_artifact(tmp_path)
    with misbehaving() as registry, misbehaving() as mirror:
        registry.route = lambda handler: reply(handler, 404)
        mirror.route = lambda handler: reply(handler, 404)
        opened = open_at(registry.host, f"{mirror.host}/cache/of", credentials=Each())
        with opened as repository, pytest.raises(Exception, match="404"):
            repository.read_blob(built.layers[1], max_bytes=1000)
    for server, path in ((registry, f"/v2/{NAME}"), (mirror, f"/v2/cache/of/{NAME}")):
        (request,) = server.requests
        assert request.headers["Authorization"] == Each().find(server.host, NAME).basic  # type: ignore[union-attr]
        assert request.path.startswith(path)


@pytest.mark.parametrize("mirror", ["", "mirror", "oci:/srv", "https://h", "h:0", "h.x/UP", "h.x/"])
def test_what_is_no_mirror_is_refused(mirror: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ReferenceFormatError):
        open_at("registry.example.com", mirror)
