"""SemVer order and Cargo's requirement syntax: tables of known answers."""

import pytest

from agent.pipeline.requirement import (
    is_newer,
    is_version,
    parse_requirement,
    parse_version,
    satisfies,
)

# requirement, what it admits, what it does not; the first blocks are the tables of
# https://doc.rust-lang.org/cargo/reference/specifying-dependencies.html
KNOWN = [
    ("1.2.3", ["1.2.3", "1.2.4", "1.9.0"], ["1.2.2", "2.0.0", "0.9.9"]),
    ("1.2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0"]),
    ("1", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
    ("0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0", "1.0.0"]),
    ("^0.2", ["0.2.0", "0.2.9"], ["0.1.9", "0.3.0"]),
    ("0.0.3", ["0.0.3"], ["0.0.2", "0.0.4", "0.1.0"]),
    ("^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]),
    ("^0", ["0.0.0", "0.9.9"], ["1.0.0"]),
    ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
    ("~1.2", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
    ("~1", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
    ("*", ["0.0.0", "9.9.9"], ["1.0.0-a"]),
    (" * ", ["1.2.3"], []),
    ("1.*", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
    ("1.x", ["1.0.0"], ["2.0.0"]),
    ("1.*.*", ["1.9.9"], ["2.0.0"]),
    ("1.2.*", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
    ("=1.2.X", ["1.2.9"], ["1.3.0"]),
    ("=1.2.3", ["1.2.3"], ["1.2.2", "1.2.4"]),
    ("=1.2", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
    ("=1", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
    (">1.2.3", ["1.2.4", "2.0.0"], ["1.2.3", "1.2.2"]),
    (">1.2", ["1.3.0", "2.0.0"], ["1.2.0", "1.2.9"]),
    (">1", ["2.0.0"], ["1.0.0", "1.9.9"]),
    (">=1.2.3", ["1.2.3", "9.0.0"], ["1.2.2"]),
    (">=1.2", ["1.2.0"], ["1.1.9"]),
    ("<1.2.3", ["1.2.2", "0.0.0"], ["1.2.3"]),
    ("<1.2", ["1.1.9"], ["1.2.0"]),
    ("<1", ["0.9.9"], ["1.0.0"]),
    ("<=1.2.3", ["1.2.3"], ["1.2.4"]),
    ("<=1.2", ["1.2.9"], ["1.3.0"]),
    ("<=1", ["1.9.9"], ["2.0.0"]),
    (">=1.2, <2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0"]),
    (" >= 1.2 ,<  1.5 ", ["1.4.9"], ["1.5.0"]),
    (">=2, <1", [], ["1.0.0", "2.0.0"]),
    # Pre-releases: only where a comparator names one of the same major.minor.patch.
    ("^1.2.3", ["1.2.3"], ["1.2.4-a", "1.3.0-a", "2.0.0-a"]),
    ("^1.2.3-b", ["1.2.3-b", "1.2.3-c", "1.2.3", "1.3.0"], ["1.2.3-a", "1.2.4-z", "2.0.0-a"]),
    ("=1.2.3-b", ["1.2.3-b"], ["1.2.3", "1.2.3-a"]),
    (">=1.2.3-b.2, <1.2.3", ["1.2.3-b.2", "1.2.3-b.11"], ["1.2.3-b.1", "1.2.3"]),
    ("<=1.2.3-b", ["1.2.3-a", "1.2.3-b", "1.2.2"], ["1.2.3-c", "1.2.3"]),
    ("~1.2.3-b", ["1.2.3-b", "1.2.9"], ["1.3.0", "1.2.4-b"]),
    # ... and even then an upper limit keeps out the pre-releases of what it excludes.
    ("^1.2.3, >=2.0.0-a", [], ["2.0.0-b", "2.0.0"]),
    ("~1.2.3, >=1.3.0-a", [], ["1.3.0-b"]),
    ("<2, >=2.0.0-a", [], ["2.0.0-b"]),
    ("<2.0.0, >=2.0.0-a", ["2.0.0-b"], ["2.0.0"]),
    (">1, <=2.0.0-b", ["2.0.0-a", "2.0.0-b"], ["2.0.0", "1.9.9"]),
    # Build metadata plays no part.
    ("=1.2.3", ["1.2.3+build.7"], []),
    ("=1.2.3+other", ["1.2.3+build", "1.2.3"], []),
    (">1.2.3", [], ["1.2.3+build"]),
]


@pytest.mark.parametrize(("requirement", "admitted", "refused"), KNOWN)
def test_known_answers(requirement: str, admitted: list[str], refused: list[str]) -> None:
    """A requirement admits what Cargo's admits, and nothing else."""
    parsed = parse_requirement(requirement)
    assert [v for v in (*admitted, *refused) if parsed.admits(v)] == admitted


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        ">=1,",
        "a",
        "v1.0.0",
        "==1",
        "=>1",
        "^",
        "01.2.3",
        "1.02",
        "1.2.3.4",
        "1.*.3",
        "*, 1",
        "^1.*",
        ">=1.*",
        "1-a",
        "1.2-a",
        "1.2.*-a",
        "1.2.3-",
        "1.2.3-a..b",
        "1.2.3-01",
        "1 2",
        "1.2.3\x00",
        "^1\u0661",
        "1\u20032",
        "1" * 19,
        "1," * 256 + "1",
    ],
)
def test_what_is_no_requirement_is_refused(text: str) -> None:
    """Anything outside the grammar, or too long, is an error that says so."""
    with pytest.raises(ValueError, match="cannot read the requirement"):
        parse_requirement(text)


@pytest.mark.parametrize(
    "text",
    [
        *["", "1", "1.2", "v1.2.3", "1.2.3\n", " 1.2.3", "1.2.3.4", "01.2.3", "1.2.3-"],
        *["1.2.3-01", "1.2.\u0663", "1.2.3-\u00e4", "1.2.3-" + "a" * 123, "latest"],
    ],
)
def test_what_is_no_version_is_refused(text: str) -> None:
    """Only SemVer 2.0.0 of at most 128 ASCII characters is a version."""
    assert not is_version(text)
    with pytest.raises(ValueError, match=r"expected SemVer 2\.0\.0"):
        parse_version(text)


def test_the_longest_version_is_read() -> None:
    """128 characters are still a version."""
    text = "1.2.3-" + "a" * 122
    assert is_version(text)
    assert str(parse_version(text)) == text


# SemVer 2.0.0, section 11.
ORDER = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"]
ORDER += ["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0", "2.0.0"]


def test_versions_are_ordered_as_semver_says() -> None:
    """Each of the specification's examples is newer than those before it, and only those."""
    for place, version in enumerate(ORDER):
        assert [is_newer(version, than) for than in ORDER] == [
            place > other for other in range(len(ORDER))
        ]


def test_build_metadata_makes_nothing_newer() -> None:
    """Two versions that differ in build metadata alone are neither newer nor older."""
    assert not is_newer("1.0.0+2", "1.0.0+1")
    assert not is_newer("1.0.0+1", "1.0.0")
    assert is_newer("1.0.1+1", "1.0.0+9")


def test_satisfies_reads_both() -> None:
    """The one-call form parses version and requirement, and refuses what is neither."""
    assert satisfies("0.1.0", ">=0.1")
    assert not satisfies("0.1.0", ">=0.2")
    with pytest.raises(ValueError, match="requirement"):
        satisfies("0.1.0", "newest")
    with pytest.raises(ValueError, match="version"):
        satisfies("newest", "1")
