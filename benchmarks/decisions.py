"""What the service's rules cost: the decisions for a thousand plugins, and nothing beside them.

Whether each has its turn, whether a window, a hold, a cooldown or a constraint binds it, which
version is tried first, and when its next turn is. All windows are closed: the longest way.
"""

import datetime as dt
import time
from dataclasses import replace

from agent.model import Hold, Kind, Outcome
from agent.pipeline.plan import Rules, choose, version_offers
from agent.pipeline.requirement import parse_requirement
from agent.pipeline.restraint import restrained, restraint
from agent.service.schedule import Rhythm, Turn
from agent.settings.windows import parse_window
from benchmarks.figures import report

PLUGINS, VERSIONS, ROUNDS = 1_000, 10, 31
MAX_S = 0.100
NOW = dt.datetime(2027, 1, 12, 12, 0, tzinfo=dt.UTC)
WINDOWS = [
    parse_window("Mon-Fri 22:00-05:00 Europe/Berlin"),
    parse_window("Sun 04:00-06:00 America/New_York"),
]
TAGS = [f"0.{minor}.0" for minor in range(VERSIONS)]
OPEN = Rules(
    installed="0.1.0",
    floor="0.1.0",
    constraint=None,
    rejected={},
    refused={},
    first_seen=dict.fromkeys(TAGS, NOW.timestamp() - 60),
    cooldown_s=0,
    hold=None,
    now=NOW.timestamp(),
)
BOUND = (
    OPEN,
    replace(OPEN, constraint=parse_requirement("^0.5")),
    replace(OPEN, hold=Hold(None)),
    replace(OPEN, cooldown_s=86_400),
)
RHYTHM = Rhythm(3_600, 600)


def main() -> bool:
    """Run; returns whether the figures are met."""
    took_s = min(_processor_s() for _ in range(ROUNDS))
    value, wanted = f"{took_s * 1e3:.0f} ms", f"≤ {MAX_S * 1e3:.0f} ms"
    name = f"decisions for {PLUGINS} plugins, {VERSIONS} versions each"
    return report(name, value, wanted, met=took_s <= MAX_S)


def _processor_s() -> float:
    began_s = time.process_time()
    for number in range(PLUGINS):
        _decide(number)
    return time.process_time() - began_s


def _decide(number: int) -> Turn:
    """One plugin's turn, without its effects."""
    turn = Turn(float(number % 7))
    assert turn.is_due(7, may_act=False)
    bound = restraint("auto", WINDOWS, NOW)
    assert bound is not None
    tries, skips = choose(version_offers(TAGS), BOUND[number % len(BOUND)])
    kind = Kind.PLANNED if tries else Kind.CURRENT
    version = tries[0].version if tries else skips[0].version
    outcome = restrained(Outcome("org.example.hello", kind, "plan", "", after=version), bound)
    return turn.after(outcome, RHYTHM, 7, 0.5, may_act=False, awaits_window=bool(tries))


if __name__ == "__main__":
    raise SystemExit(not main())
