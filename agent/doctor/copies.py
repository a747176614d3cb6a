"""The flat copies beside the store, which hosts of other makes read."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.context import Context
from agent.doctor.finding import Finding
from agent.model import Generation
from sandbox.discovery import find_sets

_CHUNK_BYTES = 1 << 20


def check_copies(context: Context) -> Iterator[Finding]:
    """Whether the flat copies hold what serves."""
    wrong = 0
    for plugin_id in context.tree.plugin_ids():
        live = context.activation.live(plugin_id)
        for finding in _check(context, live) if live is not None else ():
            wrong += 1
            yield finding
    if not wrong:
        yield Finding("copies", ok=True, detail="the flat copies hold what serves")


def check_foreign(context: Context) -> Iterator[Finding]:
    """Sets in the plugin folder that no installed plugin has."""
    stems = [p.stem for p in find_sets(context.plugins_folder)]
    foreign = [stem for stem in stems if context.ledger.stem_owner(stem) is None]
    detail = "no other program's plugins are in the plugin folder"
    if foreign:
        detail = f"put there by hand, and not installed: {', '.join(foreign)}"
    yield Finding("foreign", ok=True, detail=detail)


def _check(context: Context, live: Generation) -> Iterator[Finding]:
    tree, ledger = context.tree, context.ledger
    flat = tree.flat_files(live.stem)
    sealed = [tree.folder(live) / path.name for path in flat]
    if not all(path.is_file() for path in sealed):
        return  # that is another check's
    wrong = [f for f, s in zip(flat, sealed, strict=True) if not _is_same(f, s)]
    if not wrong:
        installed = ledger.installed(live.plugin_id)
        if installed is None or not installed.projection_due:
            return
    ours = [tree.folder(g) for g in ledger.generations(live.plugin_id)]
    foreign = [
        path
        for path in wrong
        if os.path.lexists(path) and not any(_is_same(path, f / path.name) for f in ours)
    ]
    if foreign:
        yield Finding(
            "copies",
            ok=False,
            detail=f"{live.plugin_id}: {foreign[0]} was not put there by this agent: programs that "
            f"read it get other bytes than {live.version}, which serves here",
            fix=f"if nobody wants it, remove {foreign[0]}; agent doctor --fix puts {live.version} "
            "there then",
        )
        return
    yield Finding(
        "copies",
        ok=False,
        detail=f"{live.plugin_id}: the flat copies are not of {live.version}, which serves: "
        "missing, torn or of a release before",
        fix="agent doctor --fix copies them anew",
        mend=functools.partial(_project, context, live),
    )


def _project(context: Context, live: Generation) -> Sequence[str]:
    context.tree.project(live)
    context.ledger.projected(live.plugin_id, live.release)
    return ()


def _is_same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; what can't be read is like nothing."""
    try:
        if one.is_symlink() or not one.is_file() or one.stat().st_size != other.stat().st_size:
            return False
        with one.open("rb") as left, other.open("rb") as right:
            while chunk := left.read(_CHUNK_BYTES):
                if chunk != right.read(_CHUNK_BYTES):
                    return False
    except OSError:
        return False
    return True
