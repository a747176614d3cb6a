"""Every rule of the trust policy, one at a time: what is refused, and what it says."""

import dataclasses
import hashlib

import pytest

from support.trust import (
    DAY,
    FORGED_BY_NOBODY,
    MIXED_ORDER,
    NOW,
    PLUGIN_ID,
    SMALL_ORDER,
    failed,
    private_key,
    store,
    subject,
    trusted,
)
from trust import (
    Deny,
    Evidence,
    Finding,
    Subject,
    TrustedKey,
    TrustStore,
    Verdict,
    format_signature,
    parse_public,
    sign,
    verify,
)

KEY = private_key(1)
OTHER = private_key(2)
ENTRY = trusted(KEY.public)
CODE = b"\0asm\x01\0\0\0 and more"


def judge(
    entry: TrustedKey = ENTRY, *, repository: str | None = None, installed: bool = False
) -> Verdict:
    """Judge a properly signed release under one entry."""
    evidence = Evidence(sign(subject(), KEY), repository=repository)
    return verify(subject(), evidence, store(entry), NOW, installed=installed)


def detail(verdict: Verdict, rule: str) -> str:
    """Return what one rule said."""
    return next(finding.detail for finding in verdict.findings if finding.rule == rule)


def test_a_signed_release_of_a_trusted_key_is_accepted_with_every_finding() -> None:
    """The whole verdict of the ordinary case."""
    verdict = judge()
    assert verdict.accepted
    assert verdict.binding == "v1"
    assert verdict.key_id == KEY.public.key_id
    assert verdict.owner == "acme"
    assert verdict.max_capabilities is None
    assert not verdict.needs_payload
    assert [finding.rule for finding in verdict.findings] == [
        "denied",
        "store-expiry",
        "signature",
        "weak-key",
        "accepts",
        "status",
        "scope",
        "registries",
        "validity",
    ]
    assert all(finding.ok for finding in verdict.findings)


def test_an_empty_store_refuses_everything_and_says_what_to_do() -> None:
    """Nobody is trusted until someone says so."""
    verdict = verify(subject(), Evidence(sign(subject(), KEY)), TrustStore.empty(), NOW)
    assert not verdict.accepted
    assert failed(verdict.findings) == ["key-known"]
    assert "`agent trust add" in detail(verdict, "key-known")


def test_a_release_without_a_signature_is_refused() -> None:
    """Unsigned is refused by every store."""
    verdict = verify(subject(), Evidence(None), store(ENTRY), NOW)
    assert not verdict.accepted
    assert failed(verdict.findings) == ["signature"]
    assert "no signature" in detail(verdict, "signature")


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"0f" * 64 + b"\n\n", b"F" * 128])
def test_a_malformed_signature_is_a_refusal_and_no_exception(data: bytes) -> None:
    """Hostile evidence can't make the verifier raise."""
    verdict = verify(subject(), Evidence(data), store(ENTRY), NOW)
    assert failed(verdict.findings) == ["signature"]
    assert "expected 128" in detail(verdict, "signature")


@pytest.mark.parametrize(
    "claimed",
    [
        subject(version="0.2.0"),
        subject(plugin_id="org.example.other"),
        subject(manifest="c"),
        subject(payload="c"),
    ],
    ids=["version", "id", "edited manifest", "code of another release"],
)
def test_a_signature_binds_all_four_fields(claimed: Subject) -> None:
    """A signature over one release is none over another that differs in any field."""
    verdict = verify(claimed, Evidence(sign(subject(), KEY)), store(ENTRY), NOW)
    assert not verdict.accepted
    assert failed(verdict.findings) == ["signature"]
    assert (verdict.binding, verdict.key_id, verdict.owner) == (None, None, None)


def test_an_unknown_signer_is_told_from_the_expected_one() -> None:
    """The refusal names the keys that could have signed, not the revoked ones."""
    gone = dataclasses.replace(trusted(private_key(3).public), status="revoked")
    verdict = verify(subject(), Evidence(sign(subject(), OTHER)), store(ENTRY, gone), NOW)
    said = detail(verdict, "signature")
    assert f"{KEY.public.key_id} (acme)" in said
    assert gone.public.key_id not in said
    elsewhere = store(trusted(KEY.public, scope="com.other.*"))
    verdict = verify(subject(), Evidence(sign(subject(), OTHER)), elsewhere, NOW)
    assert "no key covers this id" in detail(verdict, "signature")


