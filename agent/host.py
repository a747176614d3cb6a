"""``PluginHost``: config, trust, state and sandbox wired together, for programs that embed us.

Synchronous; use ``asyncio.to_thread``. All methods may be called from any thread.
"""

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from agent.context import Context, Options
from agent.errors import NotFoundError, UsageError, translated
from agent.serving.loading import Loader
from agent.serving.served import Served
from agent.serving.watch import Watch
from agent.telemetry import Telemetry, endpoint_of, log_record
from agent.tracing import traced_call
from sandbox import (
    CallError,
    CallResult,
    CapabilityDenied,
    GuestExit,
    PluginFiles,
    RegistrationError,
    find_sets,
)
from sandbox.admission import Isolation

if TYPE_CHECKING:
    from sandbox import LogRecord

_LOG = logging.getLogger("stack_composer.host")


class PluginHost:
    """Runs plugins under the operator's config, and follows their updates while it runs.

    Args:
        home: Everything under this folder instead of the user's (``--home``).
        config: A config file that replaces the user's and the system's.
        context: An installation that is wired already; ``home`` and ``config`` are ignored.
        on_log: Receives what plugins log; else the logger ``stack_composer.plugin``.
        stands_in: Load plugins that import other applications' functions as well; a call of
            one is ``unavailable``. Else such a plugin is refused.
        isolation: Where plugins run, whatever the config says; None = as it says, else inline.

    Raises:
        ConfigError: The config cannot be used.
    """

    def __init__(
        self,
        *,
        home: Path | None = None,
        config: Path | None = None,
        context: Context | None = None,
        on_log: "Callable[[LogRecord], None] | None" = None,
        stands_in: bool = False,
        isolation: Isolation | None = None,
    ) -> None:
        self._context = wired = context or Context(Options(home=home, config=config))
        self._owns_context = context is None
        self._telemetry = Telemetry(endpoint_of(wired.config.telemetry.endpoint, wired.environ))
        take = self._telemetry.logging(on_log or log_record)
        self._sandbox = wired.open_sandbox(on_log=take, stands_in=stands_in, isolation=isolation)
        self._watch = Watch(self._context, self._telemetry)
        self._loader = Loader(self._context, self._sandbox, self._watch, self._telemetry)
        self._served: dict[str, Served] = {}
        self._loading = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for running calls, write down what was counted, let go of everything."""
        with self._loading:
            for served in self._served.values():
                served.close()
            self._served.clear()
        self._watch.flush()
        self._sandbox.close()
        self._telemetry.close()
        if self._owns_context:
            self._context.close()

    # -- loading

    def register_host_function(
        self,
        function: Callable[..., object],
        *,
        name: str,
        capability: str,
        timeout_ms: int | None = None,
    ) -> None:
        """Let plugins call a function of this program; before the first plugin is loaded.

        Plugins import it as ``name`` from ``stack_composer_v1`` and get its result as they do
        a built-in's (contract §8). What it raises is ``err`` with the code ``failed`` to them
        and a traceback in the log; KeyboardInterrupt and its like come out of ``call_plugin``.

        It runs on threads of the sandbox's, on several at once where several calls run. One
        that hangs can't be stopped: the call ends at its deadline, the thread stays.

        Args:
            function: Its parameters are hinted ``str``, ``bytes``, ``int``, ``float`` or
                ``bool``, its result what JSON can carry, or None. Keyword-only parameters
                with a default are left to it.
            name: ``[a-z][a-z0-9_]*``, at most 64 characters, not ``host_…``.
            capability: What a plugin must request and be granted; a word of the same form
                that is none of the sandbox's own. Functions may share one.
            timeout_ms: After so many milliseconds the plugin gets ``err`` with the code
                ``timeout`` and goes on; None = it has what is left of the plugin's call.

        Raises:
            UsageError: A hint, the name or the word can't be used, the name is taken, or a
                plugin was loaded already.
        """
        try:
            self._sandbox.register(
                function, name=name, capability=capability, timeout_ms=timeout_ms
            )
        except RegistrationError as error:
            raise UsageError(str(error)) from error

    def load_plugin(self, path: str | Path) -> str:
        """Verify and load one plugin.

        Args:
            path: A bare file name (``hello-plugin.wasm``): the current release of that stem in
                the user's, then the system's plugin folder. With a ``/``: those very files,
                verified and run as they are, never installed or recorded.

        Returns:
            The plugin's id.

        Raises:
            NotFoundError: There is none.
            AgentError, sandbox.SandboxError: It was refused, or is broken.
        """
        text = str(path)
        name = Path(text).name
        stem = name.removesuffix(".toml") if name.endswith(".toml") else name.removesuffix(".wasm")
        if "/" in text:
            files = self._loader.read(Path(text).parent / f"{stem}.toml")
            return self._serve_bytes(files).plugin_id
        self._watch.adopt(stem=stem)
        # A ledger that was lost and made anew knows no stems; the tree does.
        owner = self._context.ledger.stem_owner(stem) or self._context.tree.serving_stem(stem)
        if owner is not None and (self._watch.current(owner) or self._watch.is_disabled(owner)):
            return self._load_installed(owner)
        manifest = self._context.system_folder / f"{stem}.toml"
        if not manifest.exists():
            raise NotFoundError(
                f"cannot find a plugin with the stem {stem} in {self._context.plugins_folder} "
                f"or {self._context.system_folder}",
                hint="agent list",
            )
        return self._serve_bytes(self._loader.read(manifest)).plugin_id

    def load_installed(self, plugin_id: str) -> str:
        """Load an installed plugin by its id: the user's, else the system's.

        Raises:
            NotFoundError: It is not installed.
            AgentError, sandbox.SandboxError: It was refused, or is broken.
        """
        self._watch.adopt((plugin_id,))
        return self._load_installed(plugin_id)

    def _load_installed(self, plugin_id: str) -> str:
        with self._loading:
            served = self._served.get(plugin_id)
            if served is None:
                self._watch.settle(plugin_id)
                if self._watch.is_disabled(plugin_id):
                    raise self._watch.missing(plugin_id)
                if self._watch.current(plugin_id) is None:
                    return self._serve_bytes(self._loader.find_system(plugin_id)).plugin_id
                self._served[plugin_id] = self._loader.serving(plugin_id)
            else:
                served.follow(now=True)
                if served.refused is not None:
                    raise served.refused.with_traceback(None)
        return plugin_id

    def discover(self) -> tuple[str, ...]:
        """Load all plugins of the user's and the system's folder.

        One that can't be loaded is logged and left out; it never keeps the others away.

        Returns:
            The ids that are loaded now.
        """
        self._watch.adopt()
        for plugin_id in self._context.tree.plugin_ids():
            self._try(plugin_id, functools.partial(self._load_installed, plugin_id))
        for manifest in find_sets(self._context.system_folder):
            self._try(str(manifest), functools.partial(self._serve_system_set, manifest))
        return tuple(sorted(self._served))

    def _try(self, what: str, load: Callable[[], object]) -> None:
        try:
            load()
        except Exception as error:
            if translated(error) is None:
                raise
            _LOG.warning("cannot load %s: %s", what, error)

    def _serve_system_set(self, manifest: Path) -> None:
        files = self._loader.read(manifest)
        plugin_id = self._context.parse_manifest(files.manifest, manifest.name).id
        # The user's copy of an id shadows the system's, even one that is refused or disabled.
        if self._context.tree.current(plugin_id) is None and not self._watch.is_disabled(plugin_id):
            self._serve_bytes(files)

    def _serve_bytes(self, files: PluginFiles) -> Served:
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

    # -- calling

    def logs(self, plugin: str) -> "tuple[LogRecord, ...]":
        """What a plugin logged lately, oldest first: a thousand records at most."""
        return self._sandbox.logs(plugin)

    def call_plugin(
        self,
        function: str | None = None,
        args: Sequence[str | int | float | bytes] = (),
        *,
        plugin: str | None = None,
    ) -> str | int | float | bytes | None:
        """Call a function of a plugin and return its result.

        Args:
            function: Its name; None = the manifest's ``entry``.
            args: Its arguments, as its signature says.
            plugin: The plugin's id; may be left out while one is loaded.

        Raises:
            NotFoundError: No such plugin is loaded.
            sandbox.CallError: The call ended badly: ``FuelExhausted``, ``MemoryExceeded``,
                ``DeadlineExceeded``, ``GuestTrap``, ``CapabilityDenied``, ``GuestExit``.
            sandbox.MissingExport, sandbox.ArgumentError: It could not begin.
        """
        return self.call(function, args, plugin=plugin).value

    def call(
        self,
        function: str | None = None,
        args: Sequence[str | int | float | bytes] = (),
        *,
        plugin: str | None = None,
    ) -> CallResult:
        """Like ``call_plugin``, with the fuel, memory and time that the call took."""
        served = self._find(plugin)
        unloadable = served.follow()
        if unloadable is not None:
            self._watch.unloadable(served, unloadable)
        if served.refused is not None:
            raise served.refused.with_traceback(None)
        with served.slot.lease() as leased:
            try:
                result = traced_call(self._telemetry, leased, function, args)
            except CallError as error:
                is_fault = not isinstance(error, CapabilityDenied | GuestExit)
                self._watch.record(served, leased.release, failed=is_fault)
                raise
        self._watch.record(served, leased.release, failed=False)
        return result

    def _find(self, plugin: str | None) -> Served:
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
