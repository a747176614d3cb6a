"""The page on writing a plugin is followed on a terminal, and prints what it shows."""

import shutil
from pathlib import Path

from support.tours import files_in, shown_in, typed

ROOT = Path(__file__).parents[2]
DEADLINE_S = 300
"""The compiler's first run fills its cache."""


def test_the_authors_tour_prints_what_it_shows(tmp_path: Path) -> None:
    """From the page's two files to a published and installed plugin, literally."""
    page = ROOT / "sdk" / "README.md"
    clone = tmp_path / "agent"
    shutil.copytree(ROOT / "sdk", clone / "sdk")
    files = files_in(page)
    assert sorted(files) == ["tour/sdk/my-plugin/my-plugin.c", "tour/sdk/my-plugin/my-plugin.toml"]
    for name, text in files.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text, encoding="utf-8")
    shown = shown_in(page)
    assert len(shown) > 7
    assert typed(shown, clone, within_s=DEADLINE_S) == shown
