"""The README's tours are typed on a terminal, and print what they show."""

import shutil
from pathlib import Path

from support.tours import shown_in, typed

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120


def test_the_readme_tour_prints_what_it_shows(tmp_path: Path) -> None:
    """Followed literally, each command of the tour prints what stands under it."""
    clone = tmp_path / "agent"
    for name in ("deploy", "sdk"):
        shutil.copytree(ROOT / name, clone / name)
    shown = shown_in(ROOT / "README.md")
    assert len(shown) > 20
    assert typed(shown, clone, within_s=DEADLINE_S) == shown
