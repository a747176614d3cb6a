"""Keeping the ledger and its second place in the tree alike (``agent.ledger.memory``)."""

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from agent.errors import LedgerError, in_words
from agent.ledger.ledger import Ledger
from agent.ledger.memory import Decided, Memory, decode, either, narrowed, narrower, said
from agent.model import Rejection, Stop, folder_name
from agent.tree.generations import Tree

_LOG = logging.getLogger("stack_composer.tree")


@dataclass(frozen=True, slots=True)
class Words:
    """What binds whoever serves a plugin.

    Attributes:
        stop: Why it must not serve by an operator's word.
        decided: What was granted or denied by command, whether it is over or not.
        rejected: The folders of releases that must not serve, whatever ``current`` says.
        good: Those of what serves instead, the ledger's first.
        allowed: The folders of what is good or on trial, by a ledger that nothing knows more than;
            None where there is none such: then what ``current`` says may serve.
    """

    stop: Stop | None = None
    decided: tuple[Decided, ...] = ()
    rejected: frozenset[str] = frozenset()
    good: tuple[str, ...] = ()
    allowed: frozenset[str] | None = None

    def serve(self, current: str | None) -> bool:
        """Whether what ``current`` names may serve: nothing always may."""
        is_allowed = self.allowed is None or current in self.allowed
        return current is None or (is_allowed and current not in self.rejected)

    def instead(self, sealed: Collection[str]) -> str | None:
        """What serves in the place of what may not, of the folders that lie there."""
        good = (one for one in self.good if one in sealed and one not in self.rejected)
        return next(good, None)


def recall(tree: Tree, plugin_id: str) -> Memory | None:
    """What the tree remembers of a plugin; None where nothing can be read."""
    data = tree.read_memory(plugin_id)
    return None if data is None else decode(data)


def remember(ledger: Ledger, tree: Tree, plugin_id: str) -> None:
    """Write down beside the ledger what must outlive it; under the tree's lock, idempotent.

    What serves does not depend on it, so a fault of the disk only waits.

    Raises:
        LedgerError: The tree knows more: an older copy of the ledger was put back.
    """
    known = ledger.memory(plugin_id)
    try:
        written = recall(tree, plugin_id)
        if ledger.is_behind(plugin_id, written):
            raise _behind(plugin_id)
        if known is not None and written != known:
            tree.write_memory(plugin_id, known.encode())
    except OSError as error:
        _LOG.warning(
            "cannot write the floor of %s beside the ledger: %s; the next run tries again",
            plugin_id,
            in_words(error),
        )


def say_beside(
    ledger: Ledger,
    tree: Tree,
    plugin_id: str,
    *,
    stop: Stop | None = None,
    denied: Decided | None = None,
) -> None:
    """Write an operator's word into the tree alone, durably; under the tree's lock, idempotent.

    For a ledger that can't be written: the tree knows more from then on, so every host heeds the
    word, and nobody changes the plugin until the ledger has taken it up.

    Args:
        ledger: What it should have been written to.
        tree: Its second place.
        plugin_id: The plugin.
        stop: Why it must not serve; None = that is left as it is.
        denied: What is denied to it; None = nothing more.

    Raises:
        OSError: The tree can't be written either.
    """
    mine = ledger.memory(plugin_id) or Memory.nothing(ledger.ledger_id)
    written = recall(tree, plugin_id)
    if written is not None and ledger.is_behind(plugin_id, written):
        mine = replace(narrower(mine, written), number=max(mine.number, written.number))
    tree.write_memory(plugin_id, said(mine, stop, denied).encode())


@contextlib.contextmanager
def remembering(ledger: Ledger, tree: Tree, plugin_id: str) -> Iterator[None]:
    """Let a block change what must outlive the ledger, and write it down there, too.

    Under the tree's lock.

    Raises:
        LedgerError: The tree knows more already: the block is not entered.
    """
    refuse_behind(ledger, tree, plugin_id)
    yield
    remember(ledger, tree, plugin_id)


def refuse_behind(ledger: Ledger, tree: Tree, plugin_id: str) -> None:
    """Refuse to change a plugin of which the tree knows more than the ledger.

    Raises:
        LedgerError: So it is: an older copy of the ledger was put back.
    """
    problem = behind(ledger, tree, plugin_id)
    if problem is not None:
        raise problem


