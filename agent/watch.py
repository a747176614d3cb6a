"""Watching what serves: calls are counted, trials judged by them, and a bad release left.

The pipeline's *watch* step, in any program that runs plugins: whoever records a failure judges
at once.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator

from agent.context import Context
from agent.errors import BusyError, NotFoundError, TrustError
from agent.inventory import is_whole
from agent.model import Samples
from agent.recorder import Recorder
from agent.served import Served
from sandbox.errors import SandboxError

_LOG = logging.getLogger("stack_composer.host")
_JUDGE_LOCK_S = 2.0


class Watch:
    """Records the calls of one host, and judges.

    Args:
        context: The installation.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = Recorder(self._write, context.clock)
        self._told_unwritable = False

    def record(self, served: Served, release: str, *, failed: bool) -> None:
        """Count a call; a failure during a trial is written and judged at once."""
        if not served.is_followed:
            return
        self._recorder.count(served.plugin_id, release, failed=failed)
        if failed and self._is_on_trial(served.plugin_id, release):
            self.flush()
            self._judge(served)
        elif self._recorder.is_due:
            self.flush()
            if self._is_on_trial(served.plugin_id):
                self._judge(served)

    def flush(self) -> None:
        """Write the counts down; a ledger that can't be written is told once."""
        try:
            self._recorder.flush()
        except (sqlite3.Error, OSError) as error:
            if not self._told_unwritable:
                self._told_unwritable = True
                _LOG.warning("cannot record calls: %s; plugins are served all the same", error)

    def unloadable(self, served: Served, error: Exception) -> None:
        """A release that went live cannot be loaded here: the old one serves on."""
        _LOG.warning("cannot load the new release of %s: %s", served.plugin_id, error)
        name = self._context.tree.current(served.plugin_id)
        if name is not None:
            self.give_up_trial(served.plugin_id, name, error)

    def give_up_trial(self, plugin_id: str, name: str, error: Exception) -> bool:
        """Reject a trial's release that can't be loaded by its own fault, and go back.

        Args:
            plugin_id: The plugin.
            name: The folder name of the generation that could not be loaded.
            error: Why.

        Returns:
            False where that generation is not on trial, or something else is at fault, such
            as a trust store that says no: nothing was done.
        """
        context = self._context
        with self._forgiving(plugin_id), context.tree.lock(timeout_s=_JUDGE_LOCK_S):
            trial = context.ledger.trial(plugin_id)
            live = context.activation.live(plugin_id)
            if trial is None or live is None or live.folder_name != name:
                return False
            rotten = isinstance(error, TrustError) and not is_whole(context, live)
            if rotten or isinstance(error, SandboxError | NotFoundError):
                context.activation.fail_trial(trial, reason=f"it cannot be loaded: {error}")
                return True
        return False

    def _write(self, rows: list[tuple[str, str, int, Samples]]) -> None:
        self._context.ledger.add_samples(rows)

    def _is_on_trial(self, plugin_id: str, release: str | None = None) -> bool:
        """Whether a release (or any) of a plugin is on trial."""
        with self._forgiving(plugin_id):
            trial = self._context.ledger.trial(plugin_id)
            return trial is not None and release in (None, trial.release)
        return False

    def _judge(self, served: Served) -> None:
        """Judge the plugin's trial; go back at once where it is unhealthy."""
        context = self._context
        with self._forgiving(served.plugin_id), context.tree.lock(timeout_s=_JUDGE_LOCK_S):
            context.activation.judge(served.plugin_id)
        served.follow(now=True)

    @contextlib.contextmanager
    def _forgiving(self, plugin_id: str) -> Iterator[None]:
        """A trial that can't be judged now never costs a call: the next flush tries again."""
        try:
            yield
        except BusyError:
            return  # whoever holds the lock judges first
        except (sqlite3.Error, OSError) as error:
            _LOG.warning("cannot judge the trial of %s: %s", plugin_id, error)
