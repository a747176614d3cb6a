"""The flat sets of the plugin folder: our own copies, stale ones, and what others put there.

A set that looks as it did when we wrote it is ours, and that is all an ordinary look asks: one
listing, three stats a plugin. One that looks otherwise is compared with what serves, under the
tree's lock, so that no other agent is half-way through its copies. Only a set whose release the
store does not hold is a drop-in; one that it holds, and that is not what serves, is a stale copy
and refreshed, never taken for an update or a downgrade.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from agent.ledger.ledger import Ledger
from agent.model import Generation
from agent.tree.activation import Activation
from agent.tree.flat_files import flat_set, flat_sets
from agent.tree.flat_model import FlatNote, FlatSet


@dataclass(frozen=True, slots=True)
class Identity:
    """What the bytes of a flat set say they are; not yet believed."""

    plugin_id: str
    release: str


Identify = Callable[[FlatSet], Identity | None]
"""Reads a whole flat set; None where it is no plugin that could be named."""


class Standing(enum.Enum):
    """What a flat set is."""

    OURS = enum.auto()
    STALE = enum.auto()
    FOREIGN = enum.auto()


@dataclass(frozen=True, slots=True)
class Examined:
    """A flat set that was put there by somebody else.

    Attributes:
        owner: The plugin that the stem belongs to; None where it belongs to none.
        identity: What it says it is; None where that cannot be said.
    """

    flat: FlatSet
    owner: str | None
    identity: Identity | None

    @property
    def plugin_id(self) -> str:
        """The plugin that it is about, as far as that can be said."""
        return self.identity.plugin_id if self.identity else self.owner or self.flat.stem


@dataclass(frozen=True, slots=True)
class FlatSets:
    """Looks at the flat sets beside a store.

    Args:
        activation: What serves, and who refreshes its copies.
        identify: Reads a set.
    """

    activation: Activation
    identify: Identify

    def changed(self) -> tuple[FlatSet, ...]:
        """The sets that do not look as when we wrote them, those not taken before included."""
        seen = flat_sets(self.activation.tree.root)
        notes = self._ledger.flat_notes()
        found = []
        for stem, flat in sorted(seen.items()):
            note = notes.get(stem)
            if note is not None and note.terms is None and note.stamp == flat.stamp:
                continue
            # Without code and manifest it is no set that anybody could mean.
            if note is None and not flat.parts >= {"wasm", "toml"} and not self._owner(stem):
                continue
            found.append(flat)
        gone = [note for stem, note in notes.items() if stem not in seen and note.terms is None]
        return (*found, *(FlatSet(note.stem, "", frozenset()) for note in gone))

    def examine(self, stem: str) -> Examined | None:
        """Look closely at one set, and put right what is ours; under the tree's lock.

        Returns:
            The set where somebody else put it there; None where it is ours, or is again.

        Raises:
            OSError, sqlite3.Error: The disk or the ledger failed.
        """
        owner, activation = self._owner(stem), self.activation
        if owner is not None and activation.is_unfinished(owner):
            # Copies that are due are refreshed before they are believed.
            activation.recover_one(owner)
        flat = flat_set(activation.tree.root, stem)
        standing, found = self.standing(flat)
        if standing is Standing.FOREIGN:
            return found
        live = self._serving(flat)
        if live is None:
            return None
        if standing is Standing.STALE:
            self._ledger.project_again(live.plugin_id)
            activation.recover_one(live.plugin_id)
        else:
            activation.tree.close(live)
            note = FlatNote(stem, live.plugin_id, flat.stamp, activation.clock())
            self._ledger.note_flat_set(note)
        return None

    def standing(self, flat: FlatSet) -> tuple[Standing, Examined]:
        """What a set is; no effect."""
        live, owner = self._serving(flat), self._owner(flat.stem)
        unnamed = Examined(flat, owner, None)
        if live is not None and self.activation.tree.is_copied(live, flat.parts):
            return (Standing.OURS if flat.is_whole else Standing.STALE), unnamed
        if live is None and not flat.stamp:
            return Standing.OURS, unnamed
        identity = self.identify(flat)
        examined = Examined(flat, owner, identity)
        if identity is not None and live is not None and self._is_stale(live, identity):
            return Standing.STALE, examined
        return Standing.FOREIGN, examined

    def _is_stale(self, live: Generation, identity: Identity) -> bool:
        """Whether the store holds it and it once served, but does not now."""
        return (
            identity.plugin_id == live.plugin_id
            and identity.release != live.release
            and self._ledger.went_live(identity.plugin_id, identity.release)
        )

    def _serving(self, flat: FlatSet) -> Generation | None:
        """What serves under this stem."""
        owner = self._owner(flat.stem)
        live = self.activation.live(owner) if owner is not None else None
        return live if live is not None and live.stem == flat.stem else None

    def _owner(self, stem: str) -> str | None:
        return self._ledger.stem_owner(stem)

    @property
    def _ledger(self) -> Ledger:
        return self.activation.ledger
