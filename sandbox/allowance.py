"""What is left of a token: its capabilities run out and their calls are counted, in the host."""

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable

from sandbox.admission import Bound, Purse
from sandbox.token import Token


class Allowance:
    """Says whether a call may use a capability whose grant has an end.

    Args:
        token: What is allowed.
        purse: Counts the calls; None = they are counted here.
        clock: Seconds since the epoch.
        elapsed: Seconds that pass whatever somebody does to the clock.
    """

    def __init__(
        self,
        token: Token,
        purse: Purse | None = None,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = {bound.capability: bound for bound in token.bounds}
        self._purse = purse
        self._clock = clock
        self._elapsed = elapsed
        begun_s, now_s = clock(), elapsed()
        self._ends_s = {
            bound.capability: now_s + bound.expires_s - begun_s
            for bound in token.bounds
            if bound.expires_s is not None
        }
        self._over: set[str] = set()
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()

    def refusal(self, capability: str, counted: set[str]) -> str | None:
        """Why a call may not use a bounded capability now; None: it may.

        Args:
            capability: One of the token's bounds.
            counted: Those for which the call was counted; it is counted once for each.
        """
        bound = self._bounds[capability]
        if bound.expires_s is not None and self._is_over(bound, bound.expires_s):
            end = dt.datetime.fromtimestamp(bound.expires_s, dt.UTC).isoformat()
            return f"its grant ended at {end}"
        if bound.max_calls is None or capability in counted:
            return None
        reason = self._count(bound) if self._purse is None else self._purse.spend(capability)
        if reason is None:
            counted.add(capability)
        return reason

    def _is_over(self, bound: Bound, expires_s: int) -> bool:
        """Whether the end has come, by either clock; what is over stays over."""
        word = bound.capability
        if self._clock() >= expires_s or self._elapsed() >= self._ends_s[word]:
            self._over.add(word)
        return word in self._over

    def _count(self, bound: Bound) -> str | None:
        with self._lock:
            self._counted[bound.capability] += 1
            if bound.max_calls is not None and self._counted[bound.capability] > bound.max_calls:
                return used_up(bound.max_calls)
        return None


def used_up(max_calls: int) -> str:
    """Why a counted grant is over."""
    calls = "call" if max_calls == 1 else f"{max_calls} calls"
    return f"the {calls} it was granted for are used up"
