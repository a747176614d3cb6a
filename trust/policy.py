"""The rules a signed release is judged by (contract, section 5).

Pure: every rule is a function of the case and the key that signed, and answers with a
:class:`Finding`. Order matters only to the reader: the first refusal is the one shown first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from trust.edwards import weakness
from trust.model import Binding, TrustedKey, TrustStore
from trust.scope import matches_registry, matches_scope
from trust.signature import Subject


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says.

    Attributes:
        rule: The rule's name, in kebab case.
        ok: False = this alone refuses the release.
        detail: What was found, for people.
    """

    rule: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged.

    Attributes:
        subject: The release.
        repository: Where it came from, host and path; None = from no registry.
        store: Whom the operator believes.
        now: The time; timezone-aware.
        installed: It was accepted before and is judged again, so time no longer counts.
    """

    subject: Subject
    repository: str | None
    store: TrustStore
    now: datetime
    installed: bool


Rule = Callable[[Case, TrustedKey, Binding], Finding]


def denied(case: Case) -> Finding:
    """``denied``: no ``[[deny]]`` names this release or payload."""
    for deny in case.store.denies:
        if deny.release == case.subject.release:
            found = f"the release {deny.release}"
        elif deny.payload_sha256 == case.subject.payload_sha256:
            found = f"the payload {deny.payload_sha256}"
        else:
            continue
        why = f": {deny.reason}" if deny.reason else ""
        return Finding("denied", ok=False, detail=f"{found} is denied{why}")
    return Finding("denied", ok=True, detail="neither release nor payload is denied")


def store_expiry(case: Case) -> Finding:
    """``store-expiry``: the trust store has not expired. Judged for new releases only."""
    expires = case.store.expires
    if expires is None:
        return Finding("store-expiry", ok=True, detail="the trust store has no expiry")
    return _by_time(
        case, "store-expiry", f"the trust store expires {_date(expires)}", ok=case.now < expires
    )


def weak_key(_case: Case, key: TrustedKey, _binding: Binding) -> Finding:
    """``weak-key``: a signature under this key proves something."""
    problem = weakness(key.public.raw)
    return Finding(
        "weak-key",
        ok=problem is None,
        detail=f"the key {problem or 'is a point of prime order'}",
    )


def accepts(_case: Case, key: TrustedKey, binding: Binding) -> Finding:
    """``accepts``: this kind of signature is believed from this key."""
    return Finding(
        "accepts",
        ok=binding in key.accepts,
        detail=f"a {binding} signature; the key accepts {', '.join(key.accepts)}",
    )


def status(case: Case, key: TrustedKey, _binding: Binding) -> Finding:
    """``status``: the key is not revoked, or this release was kept."""
    if key.status != "revoked":
        return Finding("status", ok=True, detail=f"the key is {key.status}")
    if case.subject.release in key.keep_releases:
        return Finding("status", ok=True, detail="the key is revoked; this release is kept")
    when = f" since {_date(key.revoked_at)}" if key.revoked_at else ""
    why = f": {key.reason}" if key.reason else ""
    return Finding("status", ok=False, detail=f"the key is revoked{when}{why}")


def scope(case: Case, key: TrustedKey, _binding: Binding) -> Finding:
    """``scope``: the key may sign for this id."""
    return Finding(
        "scope",
        ok=any(matches_scope(pattern, case.subject.id) for pattern in key.scopes),
        detail=f"{case.subject.id}; the key may sign {', '.join(key.scopes)}",
    )


def registries(case: Case, key: TrustedKey, _binding: Binding) -> Finding:
    """``registries``: the release came from where the key's releases may come from.

    Judged when a release is accepted; what is installed did come from there.
    """
    if not key.registries:
        return Finding("registries", ok=True, detail="the key's releases may come from anywhere")
    origin = case.repository
    came_from = "no registry" if origin is None else origin
    allowed = f"the key's releases come from {', '.join(key.registries)}"
    if case.installed:
        return Finding("registries", ok=True, detail=f"{allowed}; judged when accepted")
    fits = origin is not None and any(
        matches_registry(pattern, origin) for pattern in key.registries
    )
    return Finding("registries", ok=fits, detail=f"from {came_from}; {allowed}")


def validity(case: Case, key: TrustedKey, _binding: Binding) -> Finding:
    """``validity``: now is within the key's time. Judged for new releases only."""
    begins, ends = key.not_before, key.not_after
    if begins is not None and case.now < begins:
        return _by_time(case, "validity", f"the key is valid from {_date(begins)}", ok=False)
    if ends is None:
        return Finding("validity", ok=True, detail="the key has no end date")
    return _by_time(case, "validity", f"the key is valid until {_date(ends)}", ok=case.now < ends)


KEY_RULES: tuple[Rule, ...] = (weak_key, accepts, status, scope, registries, validity)


def _by_time(case: Case, rule: str, detail: str, *, ok: bool) -> Finding:
    """Hold the time against a new release, and only mention it for an installed one."""
    if not ok and case.installed:
        return Finding(rule, ok=True, detail=f"{detail}; judged when accepted")
    return Finding(rule, ok=ok, detail=detail if ok else f"{detail}; now is {_date(case.now)}")


def _date(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
