"""The plugin tree against the ledger: what serves, what is sealed, and what the ledger says."""

import functools
import os
import stat
from collections.abc import Iterator, Sequence

from agent.context import Context
from agent.doctor.finding import Finding
from agent.model import Generation
from agent.pipeline.admission import problem_of
from agent.tree.effects import NOTHING_GOOD
from agent.tree.pruning import prunable_ids
from agent.tree.reader import STORE
from agent.tree.rebuild import rebuild_one
from agent.tree.remembering import recall, remember
from agent.verbs.inventory import is_whole
from agent.verbs.own import disabled_ids

_WRITABLE = 0o222
_SEALED_FILE = 0o444
_SEALED_FOLDER = 0o555


def check_serving(context: Context) -> Iterator[Finding]:
    """Whether what serves is in the ledger, whole, and believed; each plugin by itself."""
    wrong = 0
    for plugin_id in sorted({*context.tree.homes(), *context.ledger.plugin_ids()}):
        for finding in _check_serving(context, plugin_id):
            wrong += 1
            yield finding
    if not wrong:
        served = len(context.tree.plugin_ids())
        yield Finding(
            "serving", ok=True, detail=f"plugins that serve, whole and believed: {served}"
        )


def check_generations(context: Context) -> Iterator[Finding]:
    """Whether every sealed release that the ledger knows is there and whole, and no other is."""
    told = 0
    for plugin_id in sorted({*context.tree.homes(), *context.ledger.plugin_ids()}):
        for finding in _check_generations(context, plugin_id):
            told += 1
            yield finding
    for path in context.tree.foreign():
        told += 1
        yield Finding(
            "releases",
            ok=True,
            detail=f"{path} is not the plugin tree's: it is neither followed nor removed",
            fix="move it away, if nobody needs it there",
        )
    if not told:
        yield Finding("releases", ok=True, detail="the sealed releases are as the ledger has them")


def check_memories(context: Context) -> Iterator[Finding]:
    """Whether what must outlive a lost ledger is in the tree."""
    wrong = 0
    for plugin_id in sorted({*context.tree.homes(), *context.ledger.remembered_ids()}):
        known, written = context.ledger.memory(plugin_id), recall(context.tree, plugin_id)
        if known == written:
            continue
        wrong += 1
        if context.ledger.is_behind(plugin_id, written):
            yield Finding(
                "memory",
                ok=False,
                detail=f"{plugin_id}: the tree knows more than the ledger, which could not be "
                "written then, or of which an older copy was put back: nothing is changed, so that "
                "nothing comes back that was rejected, stopped or denied since",
                fix="agent doctor --fix takes up what the tree knows, and verifies each release "
                "again",
                mend=functools.partial(_take, context, plugin_id),
            )
            continue
        yield Finding(
            "memory",
            ok=False,
            detail=f"{plugin_id}: its floor, rejections and decisions beside the ledger are not up "
            "to date: they would be lost with it",
            fix="agent doctor --fix writes them",
            mend=functools.partial(_remember, context, plugin_id),
        )
    if not wrong:
        yield Finding(
            "memory", ok=True, detail="floors, rejections and decisions have their second place"
        )


def _check_serving(context: Context, plugin_id: str) -> Iterator[Finding]:
    tree, activation = context.tree, context.activation
    current, live = tree.current(plugin_id), activation.live(plugin_id)
    installed = context.ledger.installed(plugin_id)
    home = tree.root / STORE / plugin_id
    link = home / "current"
    if tree.is_away(plugin_id):
        yield Finding(
            "serving",
            ok=False,
            detail=f"{plugin_id}: {home} is a link, expected a folder: nothing serves",
            fix=f"move {home} away and put the folder there, or agent pull {plugin_id}",
        )
    elif current is None and os.path.lexists(link):
        yield Finding(
            "serving",
            ok=False,
            detail=f"{plugin_id}: {link} is no link to a sealed release: nothing serves",
            fix=f"move {link} away, then agent doctor --fix",
        )
    elif live is None and current is not None and (installed is None or installed.good is None):
        yield Finding(
            "serving",
            ok=False,
            detail=f"{plugin_id}: {current} serves, and the ledger does not know it: it can be "
            "neither updated nor rolled back",
            fix="agent doctor --fix verifies it again and takes it, or go on with agent pull "
            f"{plugin_id}",
            mend=functools.partial(_take, context, plugin_id),
        )
    elif activation.is_unfinished(plugin_id):
        yield Finding(
            "serving",
            ok=False,
            detail=f"{plugin_id}: a run ended in the middle, or is at work just now",
            fix="agent doctor --fix finishes or undoes it, as the next update would",
            mend=functools.partial(_recover, context, plugin_id),
        )
    elif live is not None and not is_whole(context, live):
        yield Finding(
            "serving",
            ok=False,
            detail=f"{plugin_id}: the sealed files of {live.version}, which serves, are missing or "
            "were changed: hosts refuse it",
            fix="agent doctor --fix goes back to the last good release that is whole, if there is "
            f"one; then agent pull {plugin_id}",
            mend=functools.partial(_leave, context, live),
        )
    elif live is not None and (problem := problem_of(context, live)) is not None:
        yield Finding(
            "serving",
            ok=False,
            detail=f"{plugin_id}: {problem}; hosts refuse it",
            fix=f"agent update {plugin_id}, agent rollback {plugin_id}, or change the trust store",
        )


