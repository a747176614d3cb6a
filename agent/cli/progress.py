"""Showing long work on stderr: a bar on a terminal, a line elsewhere."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agent.cli.output import Output, sizes
from agent.steps import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_WORTH_A_WORD_BYTES = 1 << 20


@contextlib.contextmanager
def transfer(out: Output, title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show one transfer.

    Args:
        out: Where messages go.
        title: What is transferred.
        total_bytes: Its size; a small one is not worth a bar.

    Yields:
        A function that takes the size of each piece that went over.
    """
    if total_bytes < _WORTH_A_WORD_BYTES:
        yield _ignore
    elif not out.interactive:
        out.message(f"{title}: {sizes(total_bytes)}")
        yield _ignore
    else:
        with _bar() as bar:
            task = bar.add_task(title, total=total_bytes)
            yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def pipeline(out: Output) -> Iterator[Progress]:
    """Show the pipeline's steps and transfers."""
    with contextlib.ExitStack() as stack:
        show: Callable[[int], None] = _ignore
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
