"""Which step is under way: for outcomes, spans and whoever watches."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from agent.errors import AgentError
from agent.telemetry import Span, Telemetry


@dataclass(frozen=True, slots=True)
class Progress:
    """How the caller shows what goes on; both may be called often.

    Attributes:
        step: Gets the plugin's id and the step that begins.
        bytes_total: Gets the size of the transfer that begins.
        bytes_done: Gets the size of each piece that arrived.
    """

    step: Callable[[str, str], None]
    bytes_total: Callable[[int], None]
    bytes_done: Callable[[int], None]

    @classmethod
    def silent(cls) -> "Progress":
        """Nobody watches."""
        return cls(_ignore, _ignore, _ignore)


def _ignore(*_what: object) -> None:
    """Nobody watches."""


class Steps:
    """The pipeline's place, shown and traced.

    Attributes:
        now: The step under way, or the one that failed.
        version: The version that is being tried, once it is known.
        passed_over: Why candidates were refused before the one that was tried last.

    Args:
        telemetry: Where spans go.
        progress: How the caller shows what goes on.
    """

    def __init__(self, telemetry: Telemetry, progress: Progress) -> None:
        self.telemetry = telemetry
        self.progress = replace(progress, bytes_done=self._arrived) if telemetry.is_on else progress
        self._bytes_done = progress.bytes_done
        self.now = "check"
        self.version: str | None = None
        self.passed_over: list[AgentError] = []

    def begin(self) -> None:
        """Start on another plugin."""
        self.now, self.version, self.passed_over = "check", None, []

    @contextlib.contextmanager
    def stepping(self, plugin_id: str, step: str) -> Iterator[Span]:
        """Be in a step for the length of the block; an error leaves its name in ``now``."""
        self.now = step
        self.progress.step(plugin_id, step)
        with self.telemetry.span(f"agent.{step}", plugin_id=plugin_id) as span:
            if self.version is not None:
                span.set_attribute("plugin.version", self.version)
            yield span

    def _arrived(self, count: int) -> None:
        self._bytes_done(count)
        self.telemetry.metrics.pulled(count)
