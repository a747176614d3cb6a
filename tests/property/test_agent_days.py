"""Whatever happens in days of a service's schedule: the right plugins are taken, and in time."""

from pathlib import Path

from support.days import Days


def test_in_thirty_days_each_rule_binds_and_none_waits_too_long(tmp_path: Path) -> None:
    """Windows, modes, holds, cooldowns and constraints bind, however registries and clocks fail.

    What may be taken is, within the interval and its jitter; every turn leaves its reason.
    """
    days = Days(tmp_path, 3, plugins=20)
    days.live(30)
    assert len(days.taken) > 20
    assert all(days.counts.values()), days.counts
