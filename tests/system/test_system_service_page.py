"""The service page's drill is typed on a terminal, and prints what it shows."""

import shutil
from pathlib import Path

from support.tours import shown_in, typed

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240


def test_the_rollback_drill_prints_what_it_shows(tmp_path: Path) -> None:
    """Followed literally, a service takes the good release and goes back from the bad ones."""
    clone = tmp_path / "agent"
    for name in ("deploy", "sdk"):
        shutil.copytree(ROOT / name, clone / name)
    shown = shown_in(ROOT / "docs" / "service.md")
    assert len(shown) > 20
    assert typed(shown, clone, within_s=DEADLINE_S) == shown
