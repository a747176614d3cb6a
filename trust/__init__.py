"""Whom we believe: Ed25519 keys, the signed statement, and the operator's trust store.

Knows nothing of registries, sandboxes or the agent. Broken input raises a
:class:`TrustError`; a release that is not trusted is a :class:`Verdict` that says every finding.
"""

from trust.errors import (
    KeyFormatError,
    SignatureFormatError,
    StoreBusyError,
    StoreError,
    TrustError,
    WeakKeyError,
)
from trust.keys import (
    PrivateKey,
    PublicKey,
    load_private,
    load_public,
    parse_private,
    parse_public,
    refuse_weak,
)
from trust.model import Binding, Deny, Status, TrustedKey, TrustStore
from trust.policy import Finding
from trust.schema import parse
from trust.scope import matches_registry, matches_scope
from trust.signature import Subject, format_signature, parse_signature, sign
from trust.store import Files, add_key, load, revoke
from trust.verify import Evidence, Verdict, verify

__all__ = [
    "Binding",
    "Deny",
    "Evidence",
    "Files",
    "Finding",
    "KeyFormatError",
    "PrivateKey",
    "PublicKey",
    "SignatureFormatError",
    "Status",
    "StoreBusyError",
    "StoreError",
    "Subject",
    "TrustError",
    "TrustStore",
    "TrustedKey",
    "Verdict",
    "WeakKeyError",
    "add_key",
    "format_signature",
    "load",
    "load_private",
    "load_public",
    "matches_registry",
    "matches_scope",
    "parse",
    "parse_private",
    "parse_public",
    "parse_signature",
    "refuse_weak",
    "revoke",
    "sign",
    "verify",
]
