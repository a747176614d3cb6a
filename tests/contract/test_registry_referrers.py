"""What hangs on a manifest, in every kind of repository: the API, the fallback tag, layouts."""

import http.client
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.files import Files
from registry import (
    Anonymous,
    ContentError,
    HttpLocation,
    HttpSettings,
    KeptConnections,
    Manifest,
    NetworkError,
    NotFoundError,
    Repository,
    Timing,
    open_repository,
    push_artifact,
)
from registry.attached import attached_to
from support.places import Place
from support.referrers_api import INDEX, ask_fallback, referrers_api
from support.registry import PLUGIN_ID, attach, docker_registry, make_artifact


@pytest.fixture
def subject(repository: Repository, tmp_path: Path) -> Manifest:
    """A release to hang things on."""
    built = make_artifact(tmp_path)
    push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    return repository.manifest("0.1.0")


def test_what_was_attached_is_listed(repository: Repository, subject: Manifest) -> None:
    """Each referrer once, with type, size and, over HTTP, its annotations; and no tag is one."""
    one = attach(repository, subject.descriptor)
    two = attach(repository, subject.descriptor, artifact_type="", content=b"two")
    repository.push_manifest(two.raw, tag=None)
    found = {entry.digest: entry for entry in repository.referrers(subject.digest)}
    assert set(found) == {one.digest, two.digest}
    assert found[one.digest].artifact_type == "application/spdx+json"
    assert found[one.digest].size_bytes == len(one.raw)
    assert repository.tags() == ("0.1.0",)
    assert repository.manifest(one.digest).raw == one.raw


def test_nothing_attached_is_an_empty_list(repository: Repository, subject: Manifest) -> None:
    """A manifest without referrers has none, and so has one that is not there."""
    assert repository.referrers(subject.digest) == ()
    assert repository.referrers("sha256:" + "0" * 64) == ()


def test_a_list_can_be_of_one_type(repository: Repository, subject: Manifest) -> None:
    """Only referrers of the type asked for are listed."""
    sbom = attach(repository, subject.descriptor)
    attach(repository, subject.descriptor, artifact_type="text/x", content=b"x")
    listed = repository.referrers(subject.digest, artifact_type="application/spdx+json")
    assert [entry.digest for entry in listed] == [sbom.digest]


def test_pages_are_followed(repository: Repository, subject: Manifest) -> None:
    """More referrers than one page holds are all listed."""
    attached = {
        attach(repository, subject.descriptor, content=str(number).encode()).digest
        for number in range(3)
    }
    assert {entry.digest for entry in repository.referrers(subject.digest)} == attached


def test_the_tree_goes_down(repository: Repository, subject: Manifest) -> None:
    """A signature of an SBOM hangs on the SBOM."""
    sbom = attach(repository, subject.descriptor)
    signature = attach(repository, sbom.descriptor, artifact_type="text/signature")
    (top,) = attached_to(repository, subject.digest)
    assert top.manifest == sbom
    assert [one.manifest for one in top.flat()] == [sbom, signature]


def test_a_digest_is_checked_before_it_is_asked_for(repository: Repository) -> None:
    """What is no digest becomes no part of a URL or a path."""
    with pytest.raises(ContentError):
        repository.referrers("sha256:../../x")


def test_a_subject_may_come_later(
    repository: Repository, subject: Manifest, tmp_path: Path
) -> None:
    """What refers to a manifest may be there before it."""
    later = make_artifact(tmp_path, version="0.2.0")
    descriptor = Manifest.parse(later.manifest_raw).descriptor
    early = attach(repository, descriptor)
    with pytest.raises(NotFoundError):
        repository.manifest(later.digest)
    push_artifact(repository, later, later.sources, tags=["0.2.0"], force=False)
    assert [entry.digest for entry in repository.referrers(later.digest)] == [early.digest]
    assert repository.referrers(subject.digest) == ()


@pytest.mark.parametrize("place", ["layout", "shared layout", "plain"], indirect=True)
def test_publishers_that_race_lose_no_entry(place: Place, tmp_path: Path) -> None:
    """Several at once write one list, each its own entry, and all are in it."""
    # A pause that is long beside what a busy machine takes between reading and writing.
    place = replace(place, http=HttpSettings(backoff_s=1))
    built = make_artifact(tmp_path)
    with place.open() as repository:
        push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
    descriptor = Manifest.parse(built.manifest_raw).descriptor
    attached: list[str] = []
    together = threading.Barrier(4)

    def publish(name: int) -> None:
        with place.open() as repository:
            together.wait(timeout=20)
            attached.append(attach(repository, descriptor, content=bytes([name])).digest)

    threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    with place.open() as repository:
        listed = [entry.digest for entry in repository.referrers(built.digest)]
    assert len(attached) == 4
    assert sorted(listed) == sorted(attached)


