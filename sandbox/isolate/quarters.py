"""Where the plugins of one sandbox live that run apart: one zygote, one watch over the idle."""

import weakref
from collections.abc import Callable
from pathlib import Path

from sandbox.code import Code
from sandbox.context import Ask
from sandbox.hostfuncs.links import Answer
from sandbox.isolate.idle import IdleWatch
from sandbox.isolate.nursery import Nursery
from sandbox.isolate.orders import Orders
from sandbox.isolate.process import ProcessRunner
from sandbox.log import LogRecord
from sandbox.offmain import OffMain

OnCrashLoop = Callable[[str, str, str], None]
"""Told a plugin's id, its release, and why its process is not started again."""


class Quarters:
    """Makes the runners of one sandbox that run in children.

    Args:
        off_main: Keeps the waiting off the main thread.
        answer: Runs a function of the application.
        on_log: Takes the plugins' log records.
        on_crash_loop: Told when a plugin's process crashed too often.

    Raises:
        SandboxError: No process can be started here.
    """

    def __init__(
        self,
        off_main: OffMain,
        answer: Answer,
        on_log: Callable[[LogRecord], None],
        on_crash_loop: OnCrashLoop,
    ) -> None:
        self._off_main = off_main
        self._answer = answer
        self._on_log = on_log
        self._on_crash_loop = on_crash_loop
        self._idle = IdleWatch()
        self._nursery = Nursery()
        self._nursery.start()

    def runner(self, orders: Orders, code: Code, data_dir: Path | None, ask: Ask) -> ProcessRunner:
        """The runner of one plugin; its child starts with the first call.

        Raises:
            SandboxError: The zygote can't be started.
        """
        token = orders.token
        self._nursery.start()
        runner = ProcessRunner(
            orders,
            code,
            data_dir,
            ask,
            nursery=self._nursery,
            off_main=self._off_main,
            idle=self._idle,
            answer=self._answer,
            on_log=self._on_log,
            on_loop=lambda reason: self._on_crash_loop(token.plugin_id, token.release, reason),
        )
        # a plugin may be dropped without being closed, and a destructor may take no lock
        weakref.finalize(runner, self._idle.leave, runner.keeper).atexit = False
        return runner

    def close(self) -> None:
        """Start nothing more, and let go of what no call uses."""
        self._nursery.close()
        self._idle.close()
