"""Lists of referrers that flood, lie or lead in circles: bounded, and believed by bytes alone."""

import json
from collections.abc import Callable, Iterator
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
    LayoutLocation,
    LayoutRepository,
    Manifest,
    NetworkError,
    RegistryError,
    Repository,
    open_repository,
    push_artifact,
    sha256_digest,
)
from registry.attached import attached_to
from registry.model import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE
from registry.referrers import with_referrer
from support.registry import (
    PLUGIN_ID,
    Misbehaving,
    Route,
    attach,
    make_artifact,
    misbehaving,
    reply,
)

SUBJECT = "sha256:" + "a" * 64
FALLBACK = SUBJECT.replace(":", "-")
OTHER = "sha256:" + "b" * 64
Handler = BaseHTTPRequestHandler
Lists = Callable[[str], list[dict[str, object]]]


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server whose route the test sets."""
    with misbehaving() as running:
        yield running


@pytest.fixture
def repository(server: Misbehaving) -> Iterator[Repository]:
    """The repository that the server pretends to have."""
    with open_repository(
        HttpLocation(server.host, PLUGIN_ID),
        files=Files(),
        http=HttpSettings(backoff_s=0, max_retry_after_s=0),
        credentials=Anonymous(),
    ) as opened:
        yield opened


def index(entries: list[dict[str, object]], **changes: object) -> bytes:
    """A list of referrers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_MEDIA_TYPE,
            "manifests": entries,
            **changes,
        }
    ).encode()


def entry(digest: str = OTHER, **changes: object) -> dict[str, object]:
    """An entry of such a list."""
    return {"mediaType": MANIFEST_MEDIA_TYPE, "digest": digest, "size": 2, **changes}


def entries(count: int, start: int = 0) -> list[dict[str, object]]:
    """Many of them, all different."""
    return [entry(f"sha256:{number:064x}") for number in range(start, start + count)]


