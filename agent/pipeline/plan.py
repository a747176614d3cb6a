"""Which version is a candidate, and may it be taken now? Pure questions, each with its reason.

A candidate that is passed over is always a ``Skip`` that says why, in a word for machines and
a sentence for people (``agent why``).
"""

import datetime as dt
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.durations import format_duration
from agent.errors import AgentError, PolicyError, of_code
from agent.model import Hold, Refusal
from agent.pipeline.requirement import Requirement, is_version, parse_version

_MAX_TRIES = 3
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a repository offers: a version's tag, a channel, or a digest."""

    tag: str | None
    version: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Why a version is not taken now.

    Attributes:
        waits: It may be taken later without another release (cooldown, hold).
        code: The family of the error that it is for a command that named the plugin.
    """

    version: str | None
    reason: str
    detail: str
    waits: bool = False
    code: str = PolicyError.code

    def refusal(self, plugin_id: str) -> AgentError:
        """The error for a command that named this plugin."""
        version = f" {self.version}" if self.version else ""
        message = f"cannot take {plugin_id}{version}: {self.detail}"
        hint = f"agent pull {plugin_id} takes it all the same" if self.reason == "held" else None
        return of_code(self.code, message, reason=self.reason, hint=hint)


@dataclass(frozen=True, slots=True)
class Rules:
    """What bounds the choice among the versions on offer.

    Attributes:
        installed: The version that serves; None before the first install.
        rejected: Version → reason of releases that failed here.
        refused: Tag → the refusal of a candidate that trust, format or a rule refused.
        first_seen: Tag → seconds since the epoch of the first look.
        cooldown_s: Minimum age since first seen; 0 where a person named the plugin to pull.
        hold: The hold in force or over; None where there is none.
    """

    installed: str | None
    floor: str | None
    constraint: Requirement | None
    rejected: Mapping[str, str]
    refused: Mapping[str, Refusal]
    first_seen: Mapping[str, float]
    cooldown_s: int
    hold: Hold | None
    now: float


def version_offers(tags: Iterable[str]) -> tuple[Offer, ...]:
    """The tags that are versions ("_" stands for "+"), highest first; others are channels."""
    offers = [Offer(tag, version) for tag in tags if is_version(version := tag.replace("_", "+"))]
    # Build metadata has no precedence; the text decides so that the order is the same each run.
    return tuple(
        sorted(offers, key=lambda o: (_precedence(str(o.version)), str(o.tag)), reverse=True)
    )


def choose(offers: Iterable[Offer], rules: Rules) -> tuple[tuple[Offer, ...], tuple[Skip, ...]]:
    """Which offers to try in this run, in order, and why the others are passed over.

    Args:
        offers: As ``version_offers`` gives them.
        rules: The bounds.

    Returns:
        At most three offers above what is installed, and a reason for each newer one skipped.
    """
    tries: list[Offer] = []
    skips: list[Skip] = []
    for offer in offers:
        version = offer.version or ""
        if rules.installed is not None and _not_above(version, rules.installed):
            continue
        skip = _why_not(offer, rules)
        if skip is not None:
            skips.append(skip)
        elif len(tries) < _MAX_TRIES:
            tries.append(offer)
    return tuple(tries), tuple(skips)


def refused_before(version: str | None, refusal: Refusal) -> Skip:
    """The reason to pass over what was refused in an earlier run."""
    return Skip(version, "refused", f"refused before: {refusal.reason}", code=refusal.code)


def newest_above(offers: Iterable[Offer], installed: str | None) -> str | None:
    """The highest version above what is installed, whatever the rules say of it."""
    for offer in offers:
        version = offer.version or ""
        if installed is None or not _not_above(version, installed):
            return version
        return None
    return None


def longest_hold(configured: str | None, commanded: Hold | None) -> Hold | None:
    """The hold that lasts longest of the config's and ``agent hold``'s.

    Args:
        configured: ISO date-time with an offset, "forever", or None.
        commanded: What the ledger has.
    """
    holds = [] if commanded is None else [commanded]
    if configured is not None:
        is_forever = configured == "forever"
        until = None if is_forever else dt.datetime.fromisoformat(configured).timestamp()
        holds.append(Hold(until))
    return max(holds, key=lambda hold: _FOREVER if hold.until is None else hold.until, default=None)


def held(hold: Hold | None, now: float) -> str | None:
    """Why a hold is in force; None where there is none or it is over."""
    if hold is None:
        return None
    if hold.until is None:
        return "held"
    if hold.until <= now:
        return None
    until = dt.datetime.fromtimestamp(hold.until, dt.UTC).isoformat(timespec="seconds")
    return f"held until {until}, {format_duration(hold.until - now)} left"


def within(plugin_id: str, namespace: str) -> bool:
    """Whether an ID is in a namespace, by whole segments."""
    return plugin_id == namespace or plugin_id.startswith(f"{namespace}.")


def cooling(left_s: float) -> str:
    """Why a cooldown is in force."""
    return f"cooldown, {format_duration(left_s)} left"


def below_floor(version: str, floor: str | None) -> bool:
    """Whether a version is lower than the highest that was ever committed."""
    return floor is not None and _precedence(version) < _precedence(floor)


def needs_consent(
    requested: Iterable[str], before: Iterable[str], decided: Iterable[str]
) -> tuple[str, ...]:
    """What an update requests that the installed release did not and nobody has decided on.

    Args:
        requested: The candidate's capabilities.
        before: The installed release's.
        decided: What the operator has granted or denied to this plugin.
    """
    return tuple(sorted(set(requested) - set(before) - set(decided) - {"log"}))


def _why_not(offer: Offer, rules: Rules) -> Skip | None:
    version = offer.version or ""
    parsed = parse_version(version)
    if rules.constraint is not None:
        if not rules.constraint.admits(version):
            detail = f'the constraint "{rules.constraint.text}" does not admit it'
            return Skip(version, "constraint", detail)
    elif parsed.prerelease:
        return Skip(version, "pre-release", "pre-releases are taken only when asked for")
    if below_floor(version, rules.floor):
        return Skip(version, "floor", f"below the floor {rules.floor}")
    if version in rules.rejected:
        return Skip(version, "rejected", f"rejected here: {rules.rejected[version]}")
    refusal = rules.refused.get(str(offer.tag))
    if refusal is not None:
        return refused_before(version, refusal)
    hold = held(rules.hold, rules.now)
    if hold is not None:
        return Skip(version, "held", hold, waits=True)
    age_s = rules.now - rules.first_seen.get(str(offer.tag), rules.now)
    if age_s < rules.cooldown_s:
        return Skip(version, "cooldown", cooling(rules.cooldown_s - max(age_s, 0)), waits=True)
    return None


def _not_above(version: str, installed: str) -> bool:
    return _precedence(version) <= _precedence(installed)


@functools.lru_cache(maxsize=1024)  # like what it is made of
def _precedence(version: str) -> tuple[object, ...]:
    """What versions are ordered by (SemVer §11); compared far sooner than they are themselves."""
    parsed = parse_version(version)
    words = (parsed.prerelease or "").split(".")
    order = tuple((not word.isdigit(), int(word) if word.isdigit() else word) for word in words)
    return (parsed.major, parsed.minor, parsed.patch, not parsed.prerelease, order)
