"""``verify``: is this release to be believed? No clock, no disk, no network."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from trust.errors import SignatureFormatError
from trust.model import Binding, TrustedKey, TrustStore
from trust.policy import KEY_RULES, Case, Finding, denied, store_expiry
from trust.scope import matches_scope
from trust.signature import Subject, parse_signature

_WASM_MAGIC = b"\0asm"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a release.

    Attributes:
        signature: The bytes of the ``.sig`` file; None = there is none.
        payload: The ``.wasm`` bytes; needed for a bare signature only.
        repository: Where it came from, host and path without tag, such as
            ``registry.example.com/plugins/org.example.hello``; None = from no registry.
    """

    signature: bytes | None
    payload: bytes | None = None
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a release is believed, and everything that was found on the way.

    Attributes:
        accepted: True where every finding is ok.
        findings: What each rule said; refusals name what would have to be different.
        binding: ``v1`` (code, manifest, name and version are bound together) or ``bare`` (the
            code alone); None where no known key signed.
        key_id: The key that signed; None where no known key did.
        owner: Its owner.
        max_capabilities: The most the plugin may be granted; None = no ceiling. Under a bare
            signature never None: the manifest that asks is not signed.
        needs_payload: Not accepted without the payload, but it might be with it: a key accepts
            bare signatures for this id. Fetch the payload and verify again.
    """

    accepted: bool
    findings: tuple[Finding, ...]
    binding: Binding | None = None
    key_id: str | None = None
    owner: str | None = None
    max_capabilities: frozenset[str] | None = None
    needs_payload: bool = False


def verify(
    subject: Subject,
    evidence: Evidence,
    store: TrustStore,
    now: datetime,
    *,
    installed: bool = False,
) -> Verdict:
    """Judge a release (contract, sections 3 and 5).

    Args:
        subject: The release, rebuilt from the bytes in hand or from their descriptor.
        evidence: Its signature and where it came from. Nothing in it can raise an error.
        store: Whom the operator believes. An entry in its ``[[deny]]`` beats everything; an
            empty one refuses everything.
        now: The time of judgement; timezone-aware.
        installed: Judge again what was accepted before: dates and the registry it came from are
            no longer held against it, everything else is.

    Returns:
        The verdict. Where more than one key signed, that of the first that is accepted, else
        of the first.
    """
    case = Case(subject, evidence.repository, store, now, installed)
    always = (denied(case), store_expiry(case))
    if not store.keys:
        hint = (
            "the trust store holds no key; run `agent trust add KEY --owner NAME --scope PATTERN`"
        )
        return Verdict(
            accepted=False, findings=(*always, Finding("key-known", ok=False, detail=hint))
        )
    if evidence.signature is None:
        missing = "there is no signature; ask the publisher for a signed release"
        return _refusal(always, missing)
    try:
        signature = parse_signature(evidence.signature)
    except SignatureFormatError as error:
        return _refusal(always, str(error))

    signers = _signers(signature, subject.statement, store, "v1")
    payload = _bare_payload(subject, evidence)
    if not signers and payload is not None:
        signers = _signers(signature, payload, store, "bare")
    verdicts = [_judge(case, key, binding, always) for key, binding in signers]
    if verdicts:
        return next((verdict for verdict in verdicts if verdict.accepted), verdicts[0])
    return _refusal(
        always,
        _nobody_signed(case),
        needs_payload=evidence.payload is None and _may_be_bare(case),
    )


def _signers(
    signature: bytes, message: bytes, store: TrustStore, binding: Binding
) -> list[tuple[TrustedKey, Binding]]:
    """Return the keys that made this signature; a ``.sig`` does not say which."""
    return [(key, binding) for key in store.keys if key.public.verify(signature, message)]


def _bare_payload(subject: Subject, evidence: Evidence) -> bytes | None:
    """Return the payload if a bare signature may be tried on it.

    The magic keeps a signature made over some other kind of file from being one over code.
    """
    payload = evidence.payload
    if payload is None or not payload.startswith(_WASM_MAGIC):
        return None
    return payload if hashlib.sha256(payload).hexdigest() == subject.payload_sha256 else None


def _judge(case: Case, key: TrustedKey, binding: Binding, always: tuple[Finding, ...]) -> Verdict:
    signed = f"a {binding} signature by the key {key.public.key_id} of {key.owner}"
    findings = (
        *always,
        Finding("signature", ok=True, detail=signed),
        *(rule(case, key, binding) for rule in KEY_RULES),
    )
    ceiling = key.max_capabilities
    return Verdict(
        accepted=all(finding.ok for finding in findings),
        findings=findings,
        binding=binding,
        key_id=key.public.key_id,
        owner=key.owner,
        max_capabilities=frozenset() if binding == "bare" and ceiling is None else ceiling,
    )


def _refusal(always: tuple[Finding, ...], detail: str, *, needs_payload: bool = False) -> Verdict:
    return Verdict(
        accepted=False,
        findings=(*always, Finding("signature", ok=False, detail=detail)),
        needs_payload=needs_payload,
    )


def _covering(case: Case) -> list[TrustedKey]:
    return [
        key
        for key in case.store.keys
        if any(matches_scope(pattern, case.subject.id) for pattern in key.scopes)
    ]


def _may_be_bare(case: Case) -> bool:
    return any("bare" in key.accepts for key in _covering(case))


def _nobody_signed(case: Case) -> str:
    signers = [key for key in _covering(case) if key.status != "revoked"]
    expected = ", ".join(f"{key.public.key_id} ({key.owner})" for key in signers)
    return (
        f"made by no trusted key over {case.subject.id} {case.subject.version} with these bytes: "
        "forged, mixed with another release, edited, or by a key unknown here (expected "
        f"{expected or 'nobody: no key covers this id'}; new keys: `agent trust add`)"
    )