def referring(subject: str, note: str = "") -> bytes:
    """A manifest that refers to another."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": "text/x",
            "config": Descriptor.of("text/x", b"{}").document(),
            "layers": [],
            "subject": entry(subject),
            "annotations": {"note": note},
        }
    ).encode()


def answer(body: bytes, status: int = 200, media_type: str = INDEX_MEDIA_TYPE) -> Route:
    """Answer every request so."""
    return lambda handler: reply(handler, status, body, Content_Type=media_type)


def fallback(body: bytes, status: int = 200) -> Route:
    """Have no API, and this at every tag."""

    def route(handler: Handler) -> None:
        if "/referrers/" in handler.path:
            reply(handler, 404)
        else:
            reply(handler, status, body, Content_Type=INDEX_MEDIA_TYPE)

    return route


@pytest.mark.parametrize(("others", "asked", "left"), [(200, 32, 900), (500, 2, 901)])
def test_a_long_list_is_not_looked_through(
    server: Misbehaving, repository: Repository, others: int, asked: int, left: int
) -> None:
    """32 look-ups a write at most; a registry that fails says nothing, and all stays listed."""
    listed = entries(900)
    looks: list[str] = []
    written: list[bytes] = []

    def route(handler: Handler) -> None:
        if handler.command == "PUT":
            if handler.path.endswith(FALLBACK):
                written.append(server.requests[-1].body)
            reply(handler, 201)
        elif handler.command == "HEAD":
            looks.append(handler.path)
            reply(handler, 404 if len(looks) == 1 else others)
        else:
            body = written[-1] if written else index(listed)
            reply(handler, 200, body, Content_Type=INDEX_MEDIA_TYPE)

    server.route = route
    repository.push_manifest(referring(SUBJECT), tag=None)
    assert len(looks) == asked
    assert len(json.loads(written[-1])["manifests"]) == left


BAD_LISTS = {
    "no JSON": b"referrers",
    "empty": b"",
    "list": b"[]",
    "no manifests": b'{"schemaVersion":2}',
    "schema 1": index([], schemaVersion=1),
    "docker's list": index(
        [], mediaType="application/vnd.docker.distribution.manifest.list.v2+json"
    ),
    "an image": referring(SUBJECT),
    "key twice": b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
    "nested": b'{"manifests":' + b"[" * 100_000,
    "entry is text": index(["x"]),  # type: ignore[list-item]
    "digest is a path": index([entry("sha256:../../../etc/passwd")]),
    "size is negative": index([entry(size=-1)]),
    "type is no type": index([entry(artifactType="text/\x1b[31m")]),
    "oversize": index([], annotations={"x": "y" * (4 << 20)}),
    "flood": index(entries(1001)),
}


@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_bad_list_is_refused(
    server: Misbehaving, repository: Repository, case: str, *, api: bool
) -> None:
    """From the API and from the fallback tag alike, with an error of ours."""
    server.route = answer(BAD_LISTS[case]) if api else fallback(BAD_LISTS[case])
    with pytest.raises(ContentError):
        repository.referrers(SUBJECT)


def test_a_page_of_its_own_for_every_path_is_no_api(
    server: Misbehaving, repository: Repository
) -> None:
    """A 200 that is no index comes from who does not know the API: the tag is asked."""

    def route(handler: Handler) -> None:
        if "/referrers/" in handler.path:
            reply(handler, 200, b"<html>", Content_Type="text/html; charset=utf-8")
        else:
            reply(handler, 200, index([entry()]), Content_Type=INDEX_MEDIA_TYPE)

    server.route = route
    assert [found.digest for found in repository.referrers(SUBJECT)] == [OTHER]
    assert server.requests[-1].path.endswith(f"/manifests/{FALLBACK}")


@pytest.mark.parametrize("status", [401, 403, 500, 418])
def test_only_a_404_means_that_there_is_no_api(
    server: Misbehaving, repository: Repository, status: int
) -> None:
    """Who may not ask, or asks in vain, is told so and given no other list."""
    server.route = answer(b"", status)
    with pytest.raises(RegistryError):
        repository.referrers(SUBJECT)
    assert all("/referrers/" in request.path for request in server.requests)


def test_other_kinds_of_entries_are_passed_over(
    server: Misbehaving, repository: Repository
) -> None:
    """What can have no subject is no referrer; one entry twice is one."""
    server.route = answer(index([entry(mediaType="text/plain"), entry(), entry()]))
    assert len(repository.referrers(SUBJECT)) == 1


def test_a_flood_in_pages_is_refused(server: Misbehaving, repository: Repository) -> None:
    """No list is longer for coming in parts."""

    def route(handler: Handler) -> None:
        start = int(handler.path.partition("start=")[2] or 0)
        link = f"</v2/{PLUGIN_ID}/referrers/{SUBJECT}?start={start + 300}>; rel=next"
        body = index(entries(300, start))
        reply(handler, 200, body, Content_Type=INDEX_MEDIA_TYPE, Link=link)

    server.route = route
    with pytest.raises(ContentError, match="more than 1000"):
        repository.referrers(SUBJECT)
    assert len(server.requests) == 4


@pytest.mark.parametrize("number", [0, 1])
def test_pages_without_an_end_are_refused(
    server: Misbehaving, repository: Repository, number: int
) -> None:
    """Pages that lead back, or on for ever without anything in them."""

    def route(handler: Handler) -> None:
        start = int(handler.path.partition("start=")[2] or 0)
        link = f"</v2/{PLUGIN_ID}/referrers/{SUBJECT}?start={start + number}>; rel=next"
        reply(handler, 200, index([]), Content_Type=INDEX_MEDIA_TYPE, Link=link)

    server.route = route
    with pytest.raises(ContentError, match="there is no end"):
        repository.referrers(SUBJECT)
    assert len(server.requests) <= 100


def test_a_page_on_another_host_is_not_fetched(server: Misbehaving, repository: Repository) -> None:
    """The registry's own pages are the list, and nobody else's."""
    with misbehaving() as other:
        other.route = answer(index([entry()]))
        link = f"<http://{other.host}/x>; rel=next"
        server.route = lambda handler: reply(
            handler, 200, index([]), Content_Type=INDEX_MEDIA_TYPE, Link=link
        )
        with pytest.raises(ContentError, match="another host"):
            repository.referrers(SUBJECT)
        assert not other.requests


def test_a_page_that_is_gone_is_no_missing_api(server: Misbehaving, repository: Repository) -> None:
    """Half a list is an error, and not replaced by what the fallback tag says."""

    def route(handler: Handler) -> None:
        if "start=" in handler.path:
            reply(handler, 404)
        else:
            link = f"</v2/{PLUGIN_ID}/referrers/{SUBJECT}?start=1>; rel=next"
            reply(handler, 200, index([entry()]), Content_Type=INDEX_MEDIA_TYPE, Link=link)

    server.route = route
    with pytest.raises(RegistryError):
        repository.referrers(SUBJECT)
    assert not any("/manifests/" in request.path for request in server.requests)


# -- the tree


def tree(lists: Lists, manifests: dict[str, bytes]) -> Route:
    """A registry that gives these lists and these manifests."""

    def route(handler: Handler) -> None:
        digest = handler.path.rpartition("/")[2]
        if "/referrers/" in handler.path:
            reply(handler, 200, index(lists(digest)), Content_Type=INDEX_MEDIA_TYPE)
        elif digest in manifests:
            reply(handler, 200, manifests[digest], Content_Type=MANIFEST_MEDIA_TYPE)
        else:
            reply(handler, 404)

    return route


def test_a_referrer_of_another_subject_is_not_believed(
    server: Misbehaving, repository: Repository
) -> None:
    """What is listed and refers to something else, to nothing, or is not there, is told as that."""
    raws = [referring(OTHER), referring(SUBJECT), referring(SUBJECT)[:-2] + b"\n}}"]
    plain = json.loads(referring(SUBJECT))
    del plain["subject"]
    raws.append(json.dumps(plain).encode())
    raws.append(index([]))
    manifests = {sha256_digest(raw): raw for raw in raws}
    listed = [entry(digest) for digest in (*manifests, OTHER)]
    server.route = tree(lambda digest: listed if digest == SUBJECT else [], manifests)
    found = attached_to(repository, SUBJECT)
    problems = [one.problem for one in found]
    assert problems[0] == f"it refers to {OTHER}"
    assert problems[1] is None
    assert problems[2] is None
    assert problems[3] == "it refers to nothing"
    assert "got an index" in str(problems[4])
    assert "404" in str(problems[5])
    assert [one.manifest is None for one in found] == [problem is not None for problem in problems]


def test_other_bytes_under_a_digest_are_not_believed(
    server: Misbehaving, repository: Repository
) -> None:
    """A registry can't put something else into the place of a referrer."""
    server.route = tree(
        lambda digest: [entry()] if digest == SUBJECT else [], {OTHER: referring(SUBJECT)}
    )
    (found,) = attached_to(repository, SUBJECT)
    assert found.manifest is None
    assert "its bytes are" in str(found.problem)


