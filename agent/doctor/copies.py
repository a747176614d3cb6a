"""The flat files beside the store: our copies of what serves, and what others put there."""

import functools
import os
from collections.abc import Iterator, Sequence

from agent.context import Context
from agent.doctor.finding import Finding
from agent.errors import PolicyError
from agent.model import Generation, Kind
from agent.pipeline.dropins import DropIns
from agent.telemetry import Telemetry
from agent.tree.flat_files import same_bytes


def check_copies(context: Context) -> Iterator[Finding]:
    """Whether the flat copies hold what serves."""
    wrong = 0
    for plugin_id in context.tree.plugin_ids():
        live = context.activation.live(plugin_id)
        if live is None or not _are_due(context, live):
            continue
        wrong += 1
        yield Finding(
            "copies",
            ok=False,
            detail=f"{plugin_id}: the flat copies are not of {live.version}, which serves: "
            "missing, torn or of a release before",
            fix="agent doctor --fix copies them anew",
            mend=functools.partial(_project, context, plugin_id),
        )
    if not wrong:
        yield Finding("copies", ok=True, detail="the flat copies hold what serves")


def check_drop_ins(context: Context) -> Iterator[Finding]:
    """What others put into the plugin folder, and what becomes of it."""
    told = 0
    for outcome in DropIns(context, Telemetry("")).foresee():
        live = context.activation.live(outcome.plugin_id)
        if live is not None and _are_due(context, live):
            continue  # told as copies
        told += 1
        if outcome.kind is Kind.PLANNED:
            yield Finding(
                "drop-ins",
                ok=True,
                detail=f"{outcome.plugin_id}: {outcome.after} was put there as files, and waits",
                fix="agent update takes it",
            )
            continue
        if isinstance(outcome.error, PolicyError) and outcome.error.reason == "disabled":
            yield Finding(
                "drop-ins",
                ok=True,
                detail=f"{outcome.plugin_id}: {outcome.after} was put there as files, and waits: "
                "the plugin is disabled",
                fix=f"move the files elsewhere, agent enable {outcome.plugin_id} (its copies come "
                "in their place), put them back, agent update",
            )
            continue
        serves = f"; {live.version} serves, and other programs read those files" if live else ""
        hint = outcome.error.hint if outcome.error is not None else None
        yield Finding(
            "drop-ins",
            ok=False,
            detail=f"{outcome.plugin_id}: files that were put there are not taken: "
            f"{outcome.detail}{serves}",
            fix=hint or "remove them, or put a release there that is signed by somebody you trust",
        )
    if not told:
        yield Finding("drop-ins", ok=True, detail="nobody put other plugins into the folder")


def _are_due(context: Context, live: Generation) -> bool:
    """Whether the copies of what serves are missing, torn, or of another of its releases."""
    tree, ledger = context.tree, context.ledger
    flat = tree.flat_files(live.stem)
    if not all((tree.folder(live) / path.name).is_file() for path in flat):
        return False  # that is another check's
    wrong = [path for path in flat if not same_bytes(path, tree.folder(live) / path.name)]
    if not wrong:
        installed = ledger.installed(live.plugin_id)
        return installed is not None and installed.projection_due
    ours = [tree.folder(generation) for generation in ledger.generations(live.plugin_id)]
    return not any(
        os.path.lexists(path) and not any(same_bytes(path, sealed / path.name) for sealed in ours)
        for path in wrong
    )


def _project(context: Context, plugin_id: str) -> Sequence[str]:
    context.ledger.project_again(plugin_id)
    context.activation.recover_one(plugin_id)
    return ()
