"""Requirements against a naive model: Cargo's rules spelt out part by part.

The model follows the reference implementation (the ``semver`` crate's ``eval.rs``), which
compares major, minor and patch one by one; ours builds intervals.
"""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.requirement import is_newer, parse_requirement

Pre = tuple[str, ...]


@dataclass(frozen=True)
class V:
    """A version; ``pre`` is empty for a release."""

    core: tuple[int, int, int]
    pre: Pre = ()
    build: str = ""

    def __str__(self) -> str:
        text = ".".join(map(str, self.core))
        return text + ("-" + ".".join(self.pre) if self.pre else "") + self.build


@dataclass(frozen=True)
class C:
    """A comparator; ``parts`` holds one to three numbers."""

    op: str
    parts: tuple[int, ...]
    pre: Pre = ()

    def __str__(self) -> str:
        text = self.op + ".".join(map(str, self.parts))
        return text + ("-" + ".".join(self.pre) if self.pre else "")


def pre_key(pre: Pre) -> tuple[object, ...]:
    """Order of pre-releases: a release is the highest; numbers are below words."""
    words = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre)
    return (not pre, words)


def exact(c: C, v: V) -> bool:
    """All the parts that are given are the same."""
    return v.core[: len(c.parts)] == c.parts and v.pre == c.pre


def greater(c: C, v: V) -> bool:
    """Greater at the first part that differs."""
    for mine, theirs in zip(v.core, c.parts, strict=False):
        if mine != theirs:
            return mine > theirs
    return len(c.parts) == 3 and pre_key(v.pre) > pre_key(c.pre)


def less(c: C, v: V) -> bool:
    """Less at the first part that differs."""
    for mine, theirs in zip(v.core, c.parts, strict=False):
        if mine != theirs:
            return mine < theirs
    return len(c.parts) == 3 and pre_key(v.pre) < pre_key(c.pre)


def tilde(c: C, v: V) -> bool:
    """Major and minor as given, patch at least."""
    if v.core[: min(2, len(c.parts))] != c.parts[:2]:
        return False
    if len(c.parts) == 3 and v.core[2] != c.parts[2]:
        return v.core[2] > c.parts[2]
    return pre_key(v.pre) >= pre_key(c.pre)


def caret(c: C, v: V) -> bool:
    """The left-most part that is not zero stays."""
    if v.core[0] != c.parts[0]:
        return False
    if len(c.parts) == 1:
        return True
    if len(c.parts) == 2:
        return v.core[1] >= c.parts[1] if c.parts[0] else v.core[1] == c.parts[1]
    if c.parts[0]:
        if v.core[1:] != c.parts[1:]:
            return v.core[1:] > c.parts[1:]
    elif c.parts[1]:
        if v.core[1] != c.parts[1]:
            return False
        if v.core[2] != c.parts[2]:
            return v.core[2] > c.parts[2]
    elif v.core != c.parts:
        return False
    return pre_key(v.pre) >= pre_key(c.pre)


def matches(c: C, v: V) -> bool:
    """One comparator."""
    rules = {
        "=": exact(c, v),
        ">": greater(c, v),
        ">=": exact(c, v) or greater(c, v),
        "<": less(c, v),
        "<=": exact(c, v) or less(c, v),
        "~": tilde(c, v),
        "^": caret(c, v),
        "": caret(c, v),
    }
    return rules[c.op]


def admits(comparators: list[C], v: V) -> bool:
    """All comparators; a pre-release must be named by one."""
    if v.pre and not any(c.pre and c.parts == v.core for c in comparators):
        return False
    return all(matches(c, v) for c in comparators)


NUMBERS = st.integers(0, 3)
CORES = st.tuples(NUMBERS, NUMBERS, NUMBERS)
PRES = st.lists(st.sampled_from(["0", "1", "11", "a", "b"]), min_size=1, max_size=2).map(tuple)
OPS = st.sampled_from(["", "^", "~", "=", ">", ">=", "<", "<="])
BUILDS = st.sampled_from(["", "+7", "+a.b"])
RELEASES = st.builds(V, CORES, build=BUILDS)
PRE_RELEASES = st.builds(V, CORES, PRES, BUILDS)
PARTIAL = st.builds(C, OPS, st.lists(NUMBERS, min_size=1, max_size=2).map(tuple))
WHOLE = st.builds(C, OPS, CORES, st.one_of(st.just(()), PRES))


@given(st.lists(st.one_of(PARTIAL, WHOLE), min_size=1, max_size=3), RELEASES)
def test_releases_are_admitted_as_by_cargo(comparators: list[C], version: V) -> None:
    """Any requirement, any release: the model's answer."""
    requirement = ", ".join(map(str, comparators))
    assert parse_requirement(requirement).admits(str(version)) == admits(comparators, version)


@given(st.lists(WHOLE, min_size=1, max_size=3), PRE_RELEASES)
def test_pre_releases_are_admitted_as_by_cargo(comparators: list[C], version: V) -> None:
    """Whole comparators, any pre-release: the model's answer."""
    requirement = ", ".join(map(str, comparators))
    assert parse_requirement(requirement).admits(str(version)) == admits(comparators, version)


@given(st.builds(V, CORES, st.one_of(st.just(()), PRES), BUILDS), st.data())
def test_order_is_that_of_the_parts(version: V, data: st.DataObject) -> None:
    """Newer is greater in core, then in pre-release; build metadata plays no part."""
    other = data.draw(st.builds(V, CORES, st.one_of(st.just(()), PRES), BUILDS))
    key, than = ((v.core, pre_key(v.pre)) for v in (version, other))
    assert is_newer(str(version), str(other)) == (key > than)


@given(CORES, PRES)
def test_wildcards_are_partial_versions(core: tuple[int, int, int], pre: Pre) -> None:
    """``1.2.*`` is ``=1.2`` and ``1.*`` is ``=1``; neither admits a pre-release."""
    for wild, plain in ((f"{core[0]}.*", f"={core[0]}"), (f"{core[0]}.{core[1]}.*", None)):
        same = plain or f"={core[0]}.{core[1]}"
        for version in (V(core), V((core[0], core[1] + 1, 0)), V((core[0] + 1, 0, 0))):
            assert parse_requirement(wild).admits(str(version)) == parse_requirement(same).admits(
                str(version)
            )
        assert not parse_requirement(wild).admits(str(V(core, pre)))
