"""Keys, releases and stores for tests of the trust room; the same bytes on every run."""

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trust import Finding, PrivateKey, PublicKey, Subject, TrustedKey, TrustStore, parse_private

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PLUGIN_ID = "org.example.hello"

_PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")

# The 14 encodings of the curve's eight points of small order ("Taming the many EdDSAs", Chalkias,
# Garillot, Nikolaenko, 2020, table 1, both signs of x where it is not zero).
SMALL_ORDER = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
)
SMALL_ORDER_NON_CANONICAL = (
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
)
# The public key of that paper's test vectors 2 to 5.
MIXED_ORDER = "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d"
OFF_THE_CURVE = "02" + "00" * 31

# R = the neutral element, S = 0: under the neutral element as public key this "signs" anything.
FORGED_BY_NOBODY = bytes.fromhex("01" + "00" * 63)


def private_key(number: int) -> PrivateKey:
    """Return a key that is the same on every run; another number, another key."""
    der = _PKCS8_ED25519 + number.to_bytes(32, "big")
    pem = b"-----BEGIN PRIVATE KEY-----\n%b\n-----END PRIVATE KEY-----\n" % base64.b64encode(der)
    return parse_private(pem)


def subject(
    *, plugin_id: str = PLUGIN_ID, version: str = "0.1.0", manifest: str = "a", payload: str = "b"
) -> Subject:
    """Return a release whose digests are one hex digit, repeated."""
    return Subject(plugin_id, version, manifest * 64, payload * 64)


def trusted(public: PublicKey, *, owner: str = "acme", scope: str = "org.example.*") -> TrustedKey:
    """Return a plain entry for a key."""
    return TrustedKey(public=public, owner=owner, scopes=(scope,))


def store(*keys: TrustedKey) -> TrustStore:
    """Return a store of these keys."""
    return TrustStore(serial=1, expires=None, keys=keys, denies=())


def key_toml(public: PublicKey, *lines: str, owner: str = "acme") -> str:
    """Return a ``[[key]]`` table; further lines come last."""
    required = (
        "[[key]]",
        f'id = "{public.key_id}"',
        'algorithm = "ed25519"',
        f'public = "{public.hex}"',
        f'owner = "{owner}"',
        'scopes = ["org.example.*"]',
    )
    return "\n".join((*required, *lines)) + "\n"


def store_toml(*tables: str, serial: int = 7) -> str:
    """Return a whole ``trusted_keys.toml``."""
    return "\n".join((f"schema = 1\nserial = {serial}\n", *tables))


def write_store(path: Path, text: str) -> Path:
    """Write a store file as an operator would have it: 0644, whatever the umask."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def failed(findings: Iterable[Finding]) -> list[str]:
    """Return the names of the rules that refused."""
    return [f.rule for f in findings if not f.ok]
