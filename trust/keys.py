"""Ed25519 keys: made, read, written, and refused where they are weak."""

import hashlib
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trust.edwards import weakness
from trust.errors import KeyFormatError, WeakKeyError
from trust.reading import read_regular

if TYPE_CHECKING:  # importing cryptography takes 40 ms, as long as the rest of a short command
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_KEY_BYTES = 16 * 1024
_RAW_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PUBLIC_HEADER = b"-----BEGIN PUBLIC KEY-----"
_PRIVATE_HEADER = b"-----BEGIN PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key.

    Only its length is checked here; :func:`refuse_weak` says whether it is safe to believe.

    Attributes:
        raw: The 32 bytes of RFC 8032, section 5.1.5.

    Raises:
        KeyFormatError: ``raw`` is not 32 bytes long.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _RAW_BYTES:
            raise KeyFormatError(
                f"cannot read an Ed25519 public key: got {len(self.raw)} bytes, expected 32"
            )

    @property
    def key_id(self) -> str:
        """The first 16 hex characters of the SHA-256 of the raw key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def hex(self) -> str:
        """The key as 64 lowercase hex characters."""
        return self.raw.hex()

    def to_pem(self) -> bytes:
        """Return the key as PEM, SubjectPublicKeyInfo (RFC 8410), as ``openssl`` reads it."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Say whether ``signature`` (64 raw bytes) is this key's over ``message``.

        A signature of any other length is simply not valid. Meaningless under a weak key.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """An Ed25519 private key. Its ``repr`` shows the key id and never the secret."""

    __slots__ = ("_key", "public")

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "PrivateKey":
        """Make a new key from the system's random numbers."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"PrivateKey(key_id={self.public.key_id!r})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64 raw bytes of the signature over ``message`` (pure Ed25519)."""
        return self._key.sign(message)

    def to_pem(self) -> bytes:
        """Return the secret as PEM, PKCS#8 (RFC 8410), not encrypted."""
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_public(data: bytes | str) -> PublicKey:
    """Read a public key from 64 lowercase hex characters or PEM (SubjectPublicKeyInfo).

    Space around it is ignored. Weak keys are read: :func:`refuse_weak` is a step of its own.

    Args:
        data: The text, at most 16 KiB.

    Raises:
        KeyFormatError: It is neither, a key of another algorithm, a private key, or too long.
    """
    what = "cannot read a public key"
    text = _bounded(data.encode("utf-8", "replace") if isinstance(data, str) else data, what)
    if _PRIVATE_HEADER in text:
        raise KeyFormatError(
            f"{what}: got a private key, expected its public half; "
            "`agent keygen FILE` wrote that to FILE.pub"
        )
    if not text.startswith(_PUBLIC_HEADER):
        hexadecimal = text.decode("ascii", "replace")
        if not _HEX.fullmatch(hexadecimal):
            raise KeyFormatError(
                f"{what}: got {_excerpt(hexadecimal)}, expected 64 lowercase hex characters or PEM "
                "that starts with -----BEGIN PUBLIC KEY-----"
            )
        return PublicKey(bytes.fromhex(hexadecimal))

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFormatError(f"{what}: got broken PEM, expected an Ed25519 key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFormatError(f"{what}: got {_kind(key)}, expected an Ed25519 key")
    return PublicKey(key.public_bytes_raw())


def parse_private(data: bytes) -> PrivateKey:
    """Read a private key from PEM (PKCS#8, not encrypted).

    Args:
        data: The text, at most 16 KiB.

    Raises:
        KeyFormatError: It is no such key. The message never quotes the input.
    """
    what = "cannot read a private key"
    hint = "`agent keygen FILE` makes one"
    text = _bounded(data, what)
    if not text.startswith(_PRIVATE_HEADER):
        raise KeyFormatError(
            f"{what}: got something else, expected PEM that starts with "
            f"{_PRIVATE_HEADER.decode()}; {hint}"
        )

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFormatError(f"{what}: got broken PEM, expected an Ed25519 key; {hint}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFormatError(f"{what}: got {_kind(key)}, expected an Ed25519 key; {hint}")
    return PrivateKey(key)


def load_private(path: Path) -> PrivateKey:
    """Read a private key from a file that only its owner can read.

    Args:
        path: A PKCS#8 PEM file of at most 16 KiB, as ``agent keygen`` writes it.

    Raises:
        KeyFormatError: The file cannot be read, is no regular file, is open to its group or to
            others (``mode & 0o077``), or holds no Ed25519 key.
    """
    what = f"cannot read the private key {path}"
    try:
        status, data = read_regular(path, max_bytes=MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFormatError(f"{what}: {error.strerror}; `agent keygen FILE` makes one") from error
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFormatError(
            f"{what}: got mode {mode:04o}, expected one that only its owner can read; "
            f"run `chmod 600 {path}`"
        )
    try:
        return parse_private(data)
    except KeyFormatError as error:
        raise KeyFormatError(f"{error} (file {path})") from error


def load_public(path: Path) -> PublicKey:
    """Read a public key from a file.

    Args:
        path: A PEM file, or one with 64 hexadecimal characters, of at most 16 KiB.

    Raises:
        KeyFormatError: The file cannot be read, is no regular file, or holds no Ed25519 key.
    """
    try:
        _, data = read_regular(path, max_bytes=MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFormatError(
            f"cannot read the public key {path}: {error.strerror}; `agent keygen FILE` makes one"
        ) from error
    try:
        return parse_public(data)
    except KeyFormatError as error:
        raise KeyFormatError(f"{error} (file {path})") from error


def refuse_weak(key: PublicKey) -> None:
    """Refuse a key under which signatures prove nothing.

    Args:
        key: Any 32 bytes.

    Raises:
        WeakKeyError: The key is of small or mixed order, not encoded canonically, or not a
            point of the curve (contract, section 5).
    """
    problem = weakness(key.raw)
    if problem is not None:
        raise WeakKeyError(
            f"cannot trust the public key {key.key_id}: the key {problem}, expected a point of "
            "prime order; ask its owner for a key made by `agent keygen`"
        )


def _bounded(data: bytes, what: str) -> bytes:
    if len(data) > MAX_KEY_BYTES:
        raise KeyFormatError(f"{what}: got more than {MAX_KEY_BYTES} bytes, expected a key")
    return data.strip()


def _excerpt(text: str) -> str:
    """Quote the start of a text, with its control characters escaped."""
    most = 24
    return ascii(text if len(text) <= most else text[:most] + "…")


def _kind(key: object) -> str:
    """Name a key's algorithm by the library's class for it."""
    return f"a key of type {type(key).__name__}"
