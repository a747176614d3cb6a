"""``PluginHost``: config, trust, state and sandbox wired together, for programs that embed us.

Synchronous; use ``asyncio.to_thread``. All methods may be called from any thread.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from agent.context import Context, Options
from agent.errors import UsageError
from agent.serving.loaded import Loaded
from agent.serving.loading import Loader
from agent.serving.served import DRAIN_S, Served
from agent.serving.watch import Watch
from agent.telemetry import Telemetry, endpoint_of, log_record
from agent.tracing import traced_call
from sandbox import (
    ArgumentError,
    CallError,
    CallResult,
    CapabilityDenied,
    GuestExit,
    LogRecord,
    RegistrationError,
    UnhealthyError,
)
from sandbox.admission import Isolation

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
        telemetry: Where spans, figures and log records go, left open; None = as the config says.
        on_load: Is told the id of an installed plugin before a release of it is loaded.

    Raises:
        ConfigError: The config cannot be used.
    """

    def __init__(
        self,
        *,
        home: Path | None = None,
        config: Path | None = None,
        context: Context | None = None,
        on_log: Callable[[LogRecord], None] | None = None,
        stands_in: bool = False,
        isolation: Isolation | None = None,
        telemetry: Telemetry | None = None,
        on_load: Callable[[str], object] | None = None,
    ) -> None:
        self._context = wired = context or Context(Options(home=home, config=config))
        endpoint = endpoint_of(wired.config.telemetry.endpoint, wired.environ)
        self._telemetry = telemetry or Telemetry(endpoint)
        self._own = [o for o, lent in ((self._telemetry, telemetry), (wired, context)) if not lent]
        take = self._telemetry.logging(on_log or log_record)
        self._sandbox = wired.open_sandbox(on_log=take, stands_in=stands_in, isolation=isolation)
        self._watch = Watch(self._context, self._telemetry)
        loader = Loader(self._context, self._sandbox, self._watch, self._telemetry, on_load)
        self._loaded = Loaded(self._context, loader, self._watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, drain_s: float = DRAIN_S) -> None:
        """Wait for running calls, write down what was counted, let go of everything.

        Args:
            drain_s: How long calls are waited for, those of all plugins together.
        """
        self._loaded.close(drain_s)
        self._watch.flush()
        self._sandbox.close()
        for owned in self._own:
            owned.close()

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
            return self._loaded.files_at(Path(text).parent / f"{stem}.toml")
        return self._loaded.stem(stem)

    def load_installed(self, plugin_id: str) -> str:
        """Load an installed plugin by its id: the user's, else the system's.

        Raises:
            NotFoundError: It is not installed.
            AgentError, sandbox.SandboxError: It was refused, or is broken.
        """
        self._watch.adopt((plugin_id,))
        return self._loaded.installed(plugin_id)

    def discover(self) -> tuple[str, ...]:
        """Load all plugins of the user's and the system's folder.

        One that can't be loaded is logged and left out; it never keeps the others away.

        Returns:
            The ids that are loaded now.
        """
        self._watch.adopt()
        return self._loaded.all()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The ids that are loaded now, sorted."""
        return self._loaded.ids()

    def problem(self, plugin: str) -> str | None:
        """Why calls of a plugin are refused now; None where they are not."""
        return self._loaded.problem(plugin)

    def version(self, plugin: str) -> str | None:
        """The version of a plugin that is loaded; None where it is not."""
        return self._loaded.version(plugin)

    # -- calling
    def is_loaded(self, plugin: str) -> bool:
        """Whether calls of a plugin find it; what serves may be refused all the same."""
        return plugin in self._loaded.ids()

    def logs(self, plugin: str) -> tuple[LogRecord, ...]:
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
        served = self._current(plugin)
        with served.slot.lease() as leased:
            try:
                result = traced_call(self._telemetry, leased, function, args)
            except CallError as error:
                is_fault = not isinstance(error, CapabilityDenied | GuestExit)
                self._watch.record(served, leased.release, failed=is_fault)
                raise
        self._watch.record(served, leased.release, failed=False)
        return result

    def check_health(self, plugin: str) -> bool | None:
        """Call a plugin's ``[health]`` as its probe did; in a trial a failed one ends it.

        Returns:
            Whether it is healthy; None where its manifest names no health call.

        Raises:
            NotFoundError: No such plugin is loaded.
            AgentError, sandbox.SandboxError: It could not be asked: nothing serves, it is no
                longer believed, or the call is denied.
        """
        served = self._current(plugin)
        with served.slot.lease() as leased:
            if leased.manifest.health is None:
                return None
            try:
                leased.probe()
            except CapabilityDenied:
                raise
            except (CallError, ArgumentError, UnhealthyError) as error:
                _LOG.warning("%s %s: %s", plugin, leased.manifest.version, error)
                self._watch.record(served, leased.release, failed=True, health=True)
                return False
        self._watch.record(served, leased.release, failed=False)
        return True

    def _current(self, plugin: str | None) -> Served:
        """The plugin as it should serve now; raises why it must not."""
        served = self._loaded.find(plugin)
        unloadable = served.follow()
        if unloadable is not None:
            self._watch.unloadable(served, unloadable)
        if served.refused is not None:
            raise served.refused.with_traceback(None)
        return served
