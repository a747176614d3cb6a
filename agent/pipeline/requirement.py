"""SemVer order and Cargo's requirement syntax; pure.

Grammar: https://doc.rust-lang.org/cargo/reference/specifying-dependencies.html
Comparators ``^ ~ = > >= < <=`` and ``*``, joined by commas (all must hold); none means ``^``.
Pre-releases are admitted only where a comparator names one of the same major.minor.patch.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

from semver import Version

_MAX_VERSION_CHARS = 128
_MAX_REQUIREMENT_CHARS = 512
_COMPARATOR = re.compile(
    r"\s*(\^|~|=|>=|<=|>|<)?\s*"
    r"(0|[1-9]\d{0,17})(?:\.(0|[1-9]\d{0,17}|[*xX]))?(?:\.(0|[1-9]\d{0,17}|[*xX]))?"
    r"(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?\s*",
    re.ASCII,
)
_LOWEST = "0"
"""The lowest pre-release there is: ``<2.0.0-0`` keeps the pre-releases of 2.0.0 out as well."""


@functools.lru_cache(maxsize=1024)  # a run compares the same few over and over
def parse_version(text: str) -> Version:
    """A SemVer 2.0.0 version of at most 128 characters.

    Raises:
        ValueError: The text is no such version.
    """
    if len(text) > _MAX_VERSION_CHARS or not text.isascii():
        raise ValueError(f"cannot read the version {text[:40]!r}: expected SemVer 2.0.0")
    try:
        return Version.parse(text)
    except ValueError:
        raise ValueError(f"cannot read the version {text!r}: expected SemVer 2.0.0") from None


def is_version(text: str) -> bool:
    """Whether the text is a version (and not, say, a channel's name)."""
    try:
        parse_version(text)
    except ValueError:
        return False
    return True


def is_newer(candidate: str, than: str) -> bool:
    """SemVer precedence; build metadata never makes a version newer (contract §2)."""
    return parse_version(candidate).compare(parse_version(than)) > 0


@dataclass(frozen=True, slots=True)
class _Comparator:
    """One bound: from ``low`` (not itself if ``above_low``) to ``high`` (itself if ``to_high``)."""

    low: Version | None = None
    high: Version | None = None
    above_low: bool = False
    to_high: bool = False
    names_prerelease_of: tuple[int, int, int] | None = None

    def admits(self, version: Version) -> bool:
        if self.low is not None:
            order = version.compare(self.low)
            if order < 0 or (order == 0 and self.above_low):
                return False
        if self.high is not None:
            order = version.compare(self.high)
            if order > 0 or (order == 0 and not self.to_high):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Requirement:
    """A parsed requirement; ``admits`` is the question it answers."""

    text: str
    comparators: tuple[_Comparator, ...]

    def admits(self, version_text: str) -> bool:
        """Whether every comparator holds; see the module for pre-releases."""
        version = parse_version(version_text)
        if version.prerelease:
            core = (version.major, version.minor, version.patch)
            if all(c.names_prerelease_of != core for c in self.comparators):
                return False
        return all(comparator.admits(version) for comparator in self.comparators)


def parse_requirement(text: str) -> Requirement:
    """Parse ``^0.2``, ``~1.4``, ``>=1.2, <2``, ``1.*``, ``*``.

    Raises:
        ValueError: The text is no requirement.
    """
    if len(text) > _MAX_REQUIREMENT_CHARS:
        raise ValueError("cannot read the requirement: longer than 512 characters")
    if text.strip() == "*":
        return Requirement(text, ())
    return Requirement(text, tuple(_comparator(part, text) for part in text.split(",")))


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version meets a requirement.

    Raises:
        ValueError: Either cannot be read.
    """
    return parse_requirement(requirement).admits(version)


def _comparator(part: str, whole: str) -> _Comparator:
    match = _COMPARATOR.fullmatch(part)
    bad = ValueError(
        f'cannot read the requirement {whole!r}: expected one like "^0.2" or ">=1, <2"'
    )
    if match is None:
        raise bad
    operator, major_text, minor_text, patch_text, pre = match.groups()
    wild = "*xX"
    minor = None if minor_text is None or minor_text in wild else int(minor_text)
    patch = None if patch_text is None or patch_text in wild else int(patch_text)
    if (minor is None and patch is not None) or (pre and patch is None):
        raise bad
    has_wildcard = any(t is not None and t in wild for t in (minor_text, patch_text))
    if has_wildcard and operator not in (None, "="):
        raise bad
    major = int(major_text)
    try:
        low = parse_version(f"{major}.{minor or 0}.{patch or 0}" + (f"-{pre}" if pre else ""))
    except ValueError:
        raise bad from None
    named = (major, minor or 0, patch or 0) if pre else None
    limits = _limits("=" if has_wildcard else operator or "^", low, (major, minor, patch))
    return _Comparator(**limits, names_prerelease_of=named)


def _limits(
    operator: str, low: Version, given: tuple[int, int | None, int | None]
) -> dict[str, Any]:
    """The fields of a comparator: from where to where, and whether the ends belong to it."""
    major, minor, patch = given
    after_given = _next_above(major, minor, patch)
    match operator:
        case ">":
            return {"low": after_given or low, "above_low": after_given is None}
        case ">=":
            return {"low": low}
        case "<":
            # "<2" is below all of 2; "<2.0.0" is below that one version.
            return {"high": low if after_given is None else low.replace(prerelease=_LOWEST)}
        case "<=":
            return {"high": after_given or low, "to_high": after_given is None}
        case "=":
            return {"low": low, "high": after_given or low, "to_high": after_given is None}
        case "~":
            return {"low": low, "high": after_given or Version(major, low.minor + 1, 0, _LOWEST)}
        case _:
            return {"low": low, "high": _caret_limit(major, minor, patch)}


def _next_above(major: int, minor: int | None, patch: int | None) -> Version | None:
    """The first version after all that a partial version stands for; None if it is whole."""
    if minor is None:
        return Version(major + 1, 0, 0, _LOWEST)
    if patch is None:
        return Version(major, minor + 1, 0, _LOWEST)
    return None


def _caret_limit(major: int, minor: int | None, patch: int | None) -> Version:
    """Cargo's caret: up to the next change of the left-most non-zero part."""
    if major > 0 or minor is None:
        return Version(major + 1, 0, 0, _LOWEST)
    if minor > 0 or patch is None:
        return Version(0, minor + 1, 0, _LOWEST)
    return Version(0, 0, patch + 1, _LOWEST)
