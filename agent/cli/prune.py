"""prune: old releases, compiled code and cached blobs that nobody needs any more."""

import contextlib
from collections.abc import Mapping, Sequence

import click

from agent.cli.app import App, dry_run_flag, format_flag, plugin_id_type, verb
from agent.cli.dropins import take_drop_ins
from agent.cli.output import sizes
from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import AgentError, NotFoundError, translated
from agent.model import Kind
from agent.pipeline.settling import refuse_strangers
from agent.tree.pruning import Pruned, prunable, prunable_ids, prune, prune_compiled
from agent.tree.remembering import refuse_behind
from registry import CacheEntry
from registry.cache_folder import CacheFolder


@verb(name="prune", examples="agent prune --dry-run\nagent prune --cache")
@click.argument("plugins", metavar="[ID]...", nargs=-1, type=plugin_id_type)
@click.option("--cache", "empty_cache", is_flag=True, help="Empty the cache of blobs.")
@dry_run_flag
@format_flag
def prune_command(app: App, plugins: tuple[str, ...], *, empty_cache: bool, dry_run: bool) -> None:
    """Remove old releases: all but what serves, what a trial goes back to, and update.keep more.

    And of the cache what exceeds registry.max_cache_bytes, what was not used for longest first;
    with --cache all of it.
    """
    context = app.context
    refuse_strangers(context)
    if not dry_run:
        take_drop_ins(app, plugins or None)
    known = prunable_ids(context)
    for plugin_id in plugins:
        if plugin_id not in known:
            raise NotFoundError(
                f"cannot prune {plugin_id}: it was never installed", hint="agent list"
            )
    ids = plugins or known
    gone: list[Pruned] = []
    failed: dict[str, AgentError] = {}
    with contextlib.ExitStack() as held:
        if not dry_run:
            held.enter_context(context.tree.lock(timeout_s=LOCK_TIMEOUT_S))
        for plugin_id in ids:
            try:
                gone += _pruned(context, plugin_id, dry_run=dry_run)
            except Exception as error:
                cause = translated(error)
                if cause is None:
                    raise
                failed[plugin_id] = cause
    if not dry_run:
        prune_compiled(context)
    blobs = _cleared(context.registries.cache.folder, is_all=empty_cache, dry_run=dry_run)
    _tell(app, gone, failed, blobs, dry_run=dry_run)
    for cause in failed.values():
        app.out.error(cause.code, cause.message, cause.hint)
    app.end_with([failed[one].exit_code if one in failed else 0 for one in ids])


def _cleared(cache: CacheFolder, *, is_all: bool, dry_run: bool) -> Sequence[CacheEntry]:
    if is_all:
        return cache.entries() if dry_run else cache.empty()
    return cache.surplus() if dry_run else cache.trim()


def _pruned(context: Context, plugin_id: str, *, dry_run: bool) -> tuple[Pruned, ...]:
    if dry_run:
        refuse_behind(context.ledger, context.tree, plugin_id)
        return prunable(context, plugin_id)
    context.activation.recover_one(plugin_id)
    return prune(context, plugin_id)


def _tell(
    app: App,
    gone: Sequence[Pruned],
    failed: Mapping[str, AgentError],
    blobs: Sequence[CacheEntry],
    *,
    dry_run: bool,
) -> None:
    if app.out.as_json:
        app.out.document(
            removed=[
                {
                    "id": one.plugin_id,
                    "version": one.version,
                    "release": one.release,
                    "name": one.name,
                }
                for one in gone
            ],
            failed=[
                {"id": plugin_id, "outcome": Kind.FAILED.value, "detail": cause.message}
                for plugin_id, cause in failed.items()
            ],
            cached=[{"digest": one.digest, "size_bytes": one.size_bytes} for one in blobs],
        )
        return
    word = "would remove" if dry_run else "removed"
    for release in gone:
        what = release.version or f"{release.name}, which the ledger does not know"
        app.out.line(f"{word} {release.plugin_id} {what}")
    if blobs:
        total_bytes = sum(one.size_bytes for one in blobs)
        app.out.line(f"{word} {sizes(total_bytes)} of the cache, blobs: {len(blobs)}")
    if not gone and not blobs and not failed:
        app.out.message("nothing to remove")
