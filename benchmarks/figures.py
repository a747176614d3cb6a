"""What the benchmarks share: a line per figure, with what it must meet."""

import statistics
import time
from collections.abc import Callable


def report(name: str, value: str, wanted: str, *, met: bool) -> bool:
    """Print one figure beside what is wanted.

    Returns:
        Whether it is met, for the exit code.
    """
    print(f"{'met   ' if met else 'MISSED'}  {name:<52} {value:<28} wanted {wanted}")
    return met


def median_s(work: Callable[[], object], times: int) -> float:
    """The median wall time of some runs, in seconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
