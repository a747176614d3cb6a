"""The grammar of references: what it takes comes back as it was, what it must not take is refused.

Contract §4, "References".
"""

import string
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import (
    Bases,
    HttpLocation,
    LayoutLocation,
    Reference,
    ReferenceFormatError,
    locate,
    parse_location,
    parse_reference,
    tag_to_version,
    version_to_tag,
)

HOME = Path("/home/jane")
BASES = Bases(
    default="oci:~/registry",
    namespaces={
        "org.example": "registry.example.com:5000/plugins",
        "org.example.secret": "localhost",
        "org.exampl": "oci:/srv/plugins/",
    },
    home=HOME,
)
HEX = "0123456789abcdef"

segments = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
plugin_ids = st.lists(segments, min_size=2, max_size=5).map(".".join)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
names = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,3}", fullmatch=True)
addresses = st.ip_addresses(v=4).map(str)
addresses6 = st.ip_addresses(v=6).map(lambda address: f"[{address}]")
hosts = st.builds(
    str.__add__, st.one_of(names, addresses, addresses6, st.just("localhost")), ports
).filter(lambda host: "." in host or ":" in host or host == "localhost")
paths = st.lists(st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5})?", fullmatch=True), max_size=3)
http_locations = st.builds(
    lambda host, path, plugin_id: HttpLocation(host, "/".join([*path, plugin_id])),
    hosts,
    paths,
    plugin_ids,
)
folder_names = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=8
)
folders = st.builds(
    lambda start, parts: Path(start, *parts),
    st.sampled_from(["/", ".", "..", ""]),
    st.lists(folder_names, max_size=3),
)
layout_locations = st.builds(LayoutLocation, folders, plugin_ids)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True)
digests = st.text(HEX, min_size=64, max_size=64).map("sha256:".__add__)
references = st.builds(
    Reference,
    st.one_of(http_locations, layout_locations),
    st.one_of(st.none(), tags),
    st.one_of(st.none(), digests),
)


@given(references)
def test_a_reference_comes_back(reference: Reference) -> None:
    """Writing a reference out and reading it gives the same one."""
    assert parse_reference(reference.text, BASES) == reference


@given(st.one_of(http_locations, layout_locations))
def test_a_location_comes_back(location: HttpLocation | LayoutLocation) -> None:
    """Writing a location out and reading it gives the same one."""
    assert parse_location(location.text, HOME) == location


