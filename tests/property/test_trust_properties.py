"""What holds for every statement, signature, scope and store, not only for the examples."""

import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.files import Files
from support.trust import NOW, private_key, store, store_toml, trusted, write_store
from trust import (
    Evidence,
    SignatureFormatError,
    StoreError,
    Subject,
    TrustStore,
    add_key,
    format_signature,
    load,
    matches_scope,
    parse,
    parse_signature,
    sign,
    verify,
)

segment = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
plugin_id = st.lists(segment, min_size=2, max_size=5).map(".".join)
version = st.text("0123456789abcXYZ.+-", min_size=1, max_size=20)
digest = st.text("0123456789abcdef", min_size=64, max_size=64)
subjects = st.builds(Subject, plugin_id, version, digest, digest)

# A small alphabet, so that patterns and ids often meet.
names = st.sampled_from(["a", "b", "ab"])
short_id = st.lists(names, min_size=1, max_size=5)
scope = st.lists(names | st.just("*"), min_size=1, max_size=5)


@given(subjects)
def test_a_statement_says_its_subject_and_nothing_else(subject: Subject) -> None:
    """Reading the five lines back gives the four fields: two subjects, two statements."""
    head, *lines, end = subject.statement.decode("ascii").split("\n")
    assert head == "stack-composer-plugin/v1"
    assert end == ""
    fields = dict(line.split(": ", 1) for line in lines)
    assert list(fields) == ["id", "version", "manifest-sha256", "payload-sha256"]
    assert Subject(*fields.values()) == subject


@given(subjects, subjects)
def test_a_signature_is_over_one_subject(one: Subject, two: Subject) -> None:
    """A signature is accepted for the release it was made for, and for no other."""
    key = private_key(1)
    believed = store(trusted(key.public, scope="*"))
    evidence = Evidence(sign(one, key))
    assert verify(one, evidence, believed, NOW).accepted
    assert verify(two, evidence, believed, NOW).accepted == (one == two)
    assert (one.release == two.release) == (one == two)


@given(st.binary(min_size=64, max_size=64))
def test_every_signature_comes_back_from_its_file(raw: bytes) -> None:
    """Writing and reading a ``.sig`` file loses nothing."""
    assert parse_signature(format_signature(raw)) == raw


@given(
    st.binary(max_size=140)
    | st.text("0123456789abcdefABCDEF \n\r", max_size=140).map(str.encode)
    | st.builds(bytes.__add__, digest.map(lambda text: (text * 2).encode()), st.binary(max_size=2))
)
def test_a_signature_file_is_what_the_grammar_says(data: bytes) -> None:
    """Accepted exactly where the contract's regular expression matches; never another error."""
    grammatical = re.match(rb"\A[0-9a-f]{128}\n?\Z", data) is not None
    try:
        parse_signature(data)
    except SignatureFormatError:
        assert not grammatical
    else:
        assert grammatical


@given(st.binary(max_size=200), st.none() | st.binary(max_size=50), st.none() | st.text())
def test_no_evidence_makes_the_verifier_raise(
    signature: bytes, payload: bytes | None, repository: str | None
) -> None:
    """Whatever a registry sends is refused in the form of a verdict."""
    subject = Subject("org.example.hello", "0.1.0", "a" * 64, "b" * 64)
    verdict = verify(
        subject,
        Evidence(signature, payload, repository),
        store(trusted(private_key(1).public)),
        NOW,
    )
    assert not verdict.accepted
    assert any(not finding.ok for finding in verdict.findings)


def matches_naively(pattern: list[str], segments: list[str]) -> bool:
    """Say the same as ``matches_scope``, by recursion over the definition."""
    if not pattern:
        return not segments
    if not segments:
        return False
    if pattern == ["*"]:
        return True
    return pattern[0] in ("*", segments[0]) and matches_naively(pattern[1:], segments[1:])


@settings(max_examples=500)
@given(scope, short_id)
def test_scopes_match_as_the_definition_says(pattern: list[str], segments: list[str]) -> None:
    """The matcher agrees with a model that is slow and plain."""
    assert matches_scope(".".join(pattern), ".".join(segments)) == matches_naively(
        pattern, segments
    )


def refusal_of(data: bytes) -> str:
    """Return the message of the refusal; any other exception fails the test."""
    with pytest.raises(StoreError) as caught:
        parse(data, name="keys.toml")
    return str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["id", "public", "owner", "scopes", "status", "x"]), values),
)
def test_a_table_of_wrong_values_is_a_store_error(table: dict[str, object]) -> None:
    """Values of the wrong kind end in one kind of error, never in another."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items() if value is not None]
    assert "keys.toml" in refusal_of(store_toml("[[key]]", *lines).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_store_error(data: bytes) -> None:
    """The same for bytes that are no TOML at all."""
    assert "keys.toml" in refusal_of(data)


one_line = st.text(min_size=1, max_size=30).filter(str.isprintable)


@settings(max_examples=30, deadline=None)
@given(one_line, st.lists(plugin_id, min_size=1, max_size=3, unique=True), one_line)
def test_what_is_added_is_what_is_read(owner: str, scopes: list[str], comment: str) -> None:
    """Any printable owner survives quoting, and any comment stays where it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_store(Path(folder) / "trusted_keys.toml", f"# {comment}\n" + store_toml())
        entry = add_key(
            path,
            private_key(1).public,
            owner=owner,
            scopes=scopes,
            files=Files(),
            uid=path.stat().st_uid,
        )
        assert entry.owner == owner
        assert entry.scopes == tuple(scopes)
        assert load(path, uid=path.stat().st_uid) == TrustStore(8, None, (entry,), (), path)
        assert path.read_text(encoding="utf-8").startswith(f"# {comment}\n")
