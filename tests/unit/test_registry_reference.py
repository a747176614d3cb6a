"""References by example: contract §4, one line each."""

from pathlib import Path

import pytest

from registry import (
    Bases,
    HttpLocation,
    LayoutLocation,
    ReferenceFormatError,
    locate,
    parse_location,
    parse_reference,
    tag_to_version,
    version_to_tag,
)

ID = "org.example.hello"
DIGEST = "sha256:" + "ab" * 32
BASES = Bases(
    default="oci:~/registry",
    namespaces={
        "org.example": "registry.example.com/plugins",
        "org.example.team": "localhost:5000",
        "net": "oci:/srv/net/",
    },
    home=Path("/home/jane"),
)
REGISTRY = HttpLocation("registry.example.com", f"plugins/{ID}")


@pytest.mark.parametrize(
    ("text", "location", "tag", "digest"),
    [
        (ID, REGISTRY, None, None),
        (f"{ID}:1.2.3", REGISTRY, "1.2.3", None),
        (f"{ID}:1.2.3+linux", REGISTRY, "1.2.3_linux", None),
        (f"{ID}:1.2.3_linux", REGISTRY, "1.2.3_linux", None),
        (f"{ID}:stable", REGISTRY, "stable", None),
        (f"{ID}@{DIGEST}", REGISTRY, None, DIGEST),
        (f"{ID}:1.2.3@{DIGEST}", REGISTRY, "1.2.3", DIGEST),
        (f"localhost/{ID}", HttpLocation("localhost", ID), None, None),
        (f"localhost:5000/a/b_c/{ID}:x", HttpLocation("localhost:5000", f"a/b_c/{ID}"), "x", None),
        (f"[::1]:5000/{ID}", HttpLocation("[::1]:5000", ID), None, None),
        (f"[0:0::1]/{ID}", HttpLocation("[::1]", ID), None, None),
        (f"127.0.0.1:5000/{ID}", HttpLocation("127.0.0.1:5000", ID), None, None),
        (f"oci:/srv/r/{ID}:1.0.0", LayoutLocation(Path("/srv/r"), ID), "1.0.0", None),
        (f"oci:~/r/{ID}", LayoutLocation(Path("/home/jane/r"), ID), None, None),
        (f"oci:~/{ID}", LayoutLocation(Path("/home/jane"), ID), None, None),
        (f"oci:r/{ID}", LayoutLocation(Path("r"), ID), None, None),
        (f"oci:./{ID}", LayoutLocation(Path(), ID), None, None),
        (f"oci:/{ID}", LayoutLocation(Path("/"), ID), None, None),
        (f"oci:/a@b:c/{ID}@{DIGEST}", LayoutLocation(Path("/a@b:c"), ID), None, DIGEST),
    ],
)
def test_what_is_taken(
    text: str, location: HttpLocation | LayoutLocation, tag: str | None, digest: str | None
) -> None:
    """Each form means what the contract says."""
    reference = parse_reference(text, BASES)
    assert (reference.location, reference.tag, reference.digest) == (location, tag, digest)
    assert reference.plugin_id == ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "org.example.",
        ".org.example",
        "org..example",
        "Org.Example",
        "org.-example.x",
        "org.example_x.y",
        "o." + "a" * 127,
        f"{ID}:",
        f"{ID}:-x",
        f"{ID}:a:b",
        f"{ID}:stable+x",
        f"{ID}:" + "a" * 129,
        f"{ID}@",
        f"{ID}@sha256:" + "AB" * 32,
        f"{ID}@sha512:" + "ab" * 64,
        f"{ID}@{DIGEST}:1.0",
        f"{ID}@{DIGEST}@{DIGEST}",
        f"{ID}\n",
        f" {ID}",
        f"plugins/{ID}",
        f"/{ID}",
        f"https://registry.example.com/{ID}",
        f"user:secret@registry.example.com/{ID}",
        f"Registry.example.com/{ID}",
        f"registry.example.com//{ID}",
        f"registry.example.com/{ID}/",
        f"registry.example.com/../{ID}",
        f"registry.example.com/A/{ID}",
        "registry.example.com/" + "a/" * 130 + ID,
        "registry.example.com/hello",
        f"registry.example.com:0/{ID}",
        f"registry.example.com:65536/{ID}",
        f"registry.example.com:/{ID}",
        f"registry.example.com:05/{ID}",
        f"registry_.example.com/{ID}",
        f"-a.example.com/{ID}",
        f"127.1/{ID}",
        f"256.0.0.1/{ID}",
        f"0177.0.0.1/{ID}",
        f"[::1/{ID}",
        f"[::g]/{ID}",
        f"[::1%eth0]/{ID}",
        f"::1/{ID}",
        "oci:",
        f"oci:{ID}",
        f"oci:/srv/{ID}/",
        f"oci:/srv/\x00/{ID}",
        "oci:/srv/hello",
        f"oci:~jane/{ID}",
        f"oci://registry.example.com/{ID}",
    ],
)
def test_what_is_refused(text: str) -> None:
    """Each is an error that quotes what it got."""
    with pytest.raises(ReferenceFormatError, match="cannot use"):
        parse_reference(text, BASES)