def test_a_key_out_of_its_scope_is_refused() -> None:
    """A known key may still not sign for everybody."""
    verdict = judge(trusted(KEY.public, scope="org.example.tools.*"))
    assert failed(verdict.findings) == ["scope"]
    assert detail(verdict, "scope") == f"{PLUGIN_ID}; the key may sign org.example.tools.*"
    assert verdict.key_id == KEY.public.key_id


def test_any_one_scope_is_enough() -> None:
    """Scopes add up."""
    assert judge(dataclasses.replace(ENTRY, scopes=("com.x.*", "org.example.*"))).accepted


@pytest.mark.parametrize("installed", [False, True])
def test_a_revoked_key_is_refused_even_for_what_is_installed(*, installed: bool) -> None:
    """Revocation stops new releases and running ones, and says since when and why."""
    entry = dataclasses.replace(ENTRY, status="revoked", revoked_at=NOW, reason="lost laptop")
    verdict = judge(entry, installed=installed)
    assert failed(verdict.findings) == ["status"]
    said = detail(verdict, "status")
    assert said == "the key is revoked since 2026-07-01T12:00:00Z: lost laptop"


def test_a_revocation_needs_neither_date_nor_reason() -> None:
    """The one word counts."""
    verdict = judge(dataclasses.replace(ENTRY, status="revoked"))
    assert detail(verdict, "status") == "the key is revoked"
    assert not verdict.accepted


def test_a_kept_release_survives_the_revocation() -> None:
    """keep_releases names releases, not versions."""
    kept = dataclasses.replace(
        ENTRY, status="revoked", keep_releases=frozenset({subject().release})
    )
    assert judge(kept).accepted
    other = dataclasses.replace(
        ENTRY, status="revoked", keep_releases=frozenset({subject(version="0.2.0").release})
    )
    assert not judge(other).accepted


def test_a_retiring_key_is_still_believed() -> None:
    """Retiring is a notice to people."""
    assert judge(dataclasses.replace(ENTRY, status="retiring")).accepted


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("by", ["release", "payload"])
def test_a_denial_beats_everything(by: str, *, installed: bool) -> None:
    """A denied release or payload is refused whoever signed it, kept or installed."""
    deny = (
        Deny(subject().release, None, "steals")
        if by == "release"
        else Deny(None, subject().payload_sha256, "steals")
    )
    entry = dataclasses.replace(
        ENTRY, status="revoked", keep_releases=frozenset({subject().release})
    )
    for key in (ENTRY, entry):
        denying = dataclasses.replace(store(key), denies=(deny,))
        evidence = Evidence(sign(subject(), KEY))
        verdict = verify(subject(), evidence, denying, NOW, installed=installed)
        assert failed(verdict.findings) == ["denied"]
        assert verdict.findings[0].detail.endswith("is denied: steals")


def test_a_denial_of_other_bytes_denies_nothing_here() -> None:
    """A deny entry is about exactly its bytes; one without reason is an entry all the same."""
    others = (Deny("0" * 64, None, ""), Deny(None, "0" * 64, ""))
    evidence = Evidence(sign(subject(), KEY))
    assert verify(
        subject(), evidence, dataclasses.replace(store(ENTRY), denies=others), NOW
    ).accepted
    plain = dataclasses.replace(store(ENTRY), denies=(*others, Deny(subject().release, None, "")))
    assert verify(subject(), evidence, plain, NOW).findings[0].detail.endswith("is denied")


def test_validity_begins_and_ends_to_the_second() -> None:
    """not_before is the first moment, not_after the first one that is too late."""
    from_now = dataclasses.replace(ENTRY, not_before=NOW)
    assert judge(from_now).accepted
    tomorrow = dataclasses.replace(ENTRY, not_before=NOW + DAY)
    assert failed(judge(tomorrow).findings) == ["validity"]
    until_now = dataclasses.replace(ENTRY, not_after=NOW)
    assert failed(judge(until_now).findings) == ["validity"]
    assert "now is 2026-07-01T12:00:00Z" in detail(judge(until_now), "validity")
    until_tomorrow = dataclasses.replace(ENTRY, not_before=NOW - DAY, not_after=NOW + DAY)
    assert judge(until_tomorrow).accepted


