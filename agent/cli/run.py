"""run: be the background service, in the foreground."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from agent.cli.app import App, verb
from sandbox.log import escape_text

if TYPE_CHECKING:
    from agent.service.service import Service


@verb(name="run", examples="agent run\nagent run --system")
def run_command(app: App) -> None:
    """Be the background service: update, watch and serve plugins until told to end.

    It says on stderr what it does. SIGHUP has it read config and trust store again; SIGTERM and
    Ctrl-C end it in good order, after the calls that run.
    """
    from agent.context import Options
    from agent.service.service import Service

    service = Service(Options(**app.flags), os.environ)
    with (
        _logging_to_stderr(quiet=app.out.quiet, verbose=app.out.verbose),
        _heeding_signals(app, service),
    ):
        service.run()


@contextlib.contextmanager
def _heeding_signals(app: App, service: "Service") -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        app.exit_code = 130
        service.stop()

    wanted: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: lambda _number, _frame: service.stop(),
        signal.SIGHUP: lambda _number, _frame: service.reload(),
        signal.SIGINT: interrupt,
    }
    before = {number: signal.signal(number, take) for number, take in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging_to_stderr(*, quiet: bool, verbose: bool) -> Iterator[None]:
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("stack_composer")
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


class _Plain(logging.Formatter):
    """One line a record, whatever control characters its text has; a fault's traceback follows."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line."""
        return escape_text(super().formatMessage(record))
