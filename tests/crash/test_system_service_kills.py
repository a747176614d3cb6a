"""SIGKILL of the service at moments nobody chose: updates, drop-ins, rollbacks, pruning."""

from pathlib import Path

import pytest

from support.service_kills import WORK, kill_services

KILLS = 20
SEED = 20_260_103


def test_a_service_that_is_killed_leaves_its_work_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of 20 kills the next one serves the right release, and ends what was begun."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    seen = kill_services(tmp_path, SEED, KILLS)
    assert sum(seen[work] for work in set(WORK)) >= KILLS / 2, seen
