"""The pages hold together: what they link to is there, and nothing was left to fill in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    ".",
    "docs",
    "sdk",
    "deploy",
    "benchmarks",
    "tests",
    "agent",
    "registry",
    "trust",
    "sandbox",
)
PAGES = sorted(
    {
        path
        for place in PLACES
        for path in (ROOT / place).glob("*.md" if place == "." else "**/*.md")
    }
)
_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"@@\w+@@")


def names() -> list[str]:
    """The pages, as the project names them."""
    return [str(path.relative_to(ROOT)) for path in PAGES]


def anchors(page: Path) -> set[str]:
    """What a link may name after the ``#``, by GitHub's rule."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in _HEADING.findall(text):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def test_there_are_pages() -> None:
    """The tests below look at the pages there are."""
    assert {"README.md", "CHANGELOG.md", "sdk/README.md", "docs/updates.md"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_relative_links_resolve(name: str) -> None:
    """Each link names a file of the project and, after #, a heading in it."""
    page = ROOT / name
    broken = []
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        is_there = other.is_relative_to(ROOT) and other.exists()
        if not is_there or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", names())
def test_nothing_is_left_to_fill_in(name: str) -> None:
    """No line holds the mark of a figure that was to be put there."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if _PLACEHOLDER.search(line)] == []
