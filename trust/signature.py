"""The signed statement, the release it names, and the ``.sig`` file (contract, section 3)."""

import hashlib
import re
from dataclasses import dataclass

from trust.errors import SignatureFormatError, TrustError
from trust.keys import PrivateKey

SIGNATURE_BYTES = 64
_SIGNATURE = re.compile(rb"\A[0-9a-f]{128}\n?\Z")
_SEGMENT = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_ID = re.compile(rf"{_SEGMENT}(\.{_SEGMENT})+")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_ID_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Subject:
    """What a signature speaks of: one manifest and one payload under one name and version.

    Attributes:
        id: The plugin's id, reverse DNS.
        version: Its version. Whether that is SemVer is the manifest's matter; here it may
            hold nothing that could be read as another line of the statement.
        manifest_sha256: SHA-256 of the ``.toml`` bytes, 64 lowercase hex characters.
        payload_sha256: SHA-256 of the ``.wasm`` bytes, 64 lowercase hex characters.

    Raises:
        TrustError: A field does not have its form.
    """

    id: str
    version: str
    manifest_sha256: str
    payload_sha256: str

    def __post_init__(self) -> None:
        what = "cannot make a statement"
        if len(self.id) > _MAX_ID_CHARACTERS or not _ID.fullmatch(self.id):
            raise TrustError(
                f"{what}: got the id {self.id[:140]!a}, expected reverse DNS of two segments "
                f"or more in at most {_MAX_ID_CHARACTERS} characters, such as org.example.hello"
            )
        if not _VERSION.fullmatch(self.version):
            raise TrustError(
                f"{what}: got the version {self.version[:140]!a}, expected at most 128 of "
                "the characters 0-9 A-Z a-z . + -"
            )
        for name in ("manifest_sha256", "payload_sha256"):
            value: str = getattr(self, name)
            if not _SHA256.fullmatch(value):
                raise TrustError(
                    f"{what}: got {name} {value[:70]!a}, expected 64 lowercase hex characters"
                )

    @property
    def statement(self) -> bytes:
        """The exact bytes that are signed: five lines, each ended by LF."""
        return (
            "stack-composer-plugin/v1\n"
            f"id: {self.id}\n"
            f"version: {self.version}\n"
            f"manifest-sha256: {self.manifest_sha256}\n"
            f"payload-sha256: {self.payload_sha256}\n"
        ).encode("ascii")

    @property
    def release(self) -> str:
        """The SHA-256 of the statement, 64 lowercase hex characters."""
        return hashlib.sha256(self.statement).hexdigest()


def format_signature(raw: bytes) -> bytes:
    """Return the bytes of a ``.sig`` file: 128 lowercase hex characters and a newline.

    Args:
        raw: The 64 bytes of an Ed25519 signature.

    Raises:
        SignatureFormatError: ``raw`` is not 64 bytes long.
    """
    if len(raw) != SIGNATURE_BYTES:
        raise SignatureFormatError(
            f"cannot write a signature: got {len(raw)} bytes, expected {SIGNATURE_BYTES}"
        )
    return raw.hex().encode("ascii") + b"\n"


def parse_signature(data: bytes) -> bytes:
    r"""Read the bytes of a ``.sig`` file, ``\A[0-9a-f]{128}\n?\Z``.

    Returns:
        The 64 raw bytes of the signature.

    Raises:
        SignatureFormatError: The bytes are anything else.
    """
    if not _SIGNATURE.match(data):
        raise SignatureFormatError(
            f"cannot read the signature: got {len(data)} bytes, expected 128 lowercase hex "
            "characters and at most one newline; `agent sign` makes such a file"
        )
    return bytes.fromhex(data.decode("ascii"))


def sign(subject: Subject, key: PrivateKey) -> bytes:
    """Sign a release.

    Args:
        subject: The release.
        key: The publisher's key.

    Returns:
        The bytes of the ``.sig`` file.
    """
    return format_signature(key.sign(subject.statement))
