"""Keys are read strictly, written so that others read them, and refused where weak."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from support.trust import (
    FORGED_BY_NOBODY,
    MIXED_ORDER,
    OFF_THE_CURVE,
    SMALL_ORDER,
    SMALL_ORDER_NON_CANONICAL,
    private_key,
)
from trust import (
    KeyFormatError,
    PrivateKey,
    PublicKey,
    TrustError,
    WeakKeyError,
    load_private,
    load_public,
    parse_private,
    parse_public,
    refuse_weak,
)

# RFC 8032, section 7.1, test 3.
RFC_PUBLIC = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
RFC_MESSAGE = bytes.fromhex("af82")
RFC_SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def pem_of(key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey) -> bytes:
    """Return a key of another algorithm as PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_key(path: Path, data: bytes, mode: int = 0o600) -> Path:
    """Write a key file of exactly this mode."""
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_signature_of_the_rfc_is_valid_and_any_change_of_it_is_not() -> None:
    """The keys are those of RFC 8032, and nothing else passes for a signature."""
    key = parse_public(RFC_PUBLIC)
    assert key.verify(RFC_SIGNATURE, RFC_MESSAGE)
    assert not key.verify(RFC_SIGNATURE, RFC_MESSAGE + b"\0")
    assert not key.verify(RFC_SIGNATURE[:-1], RFC_MESSAGE)
    assert not key.verify(b"", RFC_MESSAGE)
    assert not key.verify(RFC_SIGNATURE[:-1] + b"\x1a", RFC_MESSAGE)  # S + L: malleable


def test_the_key_id_is_the_start_of_the_hash_of_the_raw_key() -> None:
    """The contract's own example of a key id."""
    key = parse_public("57bd13ab" * 8)
    assert len(key.key_id) == 16
    assert PublicKey(bytes(32)).key_id == "66687aadf862bd77"  # sha256 of 32 zero bytes
    assert key.hex == "57bd13ab" * 8


def test_a_generated_key_signs_and_is_a_new_one_each_time() -> None:
    """generate() gives sound, different keys."""
    one, two = PrivateKey.generate(), PrivateKey.generate()
    assert one.public != two.public
    assert one.public.verify(one.sign(b"text"), b"text")
    assert not two.public.verify(one.sign(b"text"), b"text")
    refuse_weak(one.public)


def test_both_pem_forms_come_back_as_the_same_key() -> None:
    """What to_pem writes, the parsers read; space around a public key is no matter."""
    key = private_key(1)
    assert parse_private(key.to_pem()).public == key.public
    assert parse_public(key.public.to_pem()) == key.public
    assert parse_public(key.public.to_pem().decode()) == key.public
    assert parse_public(f"  {key.public.hex}\n".encode()) == key.public


def test_the_secret_is_in_no_representation() -> None:
    """A key in a log or traceback shows its id only."""
    key = private_key(1)
    assert repr(key) == str(key) == f"PrivateKey(key_id='{key.public.key_id}')"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "expected 64 lowercase hex"),
        ("ab" * 31, "expected 64 lowercase hex"),
        ("ab" * 33, "expected 64 lowercase hex"),
        ("AB" * 32, "expected 64 lowercase hex"),
        ("ab " * 32, "expected 64 lowercase hex"),
        ("٠" * 64, "expected 64 lowercase hex"),
        ("\udcff" * 64, "expected 64 lowercase hex"),
        (b"\xff\x1b[31m", r"\\ufffd\\x1b"),
        ("a" * 20_000, "more than 16384 bytes"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "broken PEM"),
        ("-----BEGIN PUBLIC KEY-----", "broken PEM"),
        (private_key(1).to_pem(), "got a private key"),
    ],
)
def test_what_is_no_public_key_is_refused(data: bytes | str, message: str) -> None:
    """Anything but 64 lowercase hex characters or PEM is an error that says so."""
    with pytest.raises(KeyFormatError, match=message):
        parse_public(data)


def test_keys_of_other_algorithms_are_refused_by_name() -> None:
    """A key that would be read as something else is named."""
    curve = ec.generate_private_key(ec.SECP256R1())
    public = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyFormatError, match="ECPublicKey, expected an Ed25519 key"):
        parse_public(public)
    with pytest.raises(KeyFormatError, match="X25519PrivateKey, expected an Ed25519 key"):
        parse_private(pem_of(x25519.X25519PrivateKey.generate()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        b"c2VjcmV0" * 4000,
    ],
)
def test_what_is_no_private_key_is_refused_and_never_quoted(data: bytes) -> None:
    """An error about a private key holds nothing of it."""
    with pytest.raises(KeyFormatError) as caught:
        parse_private(data)
    assert "c2VjcmV0" not in str(caught.value)


