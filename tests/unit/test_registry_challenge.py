"""The ``WWW-Authenticate`` header, as registries write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.challenge import parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            'BASIC Realm="x" , Bearer REALM = "y\\"z",service=s',
            [("basic", {"realm": "x"}), ("bearer", {"realm": 'y"z', "service": "s"})],
        ),
        ("Basic,Bearer realm=x", [("basic", {}), ("bearer", {"realm": "x"})]),
        (
            "Bearer realm=https://a/t?x=1,scope=repository:a:pull,push,service=s",
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/t?x=1",
                        "scope": "repository:a:pull,push",
                        "service": "s",
                    },
                )
            ],
        ),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Bearer realm=one,realm=two", [("bearer", {"realm": "one"})]),
        (
            'Basic realm="a", Bearer realm="never closed',
            [("basic", {"realm": "a"}), ("bearer", {})],
        ),
        ('="x"', []),
        (",,, ,Basic realm=x,,", [("basic", {"realm": "x"})]),
    ],
)
def test_what_is_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    """Several challenges, quotes or none, lists in scopes, token68; nonsense ends the reading."""
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(header)] == expected


words = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.lists(st.tuples(words, st.dictionaries(words, texts, min_size=1)), max_size=4))
def test_what_is_written_by_the_grammar_comes_back(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    """Any schemes, with any texts as quoted values."""
    header = ", ".join(
        f"{scheme} "
        + ", ".join(
            '{}="{}"'.format(name, text.replace("\\", "\\\\").replace('"', '\\"'))
            for name, text in parameters.items()
        )
        for scheme, parameters in challenges
    )
    assert [(c.scheme, c.parameters) for c in parse_challenges(header)] == challenges


@given(st.text(max_size=200))
def test_any_text_is_read(header: str) -> None:
    """No text raises; what is found has a scheme in lower case."""
    for challenge in parse_challenges(header):
        assert challenge.scheme
        assert challenge.scheme == challenge.scheme.lower()


def test_a_header_of_megabytes_is_read_in_part() -> None:
    """What is beyond 8 KiB is not looked at, and no text takes more than linear time."""
    assert parse_challenges("Basic realm=x, " + "a" * (8 << 20))[0].scheme == "basic"
    assert len(parse_challenges("a," * (1 << 20))) <= 4096
    parse_challenges('Basic realm="' + "\\" * (1 << 20))