def test_an_expired_store_accepts_nothing_new() -> None:
    """The store's own date, whoever signed; also where nobody did."""
    expired = dataclasses.replace(store(ENTRY), expires=NOW)
    verdict = verify(subject(), Evidence(sign(subject(), KEY)), expired, NOW)
    assert failed(verdict.findings) == ["store-expiry"]
    assert failed(verify(subject(), Evidence(None), expired, NOW).findings) == [
        "store-expiry",
        "signature",
    ]
    fresh = dataclasses.replace(store(ENTRY), expires=NOW + DAY)
    assert verify(subject(), Evidence(sign(subject(), KEY)), fresh, NOW).accepted


def test_time_never_stops_what_is_installed() -> None:
    """Expired key, key not yet valid, expired store: mentioned, and accepted."""
    evidence = Evidence(sign(subject(), KEY))
    for entry in (
        dataclasses.replace(ENTRY, not_after=NOW - DAY),
        dataclasses.replace(ENTRY, not_before=NOW + DAY),
    ):
        verdict = judge(entry, installed=True)
        assert verdict.accepted
        assert detail(verdict, "validity").endswith("judged when accepted")
    in_time = judge(dataclasses.replace(ENTRY, not_after=NOW + DAY), installed=True)
    assert detail(in_time, "validity") == "the key is valid until 2026-07-02T12:00:00Z"
    expired = dataclasses.replace(store(ENTRY), expires=NOW - DAY)
    verdict = verify(subject(), evidence, expired, NOW, installed=True)
    assert verdict.accepted
    assert detail(verdict, "store-expiry").endswith("judged when accepted")


def test_what_is_installed_is_stopped_by_broken_bytes_and_a_key_removed() -> None:
    """Being installed excuses time, not a signature that no longer holds."""
    evidence = Evidence(sign(subject(), KEY))
    changed = verify(subject(payload="c"), evidence, store(ENTRY), NOW, installed=True)
    assert not changed.accepted
    removed = verify(subject(), evidence, store(trusted(OTHER.public)), NOW, installed=True)
    assert not removed.accepted
    assert failed(judge(trusted(KEY.public, scope="com.x.*"), installed=True).findings) == ["scope"]


def test_registries_limit_where_new_releases_come_from() -> None:
    """A key tied to a registry vouches for nothing that came from elsewhere or nowhere."""
    entry = dataclasses.replace(ENTRY, registries=("registry.example.com/*", "mirror.local/*"))
    assert judge(entry, repository=f"registry.example.com/plugins/{PLUGIN_ID}").accepted
    assert judge(entry, repository=f"mirror.local/{PLUGIN_ID}").accepted
    elsewhere = judge(entry, repository=f"evil.example.org/{PLUGIN_ID}")
    assert failed(elsewhere.findings) == ["registries"]
    nowhere = judge(entry)
    assert failed(nowhere.findings) == ["registries"]
    assert "from no registry" in detail(nowhere, "registries")
    assert judge(entry, installed=True).accepted


def test_the_ceiling_of_the_key_is_handed_on() -> None:
    """None is no ceiling; an empty one allows nothing."""
    assert (
        judge(dataclasses.replace(ENTRY, max_capabilities=frozenset())).max_capabilities
        == frozenset()
    )
    some = dataclasses.replace(ENTRY, max_capabilities=frozenset({"log"}))
    assert judge(some).max_capabilities == frozenset({"log"})


@pytest.mark.parametrize("installed", [False, True])
def test_a_signature_under_a_weak_key_is_refused(*, installed: bool) -> None:
    """A weak key that got into the store by hand lets nobody in."""
    weak = trusted(parse_public(SMALL_ORDER[0]))
    evidence = Evidence(format_signature(FORGED_BY_NOBODY))
    verdict = verify(subject(), evidence, store(weak), NOW, installed=installed)
    assert failed(verdict.findings) == ["weak-key"]
    assert detail(verdict, "weak-key") == "the key is of small order"


def test_weak_keys_beside_a_sound_one_do_not_disturb_it() -> None:
    """Whatever else stands in the store, a sound key's signature counts."""
    weak = tuple(trusted(parse_public(text)) for text in (*SMALL_ORDER, MIXED_ORDER))
    for keys in ((*weak, ENTRY), (ENTRY, *weak)):
        assert verify(subject(), Evidence(sign(subject(), KEY)), store(*keys), NOW).accepted


