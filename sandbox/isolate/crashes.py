"""When a process that crashed is started again. Pure: time is given."""

from dataclasses import dataclass, field

WINDOW_S = 60.0
DELAYS_S = (0.0, 0.1, 0.5, 2.0)
"""After the first crash of a window, the second, …; one more is a loop."""


@dataclass(slots=True)
class Crashes:
    """The crashes of one plugin's processes."""

    _at_s: list[float] = field(default_factory=list)
    is_loop: bool = False

    def record(self, now_s: float) -> bool:
        """Count a crash; True where this one makes it a loop."""
        self._at_s = [at_s for at_s in self._at_s if now_s - at_s < WINDOW_S]
        self._at_s.append(now_s)
        was_loop, self.is_loop = self.is_loop, self.is_loop or len(self._at_s) > len(DELAYS_S)
        return self.is_loop and not was_loop

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next start; 0 = now."""
        if not self._at_s:
            return 0.0
        delay_s = DELAYS_S[min(len(self._at_s), len(DELAYS_S)) - 1]
        return max(0.0, self._at_s[-1] + delay_s - now_s)