def test_a_registry_filters_or_we_do(tmp_path: Path) -> None:
    """The filter goes with the request and over the pages; one that is not heeded is ours."""
    with (
        docker_registry(tmp_path) as upstream,
        referrers_api(upstream) as front,
        open_repository(
            HttpLocation(front.host, PLUGIN_ID), files=Files(), credentials=Anonymous()
        ) as repository,
    ):
        built = make_artifact(tmp_path)
        push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
        subject = repository.manifest("0.1.0")
        for number in range(6):
            attach(
                repository,
                subject.descriptor,
                artifact_type=f"text/x+{number % 2}",
                content=str(number).encode(),
            )
        for filters, pages in ((True, 2), (False, 3)):
            front.filters = filters
            front.asked.clear()
            assert len(repository.referrers(subject.digest, artifact_type="text/x+1")) == 3
            assert len(front.asked) == pages
            assert all("artifactType=text%2Fx%2B1" in path for path in front.asked)
        fallback = subject.digest.replace(":", "-")
        # Who knows subjects gets no fallback index.
        assert repository.tagged(fallback) is None


def test_a_fallback_index_has_what_the_api_would_say(tmp_path: Path) -> None:
    """Its entries carry type and annotations, and what another tool wrote stays in it."""
    with (
        docker_registry(tmp_path) as host,
        open_repository(
            HttpLocation(host, PLUGIN_ID), files=Files(), credentials=Anonymous()
        ) as repository,
    ):
        built = make_artifact(tmp_path)
        push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
        subject = repository.manifest("0.1.0")
        first = attach(repository, subject.descriptor)
        index = ask_fallback(host, PLUGIN_ID, subject.digest)
        (entry,) = index["manifests"]
        assert entry["artifactType"] == "application/spdx+json"
        assert entry["annotations"] == {"org.example.note": "attached"}
        index["annotations"] = {"of": "another tool"}
        ask_fallback(host, PLUGIN_ID, subject.digest, json.dumps(index).encode())
        second = attach(repository, subject.descriptor, content=b"second")
        index = ask_fallback(host, PLUGIN_ID, subject.digest)
    assert index["annotations"] == {"of": "another tool"}
    assert [one["digest"] for one in index["manifests"]] == [first.digest, second.digest]


@pytest.mark.parametrize("copies", [0, 100])
def test_entries_of_deleted_manifests_go_with_the_next_write(tmp_path: Path, copies: int) -> None:
    """And no others. This registry would refuse an index that lists them, however long it is."""
    with (
        docker_registry(tmp_path) as host,
        open_repository(
            HttpLocation(host, PLUGIN_ID), files=Files(), credentials=Anonymous()
        ) as repository,
    ):
        built = make_artifact(tmp_path)
        push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
        subject = repository.manifest("0.1.0")
        first, second = (
            attach(repository, subject.descriptor, content=text) for text in (b"first", b"second")
        )
        # More than are looked at each time; listed twice is not listed wrongly.
        index = ask_fallback(host, PLUGIN_ID, subject.digest)
        index["manifests"][1:1] = [index["manifests"][1]] * copies
        ask_fallback(host, PLUGIN_ID, subject.digest, json.dumps(index).encode())
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("DELETE", f"/v2/{PLUGIN_ID}/manifests/{first.digest}")
        assert connection.getresponse().status == 202
        connection.close()
        third = attach(repository, subject.descriptor, content=b"third")
        index = ask_fallback(host, PLUGIN_ID, subject.digest)
    listed = [one["digest"] for one in index["manifests"]]
    assert listed == [second.digest] * (copies + 1) + [third.digest]


@pytest.mark.parametrize("times", [1, 3, 100])
def test_an_entry_that_a_rival_took_out_is_put_back(tmp_path: Path, times: int) -> None:
    """Another publisher's write over ours is seen after the pause; endless ones are an error."""
    overwritten = 0

    def rival(_seconds: float) -> None:
        nonlocal overwritten
        if overwritten < times:
            overwritten += 1
            empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
            ask_fallback(host, PLUGIN_ID, built.digest, json.dumps(empty).encode())

    with docker_registry(tmp_path) as host:
        built = make_artifact(tmp_path)
        connections = KeptConnections(Timing(sleep=rival))
        with open_repository(
            HttpLocation(host, PLUGIN_ID),
            files=Files(),
            credentials=Anonymous(),
            connections=connections,
        ) as repository:
            push_artifact(repository, built, built.sources, tags=["0.1.0"], force=False)
            descriptor = Manifest.parse(built.manifest_raw).descriptor
            if times == 100:
                with pytest.raises(NetworkError, match="others overwrite it"):
                    attach(repository, descriptor)
                assert overwritten < 20
                return
            attached = attach(repository, descriptor)
            assert [one.digest for one in repository.referrers(built.digest)] == [attached.digest]
        assert overwritten == times
        connections.close()
