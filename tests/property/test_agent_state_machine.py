"""Whatever publishers, operators, clocks and crashes do, in any order: the right release serves."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.states import Installation, Template


@pytest.mark.no_cover  # as in the crash suites: its lines are counted elsewhere
def test_whatever_happens_the_right_release_serves(tmp_path: Path) -> None:
    """Never a rejected, forged or lower one unasked; every decision has its reason."""

    class Here(Installation):
        template = Template(tmp_path)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=50,
            stateful_step_count=25,
            derandomize=True,
            report_multiple_bugs=False,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
