"""``agent --version`` beside ``python -c pass``: what a command costs before it does anything."""

import subprocess
import sys
from pathlib import Path

from benchmarks.figures import median_s, report

ROUNDS = 31
MAX_RATIO = 12


def main() -> bool:
    """Run; returns whether the figure is met."""
    agent = [str(Path(sys.executable).with_name("agent")), "--version"]
    bare = [sys.executable, "-c", "pass"]
    ours = median_s(lambda: subprocess.run(agent, check=True, capture_output=True), ROUNDS)
    theirs = median_s(lambda: subprocess.run(bare, check=True), ROUNDS)
    ratio = ours / theirs
    value = f"{ratio:.1f} ({ours * 1e3:.0f} ms / {theirs * 1e3:.0f} ms)"
    return report(
        "agent --version / python -c pass", value, f"≤ {MAX_RATIO}", met=ratio <= MAX_RATIO
    )


if __name__ == "__main__":
    raise SystemExit(not main())
