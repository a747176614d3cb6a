"""Watching what serves: calls are counted, trials judged by them, and a bad release left.

The pipeline's *watch* step, in any program that runs plugins: whoever records a failure judges
at once.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterator

from agent.context import Context
from agent.errors import (
    AgentError,
    BusyError,
    FormatError,
    LedgerError,
    NotFoundError,
    PolicyError,
    TrustError,
    UsageError,
    in_words,
)
from agent.model import Generation, Samples, Stop
from agent.pipeline.dropins import DropIns
from agent.pipeline.outcomes import is_disabled
from agent.pipeline.settling import settle
from agent.serving.recorder import Recorder
from agent.serving.served import Served
from agent.telemetry import Telemetry
from agent.tree.remembering import Words, words_beside, words_on
from agent.verbs.inventory import is_whole
from sandbox.errors import BadModule, IncompatibleError, ManifestError, MissingExport
from trust.errors import StoreError

_LOG = logging.getLogger("stack_composer.host")
_JUDGE_LOCK_S = 0.2
_MOST_TOLD = 100


class Watch:
    """Records the calls of one host, and judges.

    Args:
        context: The installation.
        telemetry: Where the spans of commits and rollbacks go.
    """

    def __init__(self, context: Context, telemetry: Telemetry) -> None:
        self._context = context
        self._telemetry = telemetry
        self._terms: dict[str, object] = {}
        self._over: set[tuple[str, str | None]] = set()
        self._known: dict[str, Words] = {}
        self._left: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._recorder = Recorder(self._write, context.clock)
        self._told_unwritable = False
        self._told_stranger = False
        self._told_unadoptable = False

    def record(self, served: Served, release: str, *, failed: bool, health: bool = False) -> None:
        """Count a call, of health or not; a failure during a trial is judged at once."""
        if not served.is_followed:
            return
        self._recorder.count(served.plugin_id, release, failed=failed, health=health)
        if failed and self._is_on_trial(served.plugin_id, release):
            self.flush()
            self._judge(served)
        elif self._recorder.is_due:
            self.flush()
            if served.plugin_id in self._left or self._is_on_trial(served.plugin_id):
                self._judge(served)

    def settle(self, plugin_id: str) -> None:
        """Finish what a crash left of a plugin: it may be a rejected release that serves."""
        with self._forgiving(plugin_id):
            if self._context.activation.is_unfinished(plugin_id):
                settle(self._context, self._telemetry, plugin_id, timeout_s=_JUDGE_LOCK_S)

    def adopt(self, ids: Collection[str] | None = None, *, stem: str | None = None) -> None:
        """Take drop-ins, as ``DropIns.adopt`` does; where that can't be, what is there serves."""
        try:
            self._keep_up()
            looked = DropIns(self._context, self._telemetry, patience_s=_JUDGE_LOCK_S)
            for outcome in looked.adopt(ids, stem=stem):
                level = logging.INFO if outcome.error is None else logging.WARNING
                _LOG.log(level, "drop-in of %s: %s", outcome.plugin_id, outcome.detail)
        except BusyError:
            return  # whoever holds the lock looks first
        except (sqlite3.Error, OSError, AgentError) as error:
            if not self._told_unadoptable:
                self._told_unadoptable = True
                why = in_words(error)
                _LOG.warning("cannot look for drop-ins: %s; what is there serves", why)

    def terms(self, plugin_id: str) -> object:
        """What a load depends on beside its name: the trust store, the seal and the grants."""
        words = self._words(plugin_id)
        with self._forgiving(plugin_id):
            now = self._context.clock()
            # Whose end was seen is over, though the clock be set back.
            self._over |= {
                (d.capability, d.serial)
                for d in words.decided
                if d.until is not None and d.until <= now
            }
            self._terms[plugin_id] = (
                self._context.trust_stamp(),
                self._context.tree.sealed_at(plugin_id),
                tuple(
                    (
                        d.capability,
                        d.granted,
                        d.serial,
                        d.is_over(now) or (d.capability, d.serial) in self._over,
                    )
                    for d in words.decided
                ),
                # Said while the ledger could not be read: another load, once it can be.
                words.decided != self._known.get(plugin_id, words).decided,
            )
        return self._terms.get(plugin_id)

    def current(self, plugin_id: str) -> str | None:
        """The generation that should serve; None where none does, or by an operator's word.

        Of a release that was rejected, or is neither good nor on trial, that is a good one:
        ``current`` names it only until who rejected it flips back, or because somebody linked it.
        """
        words, tree = self._words(plugin_id), self._context.tree
        if words.stop is not None:
            return None
        name = tree.current(plugin_id)
        if words.serve(name):
            self._left.discard(plugin_id)
            return name
        self._left.add(plugin_id)
        return words.instead(tree.generations(plugin_id))

    def is_disabled(self, plugin_id: str) -> bool:
        """Whether the operator took it out of service: the system's copy does not step in."""
        return self._words(plugin_id).stop is Stop.DISABLED

    def missing(self, plugin_id: str) -> AgentError:
        """Why nothing serves a plugin that did, for who calls it."""
        if self.is_disabled(plugin_id):
            return is_disabled(plugin_id, "call")
        with self._forgiving(plugin_id):
            if not self._context.ledger.generations(plugin_id) or self._words(plugin_id).stop:
                return NotFoundError(
                    f"cannot call {plugin_id}: it was removed", hint=f"agent pull {plugin_id}"
                )
        return NotFoundError(
            f"cannot call {plugin_id}: nothing serves", hint=f"agent history {plugin_id}"
        )

    def _words(self, plugin_id: str) -> Words:
        """What binds; durable before anything is taken away, and heeded without a ledger, too."""
        with self._forgiving(plugin_id):
            words = words_on(self._context.ledger, self._context.tree, plugin_id)
            self._known[plugin_id] = words
            return words
        return words_beside(self._known.get(plugin_id, Words()), self._context.tree, plugin_id)

    def flush(self) -> None:
        """Write the counts down; a ledger that can't be written is told once."""
        try:
            self._keep_up()
            with self._context.ledger.impatient():
                self._recorder.flush()
        except (sqlite3.Error, OSError) as error:
            if not self._told_unwritable:
                self._told_unwritable = True
                why = in_words(error)
                _LOG.warning("cannot record calls: %s; plugins are served all the same", why)

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
            if self._is_its_own_fault(live, error):
                with self._telemetry.span("agent.rollback", plugin_id=plugin_id) as span:
                    span.set_attribute("plugin.version", live.version)
                    span.set_attribute("plugin.release", live.release)
                    context.activation.fail_trial(trial, reason=f"it cannot be loaded: {error}")
                return True
        return False

    def _is_its_own_fault(self, live: Generation, error: Exception) -> bool:
        """Whether the release's bytes are at fault, and not this host, its disk or its trust."""
        if isinstance(error, BadModule | ManifestError | MissingExport | IncompatibleError):
            return True
        return isinstance(error, TrustError | FormatError) and not is_whole(self._context, live)

    def _keep_up(self) -> None:
        """Go by the ledger that lies there now: a lost one was made anew, or a copy put back."""
        if self._context.let_go_of_replaced():
            self._told_stranger = self._told_unwritable = self._told_unadoptable = False
            _LOG.warning("%s was replaced: opened anew", self._context.ledger_path)

    def _write(self, rows: list[tuple[str, str, int, Samples]]) -> None:
        problem = self._context.stranger()
        if problem is None:
            self._context.ledger.add_samples(rows)
        else:
            self._tell_stranger(problem)

    def _tell_stranger(self, problem: AgentError) -> None:
        """Say once that this host serves from a tree that its ledger does not know."""
        if not self._told_stranger:
            self._told_stranger = True
            _LOG.warning("serving only, nothing is recorded or judged: %s", problem)

    def _is_on_trial(self, plugin_id: str, release: str | None = None) -> bool:
        """Whether a release (or any) of a plugin is on trial."""
        with self._forgiving(plugin_id):
            trial = self._context.ledger.trial(plugin_id)
            return trial is not None and release in (None, trial.release)
        return False

    def _judge(self, served: Served) -> None:
        """Judge the plugin's trial; go back at once where it is unhealthy."""
        with self._forgiving(served.plugin_id):
            settle(self._context, self._telemetry, served.plugin_id, timeout_s=_JUDGE_LOCK_S)
        served.follow(now=True)

    @contextlib.contextmanager
    def _forgiving(self, plugin_id: str) -> Iterator[None]:
        """A trial that can't be judged now never costs a call: the next flush tries again."""
        try:
            self._keep_up()
            yield
        except BusyError:
            return  # whoever holds the lock judges first
        except (LedgerError, PolicyError) as error:
            self._tell_stranger(error)
        except (sqlite3.Error, OSError, UsageError, StoreError) as error:
            why = in_words(error)
            if (plugin_id, why) not in self._told:  # SQLite has several words for one fault
                if len(self._told) >= _MOST_TOLD:
                    self._told.clear()
                self._told.add((plugin_id, why))
                _LOG.warning("cannot look after %s: %s", plugin_id, why)
