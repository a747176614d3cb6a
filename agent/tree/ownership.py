"""Which ledger knows a plugin tree: two states never write to one tree, nor does a fresh one.

A ledger has an id. The tree says in ``.store/.owner`` whose it is, and every writer looks there
under the tree's lock before it changes anything.
"""

import contextlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.errors import AgentError, LedgerError, PolicyError
from agent.ledger.ledger import Ledger
from agent.reading import open_regular
from agent.tree.generations import Tree

_SCHEMA = 1
SHARED = "shared-tree"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may write to a tree.

    Attributes:
        ledger: The ledger's id.
        state: Where its file lay when it was last used.
        inode: That of the tree's hidden folder: a tree that was copied with its state has
            another one, and both may be used.
    """

    ledger: str
    state: Path
    inode: int

    @classmethod
    def now(cls, tree: Tree, ledger: Ledger, path: Path) -> "Owner":
        """What a tree should say of a ledger that it belongs to."""
        return cls(ledger.ledger_id, path.resolve(), tree.inode())


def owner_of(tree: Tree) -> Owner | None:
    """What the tree says; None where it says nothing that could be read."""
    data = tree.read_owner()
    try:
        fields = json.loads(data or b"")
        ledger, state, inode = fields["ledger"], fields["state"], fields["inode"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    is_owner = isinstance(ledger, str) and isinstance(state, str) and isinstance(inode, int)
    if not is_owner or not state.startswith("/") or "\0" in state:
        return None
    return Owner(ledger, Path(state), inode)


def own(tree: Tree, ledger: Ledger, path: Path) -> None:
    """Say that a tree is a ledger's; under the tree's lock."""
    mine = Owner.now(tree, ledger, path)
    if owner_of(tree) == mine:
        return
    fields = {"schema": _SCHEMA, **asdict(mine), "state": str(mine.state)}
    tree.write_owner(json.dumps(fields).encode() + b"\n")


def claim(tree: Tree, ledger: Ledger, path: Path) -> None:
    """Let a writer go on, if the tree is its ledger's or nobody's; under the tree's lock.

    Args:
        tree: The tree.
        ledger: The writer's ledger.
        path: Where that lies.

    Raises:
        LedgerError, PolicyError: See ``stranger``.
    """
    problem = stranger(tree, ledger, path)
    if problem is not None:
        raise problem
    try:
        own(tree, ledger, path)
    except OSError:
        # Whose it is, is said; where its ledger lies by now can't be, and keeps no stop away.
        owner = owner_of(tree)
        if owner is None or owner.ledger != ledger.ledger_id:
            raise


def stranger(tree: Tree, ledger: Ledger | None, path: Path) -> AgentError | None:
    """Why a ledger may not be used with this tree; None where it may.

    Args:
        tree: The tree.
        ledger: The ledger; None where there is no file at ``path``.
        path: Where it lies.

    Returns:
        ``LedgerError`` where the one that knew it is lost, ``PolicyError`` where another state
        uses the tree.
    """
    if ledger is not None and not ledger.is_in_place:
        return LedgerError(
            f"cannot go on with {path}: the file was removed or replaced while it was in use",
            hint="start this program again; agent doctor says more",
        )
    owner = owner_of(tree)
    if owner is None:
        # A tree from before there were owners, or one that nobody has used yet.
        unknown = tree.plugin_ids() and not (ledger and ledger.plugin_ids())
        return _lost(tree, path) if unknown else None
    # A copied tree is another tree: whoever uses the one that it was copied from may go on.
    is_here = owner.state == path or owner.state == path.resolve()
    is_elsewhere = owner.inode == tree.inode() and not is_here
    if is_elsewhere and _is_ledger(owner.state, owner.ledger):
        return _shared(tree, owner)
    if ledger is not None and owner.ledger == ledger.ledger_id:
        return None  # also where the state was moved
    return _lost(tree, owner.state)


def _lost(tree: Tree, path: Path) -> LedgerError:
    return LedgerError(
        f"cannot change {tree.root}: the ledger that knew it, {path}, is lost or was replaced",
        hint=f"put {path} back; or agent doctor --fix makes a new one from the sealed releases "
        "(grants are lost)",
    )


def _shared(tree: Tree, owner: Owner) -> PolicyError:
    return PolicyError(
        f"cannot change {tree.root}: it belongs to the state in {owner.state.parent}",
        reason=SHARED,
        hint="use that state, or set another paths.user_dir; agent doctor --fix --take-over takes "
        "the tree away from it",
    )


def _is_ledger(path: Path, ledger_id: str) -> bool:
    """Whether a file is the ledger of that id; one that we may not look at counts as it."""
    try:
        if not path.is_file():
            return False
        with open_regular(path):
            pass
    except PermissionError:
        return True
    except OSError:
        return False
    with contextlib.suppress(sqlite3.Error):
        uri = f"{path.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as db:
            rows = db.execute("SELECT id FROM ledger").fetchall()
        return rows == [(ledger_id,)]
    return False