def behind(ledger: Ledger, tree: Tree, plugin_id: str) -> LedgerError | None:
    """Why a plugin may not be changed: the tree knows more of it; None where it does not."""
    return None if _ahead(ledger, tree, plugin_id) is None else _behind(plugin_id)


def decided_on(ledger: Ledger, tree: Tree, plugin_id: str) -> tuple[Decided, ...]:
    """What was granted or denied by command, whether it is over or not.

    Where the ledger was lost, or is an older copy, what the tree remembers as denied is denied.
    """
    decided, written = ledger.decided(plugin_id), _ahead(ledger, tree, plugin_id)
    return decided if written is None else narrowed(decided, written.decisions)


def decisions_on(
    ledger: Ledger, tree: Tree, plugin_id: str, *, at: float | None = None
) -> dict[str, bool]:
    """Capability → granted or denied by command.

    Args:
        ledger: What counts.
        tree: Its second place; see ``decided_on``.
        plugin_id: The plugin.
        at: Leave out the grants that are over by then, or used up; None = none of them.
    """
    found = decided_on(ledger, tree, plugin_id)
    return {d.capability: d.granted for d in found if at is None or d.is_in_force(at)}


def stop_on(ledger: Ledger, tree: Tree, plugin_id: str) -> Stop | None:
    """Why a plugin must not serve by an operator's word.

    The ledger's; where the tree knows more, the tree's as well.
    """
    installed, written = ledger.installed(plugin_id), _ahead(ledger, tree, plugin_id)
    return either(*(one.stop for one in (installed, written) if one is not None))


def words_on(ledger: Ledger, tree: Tree, plugin_id: str) -> Words:
    """What binds by the ledger's word; where the tree knows more, by the tree's as well.

    A rejected release that was named again is on trial, and may serve.
    """
    installed, trial = ledger.installed(plugin_id), ledger.trial(plugin_id)
    known = {one.release: one.folder_name for one in ledger.generations(plugin_id)}
    good = known.get(installed.good or "") if installed else None
    on_trial = known.get(trial.release) if trial else None
    mine = Words(
        installed.stop if installed else None,
        ledger.decided(plugin_id),
        _folders(ledger.rejections(plugin_id).values()) - {on_trial},
        (good,) if good else (),
        frozenset(filter(None, (good, on_trial))) if installed else None,
    )
    written = _ahead(ledger, tree, plugin_id)
    if written is None:
        return mine
    both = _stopped_too(mine, written)
    return replace(both, decided=narrowed(mine.decided, written.decisions))


def words_beside(known: Words, tree: Tree, plugin_id: str) -> Words:
    """What binds while the ledger can't be read: what was known, and what the tree takes away."""
    written = _recalled(tree, plugin_id)
    if written is None:
        return known
    denied = {one.capability for one in known.decided if not one.granted}
    more = (d for d in written.decisions if not d.granted and d.capability not in denied)
    return replace(_stopped_too(known, written), decided=(*known.decided, *more))


def _stopped_too(words: Words, written: Memory) -> Words:
    """The words, and what the tree says must not serve."""
    good = tuple(
        folder_name(c.version, c.release) for c in written.committed if c.release == written.good
    )
    return replace(
        words,
        stop=either(words.stop, written.stop),
        rejected=words.rejected | _folders(written.rejected),
        good=(*words.good, *good),
        allowed=None,
    )


def _folders(rejected: Iterable[Rejection]) -> frozenset[str]:
    return frozenset(folder_name(one.version, one.release) for one in rejected)


def _ahead(ledger: Ledger, tree: Tree, plugin_id: str) -> Memory | None:
    """What the tree remembers, if that is more than the ledger knows."""
    written = _recalled(tree, plugin_id)
    return written if ledger.is_behind(plugin_id, written) else None


def _recalled(tree: Tree, plugin_id: str) -> Memory | None:
    try:
        return recall(tree, plugin_id)
    except OSError:
        return None  # a fault of the disk: ``remember`` tells of it


def _behind(plugin_id: str) -> LedgerError:
    return LedgerError(
        f"cannot change {plugin_id}: the plugin tree knows more than the ledger, which could not "
        "be written then, or of which an older copy was put back",
        hint="agent doctor --fix takes up what the tree knows",
    )
