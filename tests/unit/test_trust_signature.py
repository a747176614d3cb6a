"""The statement, the release and the ``.sig`` file have exactly the contract's bytes."""

import hashlib

import pytest

from support.trust import private_key, subject
from trust import (
    SignatureFormatError,
    Subject,
    TrustError,
    format_signature,
    parse_signature,
    sign,
)

STATEMENT = (
    b"stack-composer-plugin/v1\n"
    b"id: org.example.hello\n"
    b"version: 0.1.0\n"
    b"manifest-sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
    b"payload-sha256: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
)


def test_the_statement_is_these_bytes() -> None:
    """Five lines, LF, a final LF; changing one byte would void every signature ever made."""
    assert subject().statement == STATEMENT


def test_the_release_is_the_hash_of_the_statement() -> None:
    """A release is named by what is signed."""
    assert subject().release == hashlib.sha256(STATEMENT).hexdigest()


def test_the_signature_file_is_hex_and_a_newline() -> None:
    """sign() gives the bytes of the file; they verify over the statement."""
    data = sign(subject(), private_key(1))
    assert len(data) == 129
    assert data.endswith(b"\n")
    assert private_key(1).public.verify(parse_signature(data), STATEMENT)


def test_the_final_newline_is_optional() -> None:
    """A ``.sig`` made by hand may end without it."""
    assert parse_signature(b"0f" * 64) == parse_signature(b"0f" * 64 + b"\n") == b"\x0f" * 64


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"0f" * 63,
        b"0f" * 65,
        b"0F" * 64,
        b"0f" * 64 + b"\n\n",
        b"0f" * 64 + b"\r\n",
        b" " + b"0f" * 64,
        b"0f" * 64 + b" ",
        b"0x" + b"0f" * 63,
        b"0f" * 32 + b"\n" + b"0f" * 32,
        b"\x0f" * 64,
        b"0f" * 1_000_000,
    ],
)
def test_no_other_bytes_are_a_signature(data: bytes) -> None:
    """The grammar is the contract's, to the byte."""
    with pytest.raises(SignatureFormatError, match=f"got {len(data)} bytes, expected 128"):
        parse_signature(data)


def test_only_64_bytes_make_a_signature_file() -> None:
    """format_signature writes no file that parse_signature would refuse."""
    for length in (0, 63, 65):
        with pytest.raises(SignatureFormatError, match=f"got {length} bytes, expected 64"):
            format_signature(bytes(length))


@pytest.mark.parametrize(
    "plugin_id",
    [
        "",
        "hello",
        "org.",
        ".hello",
        "org..hello",
        "Org.example",
        "org.ex_ample",
        "org.-example",
        "org.example-",
        "org.example\n",
        "org.example\nversion: 9.9.9",
        "org.éxample",
        "org.*",
        "org." + "a" * 125,
    ],
)
def test_an_id_that_is_no_id_is_never_signed(plugin_id: str) -> None:
    """Nothing that could be read as another line enters a statement."""
    with pytest.raises(TrustError, match="got the id"):
        Subject(plugin_id, "0.1.0", "a" * 64, "b" * 64)


def test_the_longest_id_is_128_characters() -> None:
    """The bound is the contract's, not one less."""
    longest = "org." + "a" * 124
    assert Subject(longest, "0.1.0", "a" * 64, "b" * 64).id == longest


@pytest.mark.parametrize("version", ["", "1.0.0\n", "1.0.0 ", "1:0", "1.0.0\nid: x.y", "1" * 129])
def test_a_version_that_could_break_the_statement_is_never_signed(version: str) -> None:
    """A version holds the characters of SemVer and nothing else."""
    with pytest.raises(TrustError, match="got the version"):
        Subject("org.example.hello", version, "a" * 64, "b" * 64)


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_a_digest_is_64_lowercase_hex_characters(digest: str) -> None:
    """Both digests have the one form, and the message says which is wrong."""
    with pytest.raises(TrustError, match="got manifest_sha256"):
        Subject("org.example.hello", "0.1.0", digest, "b" * 64)
    with pytest.raises(TrustError, match="got payload_sha256"):
        Subject("org.example.hello", "0.1.0", "a" * 64, digest)