def test_a_loop_ends_where_the_bytes_say_otherwise(
    server: Misbehaving, repository: Repository
) -> None:
    """Lists that name each other, or themselves, lead nowhere: no manifest can refer to itself."""
    first = referring(SUBJECT)
    second = referring(sha256_digest(first))
    manifests = {sha256_digest(raw): raw for raw in (first, second)}
    everything = [entry(digest) for digest in manifests]
    server.route = tree(lambda _: everything, manifests)
    found = attached_to(repository, SUBJECT)
    assert [one.manifest is not None for one in found] == [True, False]
    assert len(server.requests) < 20


def test_a_tree_that_is_too_deep_is_refused(server: Misbehaving, repository: Repository) -> None:
    """A chain of referrers has an end."""
    manifests: dict[str, bytes] = {}
    below: dict[str, list[dict[str, object]]] = {}
    digest = SUBJECT
    for _ in range(12):
        raw = referring(digest)
        below[digest] = [entry(sha256_digest(raw))]
        digest = sha256_digest(raw)
        manifests[digest] = raw
    server.route = tree(lambda asked: below.get(asked, []), manifests)
    with pytest.raises(ContentError, match="more than 8 deep"):
        attached_to(repository, SUBJECT)


def test_a_tree_that_is_too_heavy_is_refused(server: Misbehaving, repository: Repository) -> None:
    """All of it is in memory: manifests of 4 MiB are no reason to have 4 GiB."""
    raws = [referring(SUBJECT, f"{number}" + "x" * (3 << 20)) for number in range(8)]
    manifests = {sha256_digest(raw): raw for raw in raws}
    listed = [entry(digest) for digest in manifests]
    server.route = tree(lambda digest: listed if digest == SUBJECT else [], manifests)
    with pytest.raises(ContentError, match="more than 16777216 bytes"):
        attached_to(repository, SUBJECT)


