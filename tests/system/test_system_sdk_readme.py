"""The pages for plugin authors are followed on a terminal, and print what they show."""

import shutil
from pathlib import Path

import pytest

from support.tours import files_in, shown_in, typed

ROOT = Path(__file__).parents[2]
DEADLINE_S = 300
"""The compiler's first run fills its cache."""


@pytest.mark.parametrize(
    ("name", "folder"),
    [("sdk/README.md", "tour/sdk/my-plugin/my-plugin"), ("docs/plugins.md", "tour/lab/lab/lab")],
    ids=["the first plugin", "what a plugin meets"],
)
def test_an_authors_tour_prints_what_it_shows(tmp_path: Path, name: str, folder: str) -> None:
    """From the page's two files to a published and installed plugin, literally."""
    page = ROOT / name
    clone = tmp_path / "agent"
    shutil.copytree(ROOT / "sdk", clone / "sdk")
    files = files_in(page)
    assert sorted(files) == [f"{folder}.c", f"{folder}.toml"]
    for path, text in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text, encoding="utf-8")
    shown = shown_in(page)
    assert len(shown) > 7
    assert typed(shown, clone, within_s=DEADLINE_S) == shown