@pytest.mark.parametrize(
    ("plugin_id", "text"),
    [
        ("org.example.hello", "registry.example.com/plugins/org.example.hello"),
        ("org.example.team.x", "localhost:5000/org.example.team.x"),
        ("org.example.teams", "registry.example.com/plugins/org.example.teams"),
        ("org.examples.x", "oci:/home/jane/registry/org.examples.x"),
        ("net.x", "oci:/srv/net/net.x"),
    ],
)
def test_the_longest_namespace_of_whole_segments_wins(plugin_id: str, text: str) -> None:
    """A namespace matches segments, never characters; without one the default is taken."""
    assert locate(plugin_id, BASES).text == text


@pytest.mark.parametrize("base", ["", "plugins", "oci:", "https://x.org", "x.org//", "oci://x"])
def test_a_bad_base_is_named(base: str) -> None:
    """A base that can't be used is quoted: it stands in a file, not on the command line."""
    with pytest.raises(ReferenceFormatError, match="registry base"):
        locate(ID, Bases(default=base, namespaces={}, home=Path("/")))


def test_a_relative_folder_starts_where_the_bases_say() -> None:
    """With a working folder, what is remembered means the same from everywhere."""
    bases = Bases("oci:r", {}, Path("/home/jane"), working_folder=Path("/srv"))
    assert locate(ID, bases).text == f"oci:/srv/r/{ID}"
    assert parse_reference(f"oci:/abs/{ID}", bases).location.text == f"oci:/abs/{ID}"
    assert parse_reference(f"oci:~/r/{ID}", bases).location.text == f"oci:/home/jane/r/{ID}"


@pytest.mark.parametrize("text", [ID, f"localhost/{ID}:1.0.0", f"localhost/{ID}@{DIGEST}", ""])
def test_a_location_has_neither_tag_nor_digest(text: str) -> None:
    """What the memory of a plugin's origin holds is a place, not a release."""
    with pytest.raises(ReferenceFormatError):
        parse_location(text, Path("/"))


@pytest.mark.parametrize("tag", ["stable", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3_a_b", "1.2.3-01"])
def test_a_channel_is_no_version(tag: str) -> None:
    """Only SemVer 2.0.0 in full is a version."""
    assert tag_to_version(tag) is None
    with pytest.raises(ReferenceFormatError):
        version_to_tag(tag)


def test_a_version_longer_than_a_tag_is_refused() -> None:
    """Some versions fit no tag."""
    with pytest.raises(ReferenceFormatError):
        version_to_tag("1.0.0-" + "a" * 123)