def test_an_index_that_nobody_could_read_is_not_written() -> None:
    """Entries repeat annotations: a few large ones have no room in it."""
    first, second = (
        Manifest.parse(referring(SUBJECT, f"{number}" + "x" * (3 << 20))) for number in range(2)
    )
    listed = with_referrer(None, first, "index")
    assert listed is not None
    with pytest.raises(ContentError, match="would exceed"):
        with_referrer(listed, second, "index")


def test_a_tree_that_is_too_wide_is_refused(server: Misbehaving, repository: Repository) -> None:
    """Lists that are short each are counted together."""
    tops = [referring(SUBJECT, str(number)) for number in range(20)]
    manifests = {sha256_digest(raw): raw for raw in tops}
    listed = [entry(digest) for digest in manifests]
    server.route = tree(
        lambda digest: listed if digest == SUBJECT else entries(500) if digest in manifests else [],
        manifests,
    )
    with pytest.raises(ContentError, match="more than 1000"):
        attached_to(repository, SUBJECT)


# -- writing the fallback index


def publishing(index_there: bytes | None, *, subject_header: bool = False) -> Route:
    """A registry that takes everything and has all manifests, with this at the fallback tag."""

    def route(handler: Handler) -> None:
        if handler.command == "PUT":
            reply(handler, 201, b"", **({"OCI_Subject": SUBJECT} if subject_header else {}))
        elif handler.command == "HEAD":
            reply(handler, 200)
        elif index_there is None or not handler.path.endswith(FALLBACK):
            reply(handler, 404)
        else:
            reply(handler, 200, index_there, Content_Type=INDEX_MEDIA_TYPE)

    return route


def puts(server: Misbehaving) -> list[str]:
    """What was written, in order."""
    return [one.path.rpartition("/")[2] for one in server.requests if one.method == "PUT"]


@pytest.mark.parametrize("case", BAD_LISTS)
def test_what_is_no_list_is_not_written_over(
    server: Misbehaving, repository: Repository, case: str
) -> None:
    """Something else at the fallback tag, or a list that is full of what is there, stays so."""
    server.route = publishing(BAD_LISTS[case])
    raw = referring(SUBJECT)
    with pytest.raises(ContentError):
        repository.push_manifest(raw, tag=None)
    assert puts(server) == [sha256_digest(raw)]


def test_who_knows_subjects_gets_no_index(server: Misbehaving, repository: Repository) -> None:
    """``OCI-Subject`` in the answer: the registry lists it by itself."""
    server.route = publishing(None, subject_header=True)
    raw = referring(SUBJECT)
    repository.push_manifest(raw, tag=None)
    assert [request.method for request in server.requests] == ["PUT"]


def test_an_index_that_never_keeps_the_entry_is_given_up(
    server: Misbehaving, repository: Repository
) -> None:
    """A registry that takes writes and forgets them is not written to for ever."""
    server.route = publishing(index([]))
    with pytest.raises(NetworkError, match="others overwrite it"):
        repository.push_manifest(referring(SUBJECT), tag=None)
    assert 2 < len(puts(server)) < 20


# -- layouts


@pytest.fixture
def layout(tmp_path: Path) -> LayoutRepository:
    """A layout with a release and one referrer."""
    opened = LayoutRepository(LayoutLocation(tmp_path / "registry", PLUGIN_ID), Files())
    built = make_artifact(tmp_path)
    push_artifact(opened, built, built.sources, tags=["0.1.0"], force=False)
    attach(opened, Manifest.parse(built.manifest_raw).descriptor)
    return opened


def write_index(layout: LayoutRepository, added: list[dict[str, object]]) -> None:
    """Add entries to a layout's index."""
    path = layout.location.folder / PLUGIN_ID / "index.json"
    document = json.loads(path.read_bytes())
    document["manifests"] += added
    path.write_text(json.dumps(document))


