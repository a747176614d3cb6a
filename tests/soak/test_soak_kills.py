"""Kills by the hundred, and long lives (make soak)."""

import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.kills import VERBS, killed
from support.states import Installation, Template

KILLS = 300

pytestmark = pytest.mark.soak


def test_what_300_kills_leave_serves_and_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in CI, other moments each run: the seed is in the message."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    seed = time.time_ns()
    with killed(tmp_path, seed) as victim:
        for _ in range(KILLS):
            victim.kill_one()
    told = f"{KILLS} kills with seed {seed}: {dict(victim.seen)}"
    sys.stderr.write(f"{told}\n")
    assert all(victim.seen[verb] for verb in VERBS), told


def test_whatever_happens_for_long_the_right_release_serves(tmp_path: Path) -> None:
    """As in CI, with other and longer stories each run."""

    class Here(Installation):
        template = Template(tmp_path)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=500,
            stateful_step_count=50,
            database=None,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
