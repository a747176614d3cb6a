"""A call in this process: of an installed plugin, or of an unsigned folder (--dev)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from agent.cli.app import App, manifest_at
from agent.control.values import LEVELS
from agent.host import PluginHost
from sandbox import CallError, CallResult, read_set
from sandbox.admission import Isolation

if TYPE_CHECKING:
    from sandbox import LogRecord

Show = Callable[[str, str, str], None]
"""Told who said something, at which level, and what."""
Spent = Callable[[int, int], None]
"""Told the fuel and the memory of a call that failed."""


def call_here(
    app: App,
    plugin: str,
    function: str | None,
    arguments: Sequence[str],
    *,
    isolation: Isolation | None,
    show: Show,
    spent: Spent,
) -> CallResult:
    """Call an installed plugin."""
    with (
        _telling(spent),
        PluginHost(
            context=app.context, on_log=_taking(show), stands_in=True, isolation=isolation
        ) as host,
    ):
        host.load_installed(plugin)
        return host.call(function, arguments, plugin=plugin)


def call_folder(
    app: App,
    path: str,
    function: str | None,
    arguments: Sequence[str],
    *,
    isolation: Isolation | None,
    show: Show,
    spent: Spent,
) -> CallResult:
    """``--dev``: believed as it is, never installed or recorded."""
    app.out.message(f"{path}: run unsigned (--dev)")
    files = read_set(manifest_at(path))
    box = app.context.open_sandbox(unsigned=True, on_log=_taking(show), isolation=isolation)
    with _telling(spent), contextlib.closing(box) as sandbox:
        return sandbox.load(files).call(function, arguments)


def _taking(show: Show) -> "Callable[[LogRecord], None]":
    return lambda record: show(record.plugin_id, LEVELS[record.level], record.message)


@contextlib.contextmanager
def _telling(spent: Spent) -> Iterator[None]:
    try:
        yield
    except CallError as error:
        spent(error.stats.fuel_used, error.stats.memory_peak_bytes)
        raise