def blob(layout: LayoutRepository, raw: bytes) -> dict[str, object]:
    """Put bytes into a layout; their entry."""
    digest = sha256_digest(raw)
    (layout.location.folder / PLUGIN_ID / "blobs" / "sha256" / digest[7:]).write_bytes(raw)
    return entry(digest, size=len(raw))


def test_entries_that_are_broken_hide_no_others(layout: LayoutRepository) -> None:
    """What is missing, damaged, oversize or no manifest refers to nothing."""
    subject = layout.resolve("0.1.0")
    damaged = blob(layout, referring(subject.digest))
    path = layout.location.folder / PLUGIN_ID / "blobs" / "sha256" / str(damaged["digest"])[7:]
    path.write_bytes(referring(subject.digest, "other"))
    write_index(
        layout,
        [
            damaged,
            entry(OTHER),
            blob(layout, b"no JSON"),
            blob(layout, b'{"subject": 7}'),
            blob(layout, b"[" * 100_000),
            {**blob(layout, referring(subject.digest, "longer")), "size": 10},
            {**blob(layout, referring(subject.digest, "text")), "mediaType": "text/plain"},
        ],
    )
    assert len(layout.referrers(subject.digest)) == 1


def test_a_flood_in_a_layout_is_refused(layout: LayoutRepository) -> None:
    """More than a thousand, in the index or in the fallback index, are refused."""
    subject = layout.resolve("0.1.0").digest
    flood = blob(layout, index(entries(1001)))
    name = {"org.opencontainers.image.ref.name": subject.replace(":", "-")}
    write_index(layout, [{**flood, "annotations": name, "mediaType": INDEX_MEDIA_TYPE}])
    with pytest.raises(ContentError, match="more than 1000"):
        layout.referrers(subject)


def test_what_must_be_searched_is_bounded(layout: LayoutRepository) -> None:
    """An index of manifests of megabytes is not read through."""
    write_index(layout, [entry(f"sha256:{number:064x}", size=4 << 20) for number in range(17)])
    with pytest.raises(ContentError, match="to search"):
        layout.referrers(SUBJECT)


def test_a_fallback_index_in_a_layout_is_read(layout: LayoutRepository) -> None:
    """As skopeo copies it from a registry without the API."""
    subject = layout.resolve("0.1.0").digest
    raw = referring(subject, "by fallback")
    blob(layout, raw)
    listed = blob(layout, index([entry(sha256_digest(raw), size=len(raw))]))
    name = {"org.opencontainers.image.ref.name": subject.replace(":", "-")}
    write_index(layout, [{**listed, "annotations": name, "mediaType": INDEX_MEDIA_TYPE}])
    found = attached_to(layout, subject)
    assert sha256_digest(raw) in [one.descriptor.digest for one in found]
    assert all(one.manifest for one in found)
    assert layout.tags() == ("0.1.0",)


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_a_planted_link_leads_no_write_out_of_a_layout(
    layout: LayoutRepository, tmp_path: Path, name: str
) -> None:
    """Who prepared the medium can't have us write elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    path = layout.location.folder / PLUGIN_ID / name
    path.rename(tmp_path / "moved")
    path.symlink_to(outside)
    data = Descriptor.of("text/plain", b"planted")
    with pytest.raises(ContentError, match="is a link"):
        layout.push_blob(data, b"planted")
    with pytest.raises(ContentError):
        layout.push_manifest(referring(SUBJECT), tag=None)
    assert not list(outside.iterdir())


def test_a_planted_link_gives_away_no_file(layout: LayoutRepository, tmp_path: Path) -> None:
    """A blob that is a link to a secret is read and refused by its digest, not copied."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"password")
    digest = "sha256:" + "c" * 64
    (layout.location.folder / PLUGIN_ID / "blobs" / "sha256" / digest[7:]).symlink_to(secret)
    with pytest.raises(ContentError):
        layout.fetch_blob(Descriptor("text/plain", digest, 8), tmp_path / "got")
    assert not (tmp_path / "got").exists()
