"""What ``trusted_keys.toml`` says, as values (contract, section 5)."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from trust.keys import PublicKey

Status = Literal["active", "retiring", "revoked"]
Binding = Literal["v1", "bare"]


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One ``[[key]]``: whose it is and what it may vouch for.

    Attributes:
        public: The key.
        owner: Who holds the private half; one line of text.
        scopes: The plugin ids it may sign, see :func:`trust.matches_scope`.
        registries: Where its releases may come from; empty = anywhere.
        accepts: The kinds of signature believed from it: ``v1``, ``bare``.
        max_capabilities: The most its plugins may be granted; None = no ceiling of its own.
        not_before: No new release is accepted earlier; timezone-aware.
        not_after: No new release is accepted from then on; timezone-aware.
        status: ``active``; ``retiring`` (still believed, a successor exists); ``revoked``.
        revoked_at: When it was revoked; for people, the status alone decides.
        reason: Why it was revoked; one line of text.
        keep_releases: Releases (64 hex) still believed after the revocation.
    """

    public: PublicKey
    owner: str
    scopes: tuple[str, ...]
    registries: tuple[str, ...] = ()
    accepts: tuple[Binding, ...] = ("v1",)
    max_capabilities: frozenset[str] | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    status: Status = "active"
    revoked_at: datetime | None = None
    reason: str = ""
    keep_releases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Deny:
    """One ``[[deny]]``: bytes that are refused whoever signed them.

    Attributes:
        release: A release, 64 hex; exactly one of this and ``payload_sha256`` is set.
        payload_sha256: The SHA-256 of a ``.wasm`` file, 64 hex: refused under every manifest.
        reason: Why; one line of text, may be empty.
    """

    release: str | None
    payload_sha256: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Everything the operator believes.

    Attributes:
        serial: Grows with each edit; callers remember the highest and refuse a lower one.
            0 = there is no file.
        expires: From then on no new release is accepted; timezone-aware.
        keys: No key twice, and no key under two owners.
        denies: What is refused whoever signed it.
        path: The file this was read from, or would be created at.
    """

    serial: int
    expires: datetime | None
    keys: tuple[TrustedKey, ...]
    denies: tuple[Deny, ...]
    path: Path | None = None

    @classmethod
    def empty(cls, path: Path | None = None) -> "TrustStore":
        """Return the store of one who trusts nobody yet: everything is refused."""
        return cls(serial=0, expires=None, keys=(), denies=(), path=path)
