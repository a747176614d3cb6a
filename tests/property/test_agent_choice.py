"""The choice among versions on offer: what always holds, whatever is offered."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.model import Hold, Refusal
from agent.pipeline.plan import (
    Rules,
    below_floor,
    choose,
    needs_consent,
    newest_above,
    version_offers,
)
from agent.pipeline.requirement import is_newer, parse_requirement, parse_version

NOW = 1_800_000_000.0
VERSIONS = st.builds(
    lambda core, pre, build: ".".join(map(str, core)) + pre + build,
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from(["", "", "", "-a", "-b.2"]),
    st.sampled_from(["", "", "+7"]),
)
TAGS = st.lists(
    st.one_of(VERSIONS.map(lambda v: v.replace("+", "_")), st.sampled_from(["stable", "v1"])),
    unique=True,
    max_size=12,
)
REASONS = st.dictionaries(VERSIONS, st.just("it failed"), max_size=4)
REFUSALS = st.lists(VERSIONS.map(lambda v: v.replace("+", "_")), max_size=4).map(
    lambda tags: {tag: Refusal(tag, None, "trust", "no key", NOW) for tag in tags}
)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Draw any bounds."""
    text = draw(st.sampled_from([None, None, "*", "^0", ">=1.1, <2.1", "^1.1.0-a", "~0.2"]))
    return Rules(
        installed=draw(st.none() | VERSIONS),
        floor=draw(st.none() | VERSIONS),
        constraint=parse_requirement(text) if text else None,
        rejected=draw(REASONS),
        refused=draw(REFUSALS),
        first_seen=draw(
            st.dictionaries(
                VERSIONS.map(lambda v: v.replace("+", "_")),
                st.integers(-100, 100).map(lambda s: NOW - s),
            )
        ),
        cooldown_s=draw(st.sampled_from([0, 0, 50])),
        hold=draw(st.sampled_from([None, None, None, Hold(None), Hold(NOW - 1)])),
        now=NOW,
    )


@given(TAGS, rules())
def test_what_is_tried_may_be_taken(tags: list[str], bounds: Rules) -> None:
    """At most three tries, highest first, none against any rule."""
    tries, _ = choose(version_offers(tags), bounds)
    assert len(tries) <= 3
    chosen = [str(offer.version) for offer in tries]
    assert not any(is_newer(later, first) for first, later in itertools.pairwise(chosen))
    for offer in tries:
        version = str(offer.version)
        assert offer.tag in tags
        assert bounds.installed is None or is_newer(version, bounds.installed)
        assert not below_floor(version, bounds.floor)
        assert version not in bounds.rejected
        assert offer.tag not in bounds.refused
        assert bounds.hold != Hold(None)
        if bounds.constraint is not None:
            assert bounds.constraint.admits(version)
        else:
            assert not parse_version(version).prerelease
        if bounds.cooldown_s:
            assert bounds.first_seen[str(offer.tag)] <= NOW - bounds.cooldown_s


@given(TAGS, rules())
def test_every_newer_offer_is_tried_or_has_a_reason(tags: list[str], bounds: Rules) -> None:
    """Nothing newer is passed over in silence, unless three better ones are tried."""
    offers = version_offers(tags)
    tries, skips = choose(offers, bounds)
    newer = {
        str(offer.version)
        for offer in offers
        if bounds.installed is None or is_newer(str(offer.version), bounds.installed)
    }
    told = {str(offer.version) for offer in tries} | {str(skip.version) for skip in skips}
    assert told <= newer
    assert told == newer or len(tries) == 3
    assert all(skip.reason and skip.detail for skip in skips)
    newest = newest_above(offers, bounds.installed)
    assert (newest is None) == (not newer)
    assert newest is None or not any(is_newer(other, newest) for other in newer)


@given(TAGS, rules())
def test_choosing_does_not_depend_on_the_order_of_tags(tags: list[str], bounds: Rules) -> None:
    """A registry may list its tags in any order."""
    assert choose(version_offers(tags), bounds) == choose(version_offers(tags[::-1]), bounds)


@given(TAGS)
def test_offers_are_the_versions_highest_first(tags: list[str]) -> None:
    """Tags that are no versions are left out; ``_`` is read as ``+``."""
    offers = version_offers(tags)
    assert sorted(str(offer.tag) for offer in offers) == sorted(
        tag for tag in tags if tag not in ("stable", "v1")
    )
    versions = [str(offer.version) for offer in offers]
    assert versions == [str(offer.tag).replace("_", "+") for offer in offers]
    assert not any(is_newer(later, first) for first, later in itertools.pairwise(versions))


WORDS = st.sets(st.sampled_from(["log", "network", "llm", "fs_read"]))


@given(WORDS, WORDS, WORDS)
def test_consent_is_due_for_what_is_new_and_undecided(
    requested: set[str], before: set[str], decided: set[str]
) -> None:
    """Each word: requested, not requested before, not decided on, and not ``log``."""
    missing = needs_consent(requested, before, decided)
    assert missing == tuple(
        word
        for word in ("fs_read", "llm", "network")
        if word in requested and word not in before and word not in decided
    )
