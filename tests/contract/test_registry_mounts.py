"""Blobs that the registry has in another repository are not sent again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    BuiltArtifact,
    Credential,
    CredentialSource,
    Given,
    HttpLocation,
    Location,
    Repository,
    open_repository,
    push_artifact,
)
from support.links import Link, breaking_link
from support.realm import token_realm
from support.registry import PASSWORD, PLUGIN_ID, USER, docker_registry, make_artifact

STAGING, PRODUCTION = f"staging/{PLUGIN_ID}", f"production/{PLUGIN_ID}"
PAYLOAD = bytes(range(256)) * 1024


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """A docker-registry, behind a link that counts."""
    (tmp_path / "storage").mkdir()
    with docker_registry(tmp_path / "storage") as host, breaking_link(host) as running:
        yield running


def open_at(
    host: str, name: str, sibling: Location | None, who: CredentialSource | None = None
) -> Repository:
    """Open a repository beside another."""
    return open_repository(
        HttpLocation(host, name), files=Files(), credentials=who or Anonymous(), sibling=sibling
    )


def push(repository: Repository, built: BuiltArtifact) -> int:
    """Push an artifact; the bytes of its blobs that were sent."""
    sent: list[int] = []
    push_artifact(
        repository, built, built.sources, tags=["0.1.0"], force=False, progress=sent.append
    )
    assert repository.manifest("0.1.0").raw == built.manifest_raw
    return sum(sent)


def test_what_a_sibling_has_is_mounted(link: Link, tmp_path: Path) -> None:
    """Pushed on from staging to production: the manifest and no blob."""
    built = make_artifact(tmp_path, payload=PAYLOAD)
    with open_at(link.host, STAGING, None) as repository:
        assert push(repository, built) > len(PAYLOAD)
    link.up = 0
    with open_at(link.host, PRODUCTION, HttpLocation(link.host, STAGING)) as repository:
        assert push(repository, built) == 0
        repository.fetch_blob(built.layers[0], tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == PAYLOAD
    assert link.up < 10_000


@pytest.mark.parametrize(
    "sibling",
    [
        HttpLocation("127.0.0.1:1", STAGING),
        HttpLocation("HOST", STAGING),
        HttpLocation("HOST", PRODUCTION),
        None,
    ],
)
def test_what_it_has_not_is_sent(link: Link, tmp_path: Path, sibling: HttpLocation | None) -> None:
    """One on another registry, one that is not there, itself, or none: all is uploaded."""
    built = make_artifact(tmp_path, payload=PAYLOAD)
    near = sibling and HttpLocation(sibling.host.replace("HOST", link.host), sibling.name)
    with open_at(link.host, PRODUCTION, near) as repository:
        assert push(repository, built) > len(PAYLOAD)


def test_the_token_covers_the_sibling(tmp_path: Path) -> None:
    """One token: push here and pull there."""
    (tmp_path / "storage").mkdir()
    built = make_artifact(tmp_path, payload=PAYLOAD)
    with (
        token_realm(tmp_path) as realm,
        docker_registry(tmp_path / "storage", more=realm.lines()) as host,
    ):
        jane = Given(host, Credential(USER, PASSWORD))
        with open_at(host, STAGING, None, jane) as repository:
            push(repository, built)
        realm.asked.clear()
        with open_at(host, PRODUCTION, HttpLocation(host, STAGING), jane) as repository:
            assert push(repository, built) == 0
    assert realm.asked[0] == [f"repository:{PRODUCTION}:pull,push", f"repository:{STAGING}:pull"]