def _check_generations(context: Context, plugin_id: str) -> Iterator[Finding]:
    if context.tree.is_away(plugin_id):
        return  # told as serving
    rows = {g.folder_name: g for g in context.ledger.generations(plugin_id)}
    current = context.tree.current(plugin_id)
    fix = f"agent prune {plugin_id} removes it"
    if plugin_id not in prunable_ids(context):
        home = context.tree.root / STORE / plugin_id
        fix = f"agent doctor --fix takes what can be taken; else move {home} away"
    for name in context.tree.generations(plugin_id):
        folder = context.tree.named(plugin_id, name)
        generation = rows.pop(name, None)
        if generation is None:
            if name != current:
                yield Finding(
                    "releases",
                    ok=True,
                    detail=f"{plugin_id}: the ledger does not know {folder}: it is in nobody's "
                    "way, and takes room",
                    fix=fix,
                )
            continue
        if name != current and not is_whole(context, generation):
            yield Finding(
                "releases",
                ok=False,
                detail=f"{plugin_id}: the sealed files of {generation.version} were changed: there "
                "is no way back to it",
                fix="agent doctor --fix forgets it; agent prune removes it",
                mend=functools.partial(_forget, context, generation),
            )
        elif any(stat.S_IMODE(p.lstat().st_mode) & _WRITABLE for p in (folder, *folder.iterdir())):
            yield Finding(
                "releases",
                ok=False,
                detail=f"{plugin_id}: {folder} is not sealed: a program may change it by accident",
                fix="agent doctor --fix makes it read only again",
                mend=functools.partial(_seal, context, generation),
            )
    for name, generation in rows.items():
        if name != current:
            yield Finding(
                "releases",
                ok=False,
                detail=f"{plugin_id}: the sealed files of {generation.version} are gone: there is "
                "no way back to it",
                fix="agent doctor --fix forgets it",
                mend=functools.partial(_forget, context, generation),
            )


# -- what --fix does


def _take(context: Context, plugin_id: str) -> Sequence[str]:
    return rebuild_one(context, plugin_id).problems


def _recover(context: Context, plugin_id: str) -> Sequence[str]:
    context.activation.recover_one(plugin_id)
    return ()


def _leave(context: Context, broken: Generation) -> Sequence[str]:
    """Go back to the latest committed release that could serve; where none could, to nothing."""
    ledger, plugin_id = context.ledger, broken.plugin_id
    rejected = ledger.rejections(plugin_id)
    ways = [
        g
        for g in ledger.generations(plugin_id)
        if g.committed_at is not None
        and g.release not in {broken.release, *rejected}
        and problem_of(context, g) is None
    ]
    target = max(ways, key=lambda g: g.committed_at or 0, default=None)
    was_disabled = plugin_id in disabled_ids(context)
    good = f"{target.version} is good now" if target else "nothing of it is good now"
    _tell_forgotten(context, broken, f"; {good}")
    ledger.serve_instead(plugin_id, target.release if target else None)
    context.activation.recover_one(plugin_id)
    ledger.forget_generation(plugin_id, broken.release)
    remember(ledger, context.tree, plugin_id)
    pull, enable = f"agent pull {plugin_id}", f"agent enable {plugin_id}"
    if target is None:
        told = f"{NOTHING_GOOD}: {enable}, then {pull}"
        return (f"{plugin_id}: {told if was_disabled else f'nothing serves now: {pull}'}",)
    told = f"is what {enable} brings back" if was_disabled else "serves now"
    return (f"{plugin_id}: {target.version} {told}",)


def _forget(context: Context, generation: Generation) -> Sequence[str]:
    plugin_id = generation.plugin_id
    installed = context.ledger.installed(plugin_id)
    is_good = installed is not None and installed.good == generation.release
    if is_good and plugin_id in disabled_ids(context):
        # It is what enabling would bring back.
        return _leave(context, generation)
    _tell_forgotten(context, generation)
    context.ledger.forget_generation(generation.plugin_id, generation.release)
    remember(context.ledger, context.tree, generation.plugin_id)
    return ()


def _tell_forgotten(context: Context, generation: Generation, then: str = "") -> None:
    why = f"its sealed files are missing or were changed{then}"
    context.audit.release("forgotten", generation, why, required=False)


def _seal(context: Context, generation: Generation) -> Sequence[str]:
    folder = context.tree.folder(generation)
    for path in folder.iterdir():
        context.files.seal_folder(path, mode=_SEALED_FILE)
    context.files.seal_folder(folder, mode=_SEALED_FOLDER)
    return ()


def _remember(context: Context, plugin_id: str) -> Sequence[str]:
    remember(context.ledger, context.tree, plugin_id)
    return ()
