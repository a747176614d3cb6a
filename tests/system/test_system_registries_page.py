"""The page on registries is followed on a terminal, and prints what it shows."""

import shutil
from pathlib import Path

from support.tours import files_in, shown_in, typed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "registries.md"
DEADLINE_S = 120


def test_the_page_on_registries_prints_what_it_shows(tmp_path: Path) -> None:
    """A private registry, a mirror in front of it, and the way over an air gap, literally."""
    clone = tmp_path / "agent"
    shutil.copytree(ROOT / "sdk", clone / "sdk")
    files = files_in(PAGE)
    assert {Path(path).name for path in files} == {
        *("private.yml", "public.yml", "mirror.yml", "plugin-host.toml"),
    }
    for path, text in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text, encoding="utf-8")
    shown = shown_in(PAGE)
    assert len(shown) > 15
    assert typed(shown, clone, within_s=DEADLINE_S) == shown
