"""What every change of what serves is made of: the flip, the copies, the lines in the books."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from agent.errors import AgentError, in_words
from agent.ledger.ledger import Ledger
from agent.model import Event, Generation, Installed, Stop, Trial
from agent.tree.flat_files import flat_set
from agent.tree.flat_model import FlatNote
from agent.tree.generations import Tree

NOTHING_GOOD = "no good release of it is kept"
_LOG = logging.getLogger("stack_composer.tree")


class Audit(Protocol):
    """Who writes down what becomes of releases."""

    def release(self, outcome: str, generation: Generation, reason: str, *, required: bool) -> None:
        """Write a line; where that fails, raise if it is required."""

    def stray(self, outcome: str, reason: str, *, plugin: str, required: bool) -> None:
        """The same of a plugin no release of which is known."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What ledger and tree say of one plugin, read once: what a run goes by, without a lock.

    Attributes:
        installed: None where it was never installed.
        trial: The open one.
        live: What serves; None where nothing does, or the ledger lost it.
    """

    installed: Installed | None
    trial: Trial | None
    live: Generation | None

    @property
    def stop(self) -> Stop | None:
        """Why it must not serve by an operator's word."""
        return None if self.installed is None else self.installed.stop


def _no_problem(_generation: Generation) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Effects:
    """One plugin tree and its ledger; called under the tree's lock.

    Args:
        ledger: Where intentions and rejections are written first.
        tree: Where ``current`` moves.
        clock: Seconds since the epoch.
        problem: Why a sealed release could not serve (no longer trusted, broken bytes); None
            where it could.
        audit: Is told of every step before it is taken; None: nobody asks.
    """

    ledger: Ledger
    tree: Tree
    clock: Callable[[], float]
    problem: Callable[[Generation], str | None] = _no_problem
    audit: Audit | None = None

    def live(self, plugin_id: str) -> Generation | None:
        """The generation that serves; None where there is none, or the ledger lost it."""
        name = self.tree.current(plugin_id)
        for generation in self.ledger.generations(plugin_id):
            if generation.folder_name == name:
                return generation
        return None

    def standing(self, plugin_id: str) -> Standing:
        """How a plugin stands now."""
        return Standing(*self.ledger.standing(plugin_id), self.live(plugin_id))

    def in_use(self, plugin_id: str) -> frozenset[str]:
        """The releases that must stay whole: what serves, and what may be gone back to."""
        now = self.standing(plugin_id)
        used = {
            now.live.release if now.live else None,
            now.installed.good if now.installed else None,
        }
        if now.trial is not None:
            used |= {now.trial.release, now.trial.previous}
        return frozenset(release for release in used if release is not None)

    def good(self, plugin_id: str) -> Generation | None:
        """The committed release that serves outside a trial, or would if it were enabled."""
        installed = self.ledger.installed(plugin_id)
        if installed is None or installed.good is None:
            return None
        return self.ledger.generation(plugin_id, installed.good)

    def has_good(self, plugin_id: str) -> bool:
        """Whether a good release of a plugin lies there, serving or not."""
        good = self.good(plugin_id)
        return good is not None and self.tree.folder(good).is_dir()

    def _serve(self, plugin_id: str, target: Generation | None, stem: str | None) -> None:
        if target is not None:
            self.tree.flip(target)
            self._project(target)
            return
        # The copies go while `current` still names their stem: after a crash in between it
        # is all there again to be undone.
        if stem is not None:
            self.tree.unproject(stem)
        self.tree.unflip(plugin_id)
        self.ledger.projected(plugin_id, None)

    def _project(self, generation: Generation) -> None:
        """Refresh the flat copies; what serves does not depend on them, so a fault only waits."""
        try:
            self.tree.project(generation)
        except OSError as error:
            where = self.tree.flat_files(generation.stem)[0].with_suffix(".*")
            why = in_words(error)
            _LOG.warning("cannot refresh %s: %s; the next run tries again", where, why)
            return
        copies = flat_set(self.tree.root, generation.stem)
        note = FlatNote(generation.stem, generation.plugin_id, copies.stamp, self.clock())
        self.ledger.projected(generation.plugin_id, generation.release, note)

    def _generation(self, plugin_id: str, release: str) -> Generation:
        generation = self.ledger.generation(plugin_id, release)
        if generation is None:
            raise AgentError(
                f"cannot go on with {plugin_id}: the ledger lost its release {release[:12]}",
                hint=f"agent pull {plugin_id}",
            )
        return generation

    def _tell(
        self, outcome: str, generation: Generation, reason: str, *, required: bool = False
    ) -> None:
        if self.audit is not None:
            self.audit.release(outcome, generation, reason, required=required)

    def _tell_word(
        self, outcome: str, plugin_id: str, generation: Generation | None, reason: str
    ) -> None:
        """An operator's word on a plugin; only stopping it goes on where that can't be written."""
        required = outcome != "disabled"
        if generation is not None:
            self._tell(outcome, generation, reason, required=required)
        elif self.audit is not None:
            why = reason or NOTHING_GOOD
            self.audit.stray(outcome, why, plugin=plugin_id, required=required)

    def _event(self, plugin_id: str, generation: Generation | None, kind: str, why: str) -> Event:
        version, release = (generation.version, generation.release) if generation else (None, None)
        return Event(self.clock(), plugin_id, kind, version, release, why)

    def _record(
        self, generation: Generation, kind: str, detail: str, *, beside: Generation | None = None
    ) -> None:
        event = self._event(generation.plugin_id, generation, kind, detail)
        self.ledger.record(replace(event, beside=beside.version if beside else None))
