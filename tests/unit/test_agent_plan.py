"""Which version is a candidate, and may it be taken now: each rule with its reason."""

from dataclasses import replace

import pytest

from agent.errors import PolicyError, TrustError
from agent.model import Hold, Refusal
from agent.pipeline.plan import (
    Offer,
    Rules,
    Skip,
    below_floor,
    choose,
    cooling,
    held,
    longest_hold,
    needs_consent,
    newest_above,
    refused_before,
    version_offers,
    within,
)
from agent.pipeline.requirement import parse_requirement

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z."""
OPEN = Rules(
    installed="0.1.0",
    floor="0.1.0",
    constraint=None,
    rejected={},
    refused={},
    first_seen={},
    cooldown_s=0,
    hold=None,
    now=NOW,
)
NO_KEY = Refusal("0.2.0_1", "sha256:a", "trust", "no key", NOW)


def offers(*tags: str) -> tuple[Offer, ...]:
    """What a repository with these tags offers."""
    return version_offers(tags)


def tried(rules: Rules, *tags: str) -> list[str]:
    """The tags that would be tried."""
    return [str(offer.tag) for offer in choose(offers(*tags), rules)[0]]


def only_skip(rules: Rules, tag: str) -> Skip:
    """Why the only offer is passed over."""
    tries, skips = choose(offers(tag), rules)
    assert tries == ()
    (skip,) = skips
    return skip


def test_offers_are_versions_and_not_channels() -> None:
    """``_`` stands for ``+``; channels and fallback tags are no versions."""
    found = version_offers(["stable", "0.10.0", "0.9.0_b1", "sha256-" + "0" * 64, "1.0.0-rc.1"])
    assert [(offer.tag, offer.version) for offer in found] == [
        ("1.0.0-rc.1", "1.0.0-rc.1"),
        ("0.10.0", "0.10.0"),
        ("0.9.0_b1", "0.9.0+b1"),
    ]
    assert all(offer.digest is None for offer in found)


def test_the_newest_is_tried_first_and_three_at_most() -> None:
    """A forged 99.0.0 blocks nobody: the next lower ones are tried in the same run."""
    assert tried(OPEN, "0.2.0", "0.3.0", "99.0.0", "0.4.0") == ["99.0.0", "0.4.0", "0.3.0"]


def test_what_is_installed_or_older_is_not_worth_a_word() -> None:
    """The same version, an older one and another build of the same: nothing to do."""
    assert choose(offers("0.1.0", "0.0.9", "0.1.0_2"), OPEN) == ((), ())


def test_a_first_install_takes_anything_that_the_rules_admit() -> None:
    """Nothing installed, no floor: the newest release."""
    assert tried(replace(OPEN, installed=None, floor=None), "0.0.1", "0.1.0") == ["0.1.0", "0.0.1"]


@pytest.mark.parametrize(
    ("rules", "tag", "reason", "detail", "waits"),
    [
        (
            replace(OPEN, constraint=parse_requirement("^0.1")),
            "0.2.0",
            "constraint",
            'the constraint "^0.1" does not admit it',
            False,
        ),
        (OPEN, "0.2.0-rc.1", "pre-release", "pre-releases are taken only when asked for", False),
        (replace(OPEN, floor="0.5.0"), "0.2.0", "floor", "below the floor 0.5.0", False),
        (
            replace(OPEN, rejected={"0.2.0": "its probe failed"}),
            "0.2.0",
            "rejected",
            "rejected here: its probe failed",
            False,
        ),
        (
            replace(OPEN, refused={"0.2.0_1": NO_KEY}),
            "0.2.0_1",
            "refused",
            "refused before: no key",
            False,
        ),
        (replace(OPEN, hold=Hold(None)), "0.2.0", "held", "held", True),
        (
            replace(OPEN, hold=Hold(NOW + 1800)),
            "0.2.0",
            "held",
            "held until 2027-01-15T08:30:00+00:00, 30m left",
            True,
        ),
        (
            replace(OPEN, cooldown_s=60, first_seen={"0.2.0": NOW - 59}),
            "0.2.0",
            "cooldown",
            "cooldown, 1s left",
            True,
        ),
        (replace(OPEN, cooldown_s=60), "0.2.0", "cooldown", "cooldown, 1m left", True),
        (
            # A clock that was put back: the first look lies in the future.
            replace(OPEN, cooldown_s=60, first_seen={"0.2.0": NOW + 999}),
            "0.2.0",
            "cooldown",
            "cooldown, 1m left",
            True,
        ),
    ],
)
def test_each_rule_says_why(
    rules: Rules, tag: str, reason: str, detail: str, *, waits: bool
) -> None:
    """The word for machines, the sentence for people, and whether waiting helps."""
    skip = only_skip(rules, tag)
    assert (skip.reason, skip.detail, skip.waits) == (reason, detail, waits)
    assert skip.version == tag.replace("_", "+")


@pytest.mark.parametrize(
    "rules",
    [
        replace(OPEN, constraint=parse_requirement("^0.2")),
        replace(OPEN, floor="0.2.0"),
        replace(OPEN, hold=Hold(NOW)),
        replace(OPEN, cooldown_s=60, first_seen={"0.2.0": NOW - 60}),
        replace(OPEN, rejected={"0.2.1": "other"}, refused={"0.2.0_1": NO_KEY}),
    ],
    ids=["constraint", "at the floor", "hold over", "cooldown over", "another one failed"],
)
def test_each_rule_lets_go_at_its_edge(rules: Rules) -> None:
    """At the very edge a rule no longer binds."""
    assert tried(rules, "0.2.0") == ["0.2.0"]


def test_a_pre_release_that_the_constraint_names_is_taken() -> None:
    """Naming a pre-release of the same version is asking for it."""
    rules = replace(OPEN, constraint=parse_requirement(">=0.2.0-rc.1"))
    assert tried(rules, "0.2.0-rc.2") == ["0.2.0-rc.2"]


def test_a_version_with_a_reason_does_not_use_up_a_try() -> None:
    """Skipped versions come on top of the three that are tried."""
    rules = replace(OPEN, rejected={"0.5.0": "bad", "0.4.0": "bad"})
    tries, skips = choose(offers("0.6.0", "0.5.0", "0.4.0", "0.3.0", "0.2.0"), rules)
    assert [offer.tag for offer in tries] == ["0.6.0", "0.3.0", "0.2.0"]
    assert [skip.version for skip in skips] == ["0.5.0", "0.4.0"]


def test_a_skip_becomes_an_error_where_the_plugin_was_named() -> None:
    """The error names plugin, version and cause, and carries the word for machines."""
    error = Skip("0.2.0", "held", "held", waits=True).refusal("org.example.hello")
    assert isinstance(error, PolicyError)
    assert (str(error), error.reason) == ("cannot take org.example.hello 0.2.0: held", "held")
    assert "hello: c" in str(Skip(None, "cooldown", "c").refusal("org.example.hello"))


def test_a_refusal_of_before_keeps_its_family() -> None:
    """A command that named the plugin ends with the exit code of the first refusal."""
    skip = refused_before("0.2.0+1", NO_KEY)
    assert (skip.reason, skip.code, skip.waits) == ("refused", "trust", False)
    error = skip.refusal("org.example.hello")
    assert isinstance(error, TrustError)
    assert str(error) == "cannot take org.example.hello 0.2.0+1: refused before: no key"


@pytest.mark.parametrize(
    ("tags", "installed", "newest"),
    [
        (("0.1.0", "0.3.0", "0.2.0"), "0.1.0", "0.3.0"),
        (("0.1.0", "0.1.0_2", "0.0.9"), "0.1.0", None),
        (("0.0.9", "stable"), None, "0.0.9"),
        (("0.2.0_b1",), "0.1.0", "0.2.0+b1"),
        ((), "0.1.0", None),
        (("stable",), None, None),
    ],
)
def test_the_newest_above_what_is_installed(
    tags: tuple[str, ...], installed: str | None, newest: str | None
) -> None:
    """Whatever the rules say of it; another build of the same is not above it."""
    assert newest_above(offers(*tags), installed) == newest


def test_a_cooldown_says_how_long() -> None:
    """In the units of the config."""
    assert cooling(90) == "cooldown, 1m30s left"


def test_a_hold_ends() -> None:
    """None, over, forever, and a time to come."""
    assert held(None, NOW) is None
    assert held(Hold(NOW - 1), NOW) is None
    assert held(Hold(None), NOW) == "held"
    assert held(Hold(NOW + 1), NOW) == "held until 2027-01-15T08:00:01+00:00, 1s left"


@pytest.mark.parametrize(
    ("configured", "commanded", "longest"),
    [
        (None, None, None),
        (None, Hold(NOW), Hold(NOW)),
        ("2027-01-15T09:00:01+01:00", None, Hold(NOW + 1)),
        ("2027-01-15T08:00:01+00:00", Hold(NOW), Hold(NOW + 1)),
        ("2027-01-15T08:00:01+00:00", Hold(NOW + 2), Hold(NOW + 2)),
        ("forever", Hold(NOW), Hold(None)),
        ("2027-01-15T08:00:01+00:00", Hold(None), Hold(None)),
    ],
)
def test_of_two_holds_the_longer_binds(
    configured: str | None, commanded: Hold | None, longest: Hold | None
) -> None:
    """The config's and the command's; without an end is the longest."""
    assert longest_hold(configured, commanded) == longest


@pytest.mark.parametrize(
    ("plugin_id", "namespace", "inside"),
    [
        ("org.example.hello", "org.example", True),
        ("org.example", "org.example", True),
        ("org.example.hello", "org.example.hello", True),
        ("org.examples.hello", "org.example", False),
        ("org.example", "org.example.hello", False),
        ("com.org.example", "org.example", False),
    ],
)
def test_a_namespace_is_whole_segments(plugin_id: str, namespace: str, *, inside: bool) -> None:
    """``org.example`` holds ``org.example.hello`` and not ``org.examples.hello``."""
    assert within(plugin_id, namespace) is inside


def test_the_floor_is_semver_order_without_build_metadata() -> None:
    """Lower is below; the same, another build and higher are not; no floor binds nobody."""
    assert below_floor("0.9.0", "0.10.0")
    assert below_floor("1.0.0-rc.1", "1.0.0")
    assert not below_floor("1.0.0+1", "1.0.0+2")
    assert not below_floor("1.0.1", "1.0.0")
    assert not below_floor("0.0.1", None)


def test_consent_is_due_only_for_what_is_new() -> None:
    """What was requested before, decided on, or is ``log`` needs none."""
    requested = ["log", "network", "llm", "fs_read", "plan"]
    assert needs_consent(requested, ["llm"], ["fs_read"]) == ("network", "plan")
    assert needs_consent(["log"], [], []) == ()