def test_where_two_keys_signed_the_accepted_one_decides() -> None:
    """Two entries may answer to one signature; one acceptance is enough, in either order."""
    weak = trusted(parse_public(SMALL_ORDER[0]), owner="nobody")
    # A second entry for the same key cannot be loaded; built here to have two true signers.
    narrow = dataclasses.replace(ENTRY, scopes=("com.x.*",), owner="narrow")
    for keys in ((narrow, ENTRY, weak), (weak, ENTRY, narrow)):
        verdict = verify(subject(), Evidence(sign(subject(), KEY)), store(*keys), NOW)
        assert verdict.accepted
        assert verdict.owner == "acme"
    refused = verify(subject(), Evidence(sign(subject(), KEY)), store(narrow, weak), NOW)
    assert refused.owner == "narrow"


class TestBare:
    """Signatures over the code alone, as other hosts make them."""

    entry = dataclasses.replace(ENTRY, accepts=("v1", "bare"))
    release = Subject(PLUGIN_ID, "0.1.0", "a" * 64, hashlib.sha256(CODE).hexdigest())
    signature = format_signature(KEY.sign(CODE))

    def judge(
        self, entry: TrustedKey | None = None, payload: bytes | None = CODE, **changes: bytes
    ) -> Verdict:
        signature = changes.get("signature", self.signature)
        evidence = Evidence(signature, payload=payload)
        return verify(self.release, evidence, store(entry or self.entry), NOW)

    def test_is_accepted_from_a_key_that_opted_in_and_grants_nothing_by_itself(self) -> None:
        """Without a ceiling of its own, a bare key allows no capability at all."""
        verdict = self.judge()
        assert verdict.accepted
        assert verdict.binding == "bare"
        assert verdict.max_capabilities == frozenset()
        some = dataclasses.replace(self.entry, max_capabilities=frozenset({"log"}))
        assert self.judge(some).max_capabilities == frozenset({"log"})

    def test_is_refused_from_a_key_that_did_not(self) -> None:
        """The refusal says what kind of signature it was."""
        verdict = self.judge(ENTRY)
        assert failed(verdict.findings) == ["accepts"]
        assert detail(verdict, "accepts") == "a bare signature; the key accepts v1"
        only_bare = dataclasses.replace(self.entry, accepts=("bare",))
        assert self.judge(only_bare).accepted
        v1 = self.judge(only_bare, signature=sign(self.release, KEY))
        assert failed(v1.findings) == ["accepts"]

    def test_gives_way_to_v1(self) -> None:
        """With the payload at hand a v1 signature is still judged as v1."""
        verdict = self.judge(signature=sign(self.release, KEY))
        assert verdict.binding == "v1"
        assert verdict.max_capabilities is None

    def test_asks_for_the_payload_only_where_it_could_help(self) -> None:
        """Without the payload the answer is no, and whether to ask again with it."""
        without = self.judge(payload=None)
        assert not without.accepted
        assert without.needs_payload
        assert not self.judge(ENTRY, payload=None).needs_payload
        elsewhere = dataclasses.replace(self.entry, scopes=("com.x.*",))
        assert not self.judge(elsewhere, payload=None).needs_payload
        forged = format_signature(OTHER.sign(CODE))
        assert not self.judge(signature=forged).needs_payload

    def test_is_judged_by_every_other_rule_too(self) -> None:
        """Scope, status and denial hold for bare signatures."""
        for change, rule in (
            ({"scopes": ("com.x.*",)}, "scope"),
            ({"status": "revoked"}, "status"),
            ({"not_after": NOW}, "validity"),
        ):
            entry = dataclasses.replace(self.entry, **change)
            assert failed(self.judge(entry).findings) == [rule]

    def test_needs_wasm_and_the_very_bytes_of_the_subject(self) -> None:
        """A signed text file is no plugin, and other code is not this release."""
        text = b"#!/bin/sh"
        release = Subject(PLUGIN_ID, "0.1.0", "a" * 64, hashlib.sha256(text).hexdigest())
        evidence = Evidence(format_signature(KEY.sign(text)), payload=text)
        assert not verify(release, evidence, store(self.entry), NOW).accepted

        other = CODE + b"!"
        evidence = Evidence(format_signature(KEY.sign(other)), payload=other)
        verdict = verify(self.release, evidence, store(self.entry), NOW)
        assert failed(verdict.findings) == ["signature"]


def test_values_are_equal_by_content() -> None:
    """Verdicts can be compared and kept: two judgements of one case are equal."""
    assert judge() == judge()
    assert Finding("scope", ok=True, detail="x") == Finding("scope", ok=True, detail="x")