@given(plugin_ids, st.one_of(st.none(), tags), st.one_of(st.none(), digests))
def test_an_id_alone_is_located(plugin_id: str, tag: str | None, digest: str | None) -> None:
    """An ID form means the same as its location written out."""
    suffix = (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = parse_reference(plugin_id + suffix, BASES)
    assert reference == Reference(locate(plugin_id, BASES), tag, digest)
    assert reference.plugin_id == plugin_id


@given(st.text(max_size=80))
def test_any_text_is_taken_or_refused(text: str) -> None:
    """No text raises anything but ``ReferenceFormatError``, and what is taken comes back."""
    try:
        reference = parse_reference(text, BASES)
    except ReferenceFormatError:
        return
    assert parse_reference(reference.text, BASES) == reference


@given(st.text(string.ascii_letters + string.digits + "/:.@_+-[]~", max_size=60))
def test_any_likely_text_is_taken_or_refused(text: str) -> None:
    """The same for texts made of the characters that mean something."""
    test_any_text_is_taken_or_refused.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@given(http_locations, st.data())
def test_uppercase_is_refused(location: HttpLocation, data: st.DataObject) -> None:
    """One uppercase letter anywhere in host or name, and it is no reference."""
    text = location.text
    letters = [place for place, char in enumerate(text) if char.islower()]
    if not letters:
        return
    place = data.draw(st.sampled_from(letters))
    with pytest.raises(ReferenceFormatError):
        parse_reference(text[:place] + text[place].upper() + text[place + 1 :], BASES)


@given(http_locations, st.data())
def test_empty_parts_are_refused(location: HttpLocation, data: st.DataObject) -> None:
    """A separator doubled or at an end of the name leaves an empty part."""
    name = location.name
    places = [0, len(name), *(place for place, char in enumerate(name) if char in "/.")]
    place = data.draw(st.sampled_from(places))
    for separator in "/.":
        text = f"{location.host}/{name[:place]}{separator}{name[place:]}"
        with pytest.raises(ReferenceFormatError):
            parse_reference(text, BASES)


@given(http_locations, st.sampled_from([".", ".."]), st.data())
def test_dot_parts_are_refused(location: HttpLocation, dots: str, data: st.DataObject) -> None:
    """No part of a path is ``.`` or ``..``: nothing is ever resolved against a URL or a folder."""
    parts = location.name.split("/")
    parts.insert(data.draw(st.integers(0, len(parts))), dots)
    with pytest.raises(ReferenceFormatError):
        parse_reference(f"{location.host}/{'/'.join(parts)}", BASES)


@given(
    st.one_of(names, addresses, addresses6, st.just("localhost")),
    st.one_of(
        st.integers(65536, 10**12).map(str),
        st.integers(0, 65535).map("0{}".format),
        st.integers(-99, -1).map(str),
        st.sampled_from(["", "+1", "1_0", "٣", "80:80", "http", " 80"]),
    ),
)
def test_what_is_no_port_is_refused(host: str, port: str) -> None:
    """A port is 1 to 65535 in plain decimal digits, with no zero before them."""
    with pytest.raises(ReferenceFormatError):
        parse_reference(f"{host}:{port}/org.example.hello", BASES)


@given(references, st.data())
def test_a_digest_has_one_spelling(reference: Reference, data: st.DataObject) -> None:
    """Another algorithm, length or case is refused, never guessed at."""
    digits = data.draw(st.text(HEX, max_size=130).filter(lambda text: len(text) != 64))
    upper = data.draw(digests).upper().replace("SHA", "sha")
    algorithm = data.draw(st.sampled_from(["sha512", "sha1", "md5", "SHA256", ""]))
    bare = Reference(reference.location, reference.tag).text
    digest = data.draw(st.sampled_from([f"sha256:{digits}", f"{algorithm}:{'a' * 64}"]))
    with pytest.raises(ReferenceFormatError):
        parse_reference(f"{bare}@{digest}", BASES)
    if upper != upper.lower():
        with pytest.raises(ReferenceFormatError):
            parse_reference(f"{bare}@{upper}", BASES)


@given(st.ip_addresses(v=6), ports)
def test_ipv6_has_one_spelling(address: IPv6Address, port: str) -> None:
    """Long and short forms of an address are the same host."""
    short, long = (
        parse_reference(f"[{text}]{port}/org.example.hello", BASES)
        for text in (address.compressed, address.exploded)
    )
    assert short == long
    assert short.location == HttpLocation(f"[{address}]{port}", "org.example.hello")


numbers = st.integers(0, 10**6).map(str)
pre_releases = st.from_regex(r"-[a-z][0-9a-z-]{0,8}(\.[1-9][0-9]{0,3})?", fullmatch=True)
builds = st.from_regex(r"\+[0-9a-zA-Z-]{1,8}(\.[0-9a-z-]{1,4})?", fullmatch=True)
versions = st.builds(
    lambda core, pre_release, build: ".".join(core) + pre_release + build,
    st.tuples(numbers, numbers, numbers),
    st.just("") | pre_releases,
    st.just("") | builds,
)


@given(versions)
def test_a_version_comes_back_from_its_tag(version: str) -> None:
    """Tags carry every version, build metadata included."""
    tag = version_to_tag(version)
    assert "+" not in tag
    assert tag_to_version(tag) == version
    assert parse_reference(f"org.example.hello:{version}", BASES).tag == tag
    assert parse_reference(f"org.example.hello:{tag}", BASES).version == version


@given(tags)
def test_a_tag_is_a_version_or_a_channel(tag: str) -> None:
    """What is read as a version is written as the same tag."""
    version = tag_to_version(tag)
    assert version is None or version_to_tag(version) == tag
