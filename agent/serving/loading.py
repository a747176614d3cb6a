"""From what lies in a plugin tree to a live handle: found, read, verified, loaded."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.context import Context
from agent.errors import FormatError, NotFoundError, PolicyError
from agent.serving.served import Served
from agent.serving.watch import Watch
from agent.telemetry import Telemetry
from sandbox import PluginFiles, SandboxError, Slot, find_sets, read_set

if TYPE_CHECKING:
    from sandbox import Plugin, Sandbox

_LOG = logging.getLogger("stack_composer.host")
_LOOK_AGAIN = 3


class Loader:
    """Loads plugins for one host.

    Args:
        context: The installation.
        sandbox: Verifies and compiles.
        watch: Leaves a trial whose release can't be loaded.
        telemetry: Where the spans of loads go.
        on_load: Is told the id of an installed plugin before a release of it is loaded.
    """

    def __init__(
        self,
        context: Context,
        sandbox: "Sandbox",
        watch: Watch,
        telemetry: Telemetry,
        on_load: Callable[[str], object] | None = None,
    ) -> None:
        self._context = context
        self._sandbox = sandbox
        self._watch = watch
        self._telemetry = telemetry
        self._on_load = on_load

    def from_files(self, files: PluginFiles) -> Served:
        """Load bytes at hand, which never change.

        Those of the system's folder serve until the user's copy of the plugin is disabled: it
        may have come since.

        Raises:
            AgentError, sandbox.SandboxError: They are refused.
        """
        plugin = self._load(files)
        plugin_id, name = plugin.manifest.id, plugin.release
        if files.folder != self._context.system_folder:
            return Served(plugin_id, Slot(plugin), name=name)
        return Served(
            plugin_id,
            Slot(plugin),
            name=name,
            where=lambda: None if self._watch.is_disabled(plugin_id) else name,
            missing=functools.partial(self._watch.missing, plugin_id),
        )

    def read(self, manifest: Path) -> PluginFiles:
        """Read the set of a manifest.

        Raises:
            sandbox.SandboxError: A file is missing, too long, or can't be read.
        """
        return read_set(manifest, max_module_bytes=self._context.config.sandbox.max_module_bytes)

    def find_system(self, plugin_id: str) -> PluginFiles:
        """Read the files of a plugin in the system's folder.

        Raises:
            NotFoundError: It is not there either.
        """
        for manifest in find_sets(self._context.system_folder):
            try:
                files = self.read(manifest)
                found = self._context.parse_manifest(files.manifest, manifest.name).id
            except SandboxError as error:
                _LOG.warning("cannot read %s: %s", manifest, error)
                continue
            if found == plugin_id:
                return files
        raise NotFoundError(
            f"cannot find {plugin_id}: it is not installed", hint=f"agent pull {plugin_id}"
        )

    def serving(self, plugin_id: str) -> Served:
        """Load what serves; where a trial's release can't be loaded, go back and load that.

        Raises:
            NotFoundError: Nothing serves.
            PolicyError: It is disabled.
            AgentError, sandbox.SandboxError: What serves is refused, or is broken.
        """
        where = functools.partial(self._watch.current, plugin_id)
        missing = functools.partial(self._watch.missing, plugin_id)
        load = functools.partial(self.generation, plugin_id)
        terms = functools.partial(self._watch.terms, plugin_id)
        for _attempt in range(_LOOK_AGAIN):
            name = where()
            if name is None:
                break
            try:
                slot = Slot(load(name))
            except Exception as error:
                self._watch.give_up_trial(plugin_id, name, error)
                # Gone back, or another agent flipped or pruned meanwhile: look again.
                if where() == name:
                    raise
                continue
            return Served(
                plugin_id,
                slot,
                name=name,
                where=where,
                load=load,
                terms=terms,
                missing=missing,
            )
        raise missing()

    def generation(self, plugin_id: str, name: str) -> "Plugin":
        """Load a sealed generation; what lies there must be what its name says.

        Raises:
            FormatError: It is another release, or none.
            PolicyError: Its module is larger than this host compiles.
            AgentError, sandbox.SandboxError: It is refused.
        """
        if self._on_load is not None:
            self._on_load(plugin_id)
        folder = self._context.tree.named(plugin_id, name)
        maximum = self._context.config.sandbox.max_module_bytes
        manifests = find_sets(folder)
        if not manifests:
            raise FormatError(
                f"cannot load {plugin_id}: {folder} holds no whole plugin",
                hint=f"agent rollback {plugin_id}",
            )
        size = manifests[0].with_suffix(".wasm").stat().st_size
        if size > maximum:
            raise PolicyError(
                f"cannot load {plugin_id}: its module has {size} bytes, expected ≤ {maximum}",
                reason="module-size",
                hint="raise sandbox.max_module_bytes",
            )
        plugin = self._load(self.read(manifests[0]), plugin_id)
        found = f"{plugin.manifest.version}-{plugin.release[:12]}"
        if (plugin.manifest.id, found) != (plugin_id, name):
            plugin.close()
            raise FormatError(
                f"cannot load {plugin_id}: {folder} holds {plugin.manifest.id} {found}",
                hint=f"agent rollback {plugin_id}",
            )
        return plugin

    def _load(self, files: PluginFiles, plugin_id: str | None = None) -> "Plugin":
        known = {} if plugin_id is None else {"plugin_id": plugin_id}
        with self._telemetry.span("plugin.load", **known) as span:
            plugin = self._sandbox.load(files)
            span.set_attribute("plugin.id", plugin.manifest.id)
            span.set_attribute("plugin.version", plugin.manifest.version)
            span.set_attribute("plugin.release", plugin.release)
        return plugin
