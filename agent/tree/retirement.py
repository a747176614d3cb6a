"""Out of service and back: disable, enable, remove.

The word is durable before anything is taken away. From then on our hosts serve the plugin no
more, whatever still lies in the tree, and ``recover`` takes away what a crash left. What serves
stays good, or on trial, in the ledger until it is gone from the tree, so *whatever is live is in
the ledger at every instant* holds here too.
"""

from agent.model import Installed, Stop
from agent.tree.effects import Effects
from agent.tree.flat_files import flat_set
from agent.tree.flat_model import FLAT_PARTS
from agent.tree.remembering import remember, remembering, say_beside


class Retirement(Effects):
    """The effects that take a plugin out of service; see ``Effects``."""

    __slots__ = ()

    def disable(self, plugin_id: str) -> None:
        """Nothing serves any more; an open trial ends without a verdict.

        A stop is never kept from happening by an audit log that can't be written.

        Raises:
            OSError, sqlite3.Error: The disk or the ledger failed: before the word is durable
                nothing has changed, after it ``recover`` finishes.
            LedgerError: An older copy of the ledger was put back; so for what follows.
        """
        # In both places before anything is taken away: a ledger that is lost right then brings
        # nothing back into service.
        with remembering(self.ledger, self.tree, plugin_id):
            serving = self.live(plugin_id) or self.good(plugin_id)
            trial = self.ledger.trial(plugin_id)
            why = "its trial ends without a verdict" if trial is not None else ""
            self._tell_word("disabled", plugin_id, serving, why)
            event = self._event(plugin_id, serving, "disabled", why)
            self.ledger.stop(plugin_id, Stop.DISABLED, event)
        self._finish_stop(plugin_id)

    def disable_beside(self, plugin_id: str) -> None:
        """``disable`` where the ledger can't be written: the tree's word is durable first.

        What a crash leaves is taken away once the ledger has taken up the word.

        Raises:
            OSError: The tree can't be written either: nothing has changed. After the word: what
                is in the way still lies there.
        """
        say_beside(self.ledger, self.tree, plugin_id, stop=Stop.DISABLED)
        self._take_away(plugin_id, Stop.DISABLED)

    def enable(self, plugin_id: str) -> None:
        """What was good when it was disabled serves again; it was verified by the caller.

        Raises:
            OSError, sqlite3.Error: As for ``disable``; the audit log counts here.
        """
        with remembering(self.ledger, self.tree, plugin_id):
            good = self.good(plugin_id)
            self._tell_word("enabled", plugin_id, good, "")
            self.ledger.start(plugin_id, self._event(plugin_id, good, "enabled", ""))
        if good is not None:
            self._serve(plugin_id, good, good.stem)

    def remove(self, plugin_id: str) -> None:
        """The plugin goes, and its generations; what must outlive it stays in the ledger.

        Raises:
            OSError, sqlite3.Error: As for ``enable``.
        """
        with remembering(self.ledger, self.tree, plugin_id):
            serving = self.live(plugin_id) or self.good(plugin_id)
            self._tell_word("removed", plugin_id, serving, "")
            event = self._event(plugin_id, serving, "removed", "")
            self.ledger.stop(plugin_id, Stop.REMOVING, event)
        self._finish_stop(plugin_id)

    def is_removed(self, plugin_id: str) -> bool:
        """Whether a plugin was here once, and nothing of it is left."""
        installed = self.ledger.installed(plugin_id)
        return (
            installed is not None
            and installed.stop is None
            and self.tree.current(plugin_id) is None
            and not self.ledger.generations(plugin_id)
        )

    def _finish_stop(self, plugin_id: str) -> None:
        """Take away what a stopped plugin still has; idempotent."""
        installed = self.ledger.installed(plugin_id)
        if installed is None or not self._is_half_stopped(installed):
            return
        self._take_away(plugin_id, installed.stop)
        if installed.stop is Stop.DISABLED:
            self.ledger.stopped(plugin_id)
            return
        self.tree.remove(plugin_id)
        self.ledger.forget(plugin_id)
        remember(self.ledger, self.tree, plugin_id)

    def _take_away(self, plugin_id: str, stop: Stop | None) -> None:
        """The flat copies and ``current``: the ledger is only read."""
        try:
            stems = {generation.stem for generation in self.ledger.generations(plugin_id)}
            for stem in sorted(stems.union(self.tree.current_stems(plugin_id))):
                # Who removes a plugin wants nothing of its stem taken as a drop-in.
                is_disabled = stop is Stop.DISABLED
                parts = self._copies(plugin_id, stem) if is_disabled else FLAT_PARTS
                self.tree.unproject(stem, parts)
        finally:
            # Copies that can't be removed keep nothing else from being stopped.
            self.tree.unflip(plugin_id)

    def _copies(self, plugin_id: str, stem: str) -> frozenset[str]:
        """The parts of a flat set that are our copies: as we left them, or of a sealed release.

        What else lies there is somebody's who may have nothing else of it.
        """
        note = self.ledger.flat_notes().get(stem)
        written = note.stamp if note is not None and note.terms is None else ""
        same = {*written.split()} & {*flat_set(self.tree.root, stem).stamp.split()}
        untouched = frozenset(one.partition(":")[0] for one in same)
        return untouched | self.tree.copied(plugin_id, stem)

    def _is_half_stopped(self, installed: Installed) -> bool:
        if installed.stop is Stop.REMOVING:
            return True
        serves = self.tree.current(installed.plugin_id) is not None
        return installed.stop is Stop.DISABLED and (serves or installed.projection_due)