def test_an_encrypted_private_key_is_refused() -> None:
    """Nobody is asked for a password; the message says what is expected."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    encrypted = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    )
    with pytest.raises(KeyFormatError, match="expected PEM that starts with"):
        parse_private(encrypted)
    # Plain header, encrypted content: the library asks for a password.
    relabelled = encrypted.replace(b"ENCRYPTED PRIVATE", b"PRIVATE")
    with pytest.raises(KeyFormatError, match="broken PEM"):
        parse_private(relabelled)


def test_a_key_file_of_its_owner_alone_is_read(tmp_path: Path) -> None:
    """Modes 0600 and 0400 are what a private key may have."""
    for mode in (0o600, 0o400):
        path = write_key(tmp_path / f"key-{mode:o}", private_key(1).to_pem(), mode)
        assert load_private(path).public == private_key(1).public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o660])
def test_a_key_file_open_to_others_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    """Any bit for group or others is too many."""
    path = write_key(tmp_path / "key", private_key(1).to_pem(), mode)
    with pytest.raises(KeyFormatError, match=f"got mode {mode:04o}.*run `chmod 600 {path}`"):
        load_private(path)


def test_a_key_file_that_holds_no_key_is_named(tmp_path: Path) -> None:
    """The message of a parse error ends with the file."""
    path = write_key(tmp_path / "key", b"nothing")
    with pytest.raises(KeyFormatError, match=f"file {path}"):
        load_private(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A missing file, a folder, and a FIFO nobody writes to are errors at once."""
    with pytest.raises(KeyFormatError, match=r"No such file.*agent keygen"):
        load_private(tmp_path / "missing")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    with pytest.raises(KeyFormatError, match="not a regular file"):
        load_private(folder)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    with pytest.raises(KeyFormatError, match="not a regular file"):
        load_private(fifo)


def test_a_public_key_is_read_from_a_file(tmp_path: Path) -> None:
    """PEM or hex; what is no key, no file, or too long is told with the file's name."""
    key, path = private_key(1).public, tmp_path / "key.pub"
    for data in (key.to_pem(), key.hex.encode()):
        path.write_bytes(data)
        assert load_public(path) == key
    path.write_bytes(b"nothing")
    with pytest.raises(KeyFormatError, match=f"file {path}"):
        load_public(path)
    os.truncate(path, 1 << 40)
    with pytest.raises(KeyFormatError, match=f"file {path}"):
        load_public(path)
    path.unlink()
    with pytest.raises(KeyFormatError, match=r"No such file.*agent keygen"):
        load_public(path)
    os.mkfifo(path)
    with pytest.raises(KeyFormatError, match="not a regular file"):
        load_public(path)


def test_an_oversize_key_file_is_not_read_whole(tmp_path: Path) -> None:
    """A sparse terabyte in the key's place is refused like any long file."""
    path = write_key(tmp_path / "key", b"")
    os.truncate(path, 1 << 40)
    with pytest.raises(KeyFormatError, match="more than 16384 bytes"):
        load_private(path)


def test_a_public_key_has_32_bytes() -> None:
    """No other length makes a key."""
    for length in (0, 31, 33):
        with pytest.raises(KeyFormatError, match=f"got {length} bytes, expected 32"):
            PublicKey(bytes(length))


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        *((encoding, "small order") for encoding in SMALL_ORDER),
        *((encoding, "not encoded canonically") for encoding in SMALL_ORDER_NON_CANONICAL),
        (MIXED_ORDER, "mixed order"),
        (OFF_THE_CURVE, "not a point of the curve"),
        ("f0" + "ff" * 30 + "7f", "not encoded canonically"),
    ],
)
def test_weak_keys_are_refused(encoding: str, problem: str) -> None:
    """Each published weak encoding is read as bytes and refused as a key to believe."""
    key = parse_public(encoding)
    with pytest.raises(WeakKeyError, match=problem) as caught:
        refuse_weak(key)
    assert isinstance(caught.value, TrustError)


def test_the_weak_list_is_the_whole_list() -> None:
    """Fourteen encodings decode to a point of small order; the table holds each once."""
    assert len({*SMALL_ORDER, *SMALL_ORDER_NON_CANONICAL}) == 14


def test_keys_in_use_are_not_refused() -> None:
    """The refusal is of weak keys only, odd and even x alike."""
    refuse_weak(parse_public(RFC_PUBLIC))
    for number in range(8):
        refuse_weak(private_key(number).public)


def test_why_weak_keys_matter() -> None:
    """Without the check, a signature that nobody made is valid over anything."""
    neutral = parse_public(SMALL_ORDER[0])
    assert neutral.verify(FORGED_BY_NOBODY, b"anything")
    assert neutral.verify(FORGED_BY_NOBODY, b"anything else")
