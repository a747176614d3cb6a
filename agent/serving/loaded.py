"""The plugins of one host: which are loaded, and how they come to be."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.context import Context
from agent.errors import NotFoundError, UsageError, translated
from agent.serving.loading import Loader
from agent.serving.served import Served
from agent.serving.watch import Watch
from sandbox import PluginFiles, find_sets

_LOG = logging.getLogger("stack_composer.host")


class Loaded:
    """All methods may be called from any thread.

    Args:
        context: The installation.
        loader: Brings them.
        watch: Knows what should serve.
    """

    def __init__(self, context: Context, loader: Loader, watch: Watch) -> None:
        self._context = context
        self._loader = loader
        self._watch = watch
        self._served: dict[str, Served] = {}
        self._unloadable: dict[str, str] = {}
        self._loading = threading.RLock()

    def close(self, drain_s: float) -> None:
        """Wait for running calls, so long at most, and let go of all."""
        until_s = time.monotonic() + drain_s
        with self._loading:
            for served in self._served.values():
                served.close(max(0.0, until_s - time.monotonic()))
            self._served.clear()

    def stem(self, stem: str) -> str:
        """Load the current release of a stem; see ``PluginHost.load_plugin``."""
        self._watch.adopt(stem=stem)
        # A ledger that was lost and made anew knows no stems; the tree does.
        owner = self._context.ledger.stem_owner(stem) or self._context.tree.serving_stem(stem)
        if owner is not None and (self._watch.current(owner) or self._watch.is_disabled(owner)):
            return self.installed(owner)
        manifest = self._context.system_folder / f"{stem}.toml"
        if not manifest.exists():
            raise NotFoundError(
                f"cannot find a plugin with the stem {stem} in {self._context.plugins_folder} "
                f"or {self._context.system_folder}",
                hint="agent list",
            )
        return self._serve(self._loader.read(manifest)).plugin_id

    def installed(self, plugin_id: str) -> str:
        """Load an installed plugin, or have one that is loaded look again; see ``PluginHost``."""
        with self._loading:
            served = self._served.get(plugin_id)
            if served is None:
                self._watch.settle(plugin_id)
                if self._watch.is_disabled(plugin_id):
                    raise self._watch.missing(plugin_id)
                if self._watch.current(plugin_id) is None:
                    return self._serve(self._loader.find_system(plugin_id)).plugin_id
                self._served[plugin_id] = self._loader.serving(plugin_id)
            else:
                unloadable = served.follow(now=True)
                if unloadable is not None:
                    self._watch.unloadable(served, unloadable)
                if served.refused is not None:
                    raise served.refused.with_traceback(None)
        return plugin_id

    def files_at(self, manifest: Path) -> str:
        """Load these very files, which are neither installed nor recorded."""
        return self._serve(self._loader.read(manifest)).plugin_id

    def all(self) -> tuple[str, ...]:
        """Load what lies in the user's and the system's folder; see ``PluginHost.discover``."""
        for plugin_id in self._context.tree.plugin_ids():
            self._try(plugin_id, functools.partial(self.installed, plugin_id))
        for manifest in find_sets(self._context.system_folder):
            self._try(str(manifest), functools.partial(self._serve_system_set, manifest))
        return self.ids()

    def ids(self) -> tuple[str, ...]:
        """What is loaded, sorted."""
        return tuple(sorted(self._served))

    def problem(self, plugin_id: str) -> str | None:
        """Why calls of a plugin are refused now; None where they are not."""
        served = self._served.get(plugin_id)
        if served is None:
            return self._unloadable.get(plugin_id, "it is not loaded")
        return None if served.refused is None else str(served.refused)

    def version(self, plugin_id: str) -> str | None:
        """The version that is loaded of a plugin; None where none is."""
        served = self._served.get(plugin_id)
        return None if served is None else served.slot.current.manifest.version

    def find(self, plugin: str | None) -> Served:
        """The plugin of an id; None = the only one that is loaded.

        Raises:
            NotFoundError: No such plugin is loaded.
            UsageError: There is more than one to choose from, or none.
        """
        if plugin is None:
            if len(self._served) != 1:
                loaded = ", ".join(sorted(self._served)) or "none"
                raise UsageError(f"cannot choose a plugin: loaded are {loaded}; name one")
            return next(iter(self._served.values()))
        served = self._served.get(plugin)
        if served is None:
            raise NotFoundError(
                f"cannot call {plugin}: it is not loaded", hint="load_plugin() or discover() first"
            )
        return served

    def _try(self, what: str, load: Callable[[], object]) -> None:
        self._unloadable.pop(what, None)
        try:
            load()
        except Exception as error:
            if translated(error) is None:
                raise
            self._unloadable[what] = str(error)
            _LOG.warning("cannot load %s: %s", what, error)

    def _serve_system_set(self, manifest: Path) -> None:
        files = self._loader.read(manifest)
        plugin_id = self._context.parse_manifest(files.manifest, manifest.name).id
        # The user's copy of an id shadows the system's, even one that is refused or disabled.
        if self._context.tree.current(plugin_id) is None and not self._watch.is_disabled(plugin_id):
            self._serve(files)

    def _serve(self, files: PluginFiles) -> Served:
        if files.folder == self._context.system_folder:
            # By whatever name it is asked for: the system's copy of what the user disabled.
            plugin_id = self._context.parse_manifest(files.manifest, files.stem).id
            if self._watch.is_disabled(plugin_id):
                raise self._watch.missing(plugin_id)
        with self._loading:
            served = self._loader.from_files(files)
            previous = self._served.get(served.plugin_id)
            self._served[served.plugin_id] = served
        if previous is not None:
            previous.close()
        return served
