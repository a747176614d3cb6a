"""When a process that crashed is started again. Pure: time is given."""

from dataclasses import dataclass, field

from sandbox.errors import CrashLoopError

WINDOW_S = 60.0
DELAYS_S = (0.0, 0.1, 0.5, 2.0)
"""After the first crash of a window, the second, …; one more is a loop."""


@dataclass(slots=True)
class Crashes:
    """The crashes of one plugin's processes.

    Attributes:
        is_loop: There were too many; it is not started any more.
    """

    is_loop: bool = False
    _at_s: list[float] = field(default_factory=list)

    def record(self, now_s: float) -> bool:
        """Count a crash; True where this one makes it a loop."""
        self._at_s = [at_s for at_s in self._at_s if now_s - at_s < WINDOW_S]
        self._at_s.append(now_s)
        was_loop, self.is_loop = self.is_loop, self.is_loop or len(self._at_s) > len(DELAYS_S)
        return self.is_loop and not was_loop

    def require_start(self, now_s: float, plugin_id: str) -> None:
        """Refuse a start that would come too early.

        Raises:
            CrashLoopError: It is too early, or there will be none.
        """
        if self.is_loop:
            raise CrashLoopError(
                f"cannot call {plugin_id}: its process crashed again and again; "
                f"see: agent disable {plugin_id}",
                retry_after_s=None,
                plugin_id=plugin_id,
            )
        wait_s = self._wait_s(now_s)
        if wait_s > 0:
            raise CrashLoopError(
                f"cannot call {plugin_id}: its process crashed, the next one starts "
                f"in {wait_s:.1f} s",
                retry_after_s=wait_s,
                plugin_id=plugin_id,
            )

    def _wait_s(self, now_s: float) -> float:
        if not self._at_s:
            return 0.0
        delay_s = DELAYS_S[min(len(self._at_s), len(DELAYS_S)) - 1]
        return self._at_s[-1] + delay_s - now_s


def how_it_ended(code: int | None) -> str:
    """For messages: what is known of a process's end."""
    if code is None:
        return "nothing is known of how"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
