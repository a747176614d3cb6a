"""Showing long work on stderr: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import registry
from agent.cli.output import Output, sizes
from agent.durations import format_duration
from agent.pipeline.steps import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_WORTH_A_WORD_BYTES = 1 << 20
_LINE_EVERY_S = 10.0


@contextlib.contextmanager
def transfer(
    out: Output, title: str, total_bytes: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[registry.Progress]:
    """Show one transfer, of one blob or of several.

    Args:
        out: Where messages go.
        title: What is transferred.
        total_bytes: Its size; a small one is not worth a bar.
        clock: Seconds.

    Yields:
        What takes the size of each piece that went over.
    """
    if total_bytes < _WORTH_A_WORD_BYTES:
        yield _ignore
    elif not out.interactive:
        yield _Lines(out, title, total_bytes, clock).more
    else:
        with _bar() as bar:
            task = bar.add_task(title, total=total_bytes)
            yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def pipeline(out: Output) -> Iterator[Progress]:
    """Show the pipeline's steps and transfers."""
    with contextlib.ExitStack() as stack:
        show: registry.Progress = _ignore
        title = ""

        def step(plugin_id: str, name: str) -> None:
            nonlocal title
            title = f"fetching {plugin_id}"
            out.detail(f"{plugin_id}: {name}")

        def begin(total_bytes: int) -> None:
            nonlocal show
            stack.close()
            show = stack.enter_context(transfer(out, title, total_bytes))

        def more(count: int) -> None:
            show(count)

        yield Progress(step, begin, more)


class _Lines:
    """A transfer where nobody looks at a terminal: its size, and every ten seconds how it goes."""

    def __init__(
        self, out: Output, title: str, total_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._out = out
        self._title = title
        self._total_bytes = total_bytes
        self._clock = clock
        self._done_bytes = 0
        self._started_s = self._told_s = clock()
        out.message(f"{title}: {sizes(total_bytes)}")

    def more(self, count: int) -> None:
        """Take the size of a piece."""
        self._done_bytes += count
        now_s = self._clock()
        if now_s - self._told_s < _LINE_EVERY_S or self._done_bytes <= 0:
            return
        self._told_s = now_s
        bytes_per_s = self._done_bytes / (now_s - self._started_s)
        left_s = max(0, self._total_bytes - self._done_bytes) / bytes_per_s
        self._out.message(
            f"{self._title}: {sizes(self._done_bytes)} of {sizes(self._total_bytes)}, "
            f"{sizes(int(bytes_per_s))}/s, {format_duration(left_s)} left"
        )


def _ignore(_count: int) -> None:
    """Nothing to show."""


def _bar() -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
