"""The door: load = verify → format → compile or cache → import check → plugin."""

import logging
import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.admission import Admission
from sandbox.allowance import Allowance
from sandbox.aot import Files
from sandbox.builds import Builds, ForeignCode
from sandbox.deadline import Watchdog
from sandbox.discovery import MAX_MODULE_BYTES, PluginFiles
from sandbox.errors import SandboxError
from sandbox.exports import signatures
from sandbox.hostfuncs import border
from sandbox.hostfuncs.custom import HostFunction
from sandbox.hostfuncs.installed import bring
from sandbox.hostfuncs.table import FunctionTable, bodies
from sandbox.inline import InlineRunner, Runtime
from sandbox.log import LogRecord
from sandbox.logs import PluginLogs
from sandbox.manifest import PluginManifest
from sandbox.module import check_imports
from sandbox.offmain import OffMain
from sandbox.plugin import Plugin
from sandbox.runner import Runner
from sandbox.shape import Import
from sandbox.token import Token
from sandbox.truth import notes
from sandbox.worker import Surroundings, Worker

if TYPE_CHECKING:
    from sandbox.isolate.quarters import Quarters

__all__ = ["Admission", "Sandbox"]

_LOG = logging.getLogger("stack_composer.sandbox")

_SETTING_PREFIX = "SC_SETTING_"


class Sandbox:
    """Loads plugins and runs them, in this process or in children.

    Args:
        verify: Says what the operator lets the plugin do, or raises its own error, which
            passes through ``load`` as it is.
        parse: ``parse(manifest_bytes, file_name)``; see ``parse_manifest``.
        cache_dir: Where compiled code is kept, in a folder of its own; None = nowhere.
        files: Writes the cache.
        max_module_bytes: The largest payload that is compiled.
        on_log: Takes the plugins' log records, on the thread of the call; see ``logs``.
        on_crash_loop: Told when a plugin's process crashed too often to be started again, with
            its id, its release and why.
        on_foreign_code: Told of what lies in the cache and is not ours; it is compiled anew.
        stands_in: Other applications' host functions can be imported and are unavailable;
            else a plugin that imports them is refused.
    """

    def __init__(
        self,
        *,
        verify: Callable[[PluginFiles], Admission],
        parse: Callable[[bytes, str], PluginManifest],
        cache_dir: Path | None,
        files: Files,
        max_module_bytes: int = MAX_MODULE_BYTES,
        on_log: Callable[[LogRecord], None] | None = None,
        on_crash_loop: Callable[[str, str, str], None] | None = None,
        on_foreign_code: Callable[[ForeignCode], None] | None = None,
        stands_in: bool = False,
    ) -> None:
        self._verify = verify
        self._parse = parse
        self._builds = Builds(cache_dir, files, max_module_bytes, on_foreign_code)
        self._logs = PluginLogs(on_log)
        self._runtime = Runtime(Watchdog(), OffMain(), self._logs.take)
        self._functions = FunctionTable(stands_in=stands_in)
        self._on_crash_loop = on_crash_loop or (lambda _id, _release, _reason: None)
        self._quarters: Quarters | None = None
        self._lock = threading.Lock()
        self._plugins: weakref.WeakSet[Plugin] = weakref.WeakSet()
        self._has_brought = False
        self._closed = False

    def register(
        self,
        function: Callable[..., object],
        *,
        name: str,
        capability: str,
        timeout_ms: int | None = None,
    ) -> None:
        """Let plugins import a function of the application; before the first ``load``.

        Args:
            function: With a type hint on every parameter and on the result. It is called on a
                thread of the sandbox's, on several at once where several plugin calls run.
            name: What plugins import it as.
            capability: What a plugin needs to be granted.
            timeout_ms: Milliseconds a call of it may take; None = what is left of the
                plugin's call.

        Raises:
            RegistrationError: One of these can't be used, or it is too late.
        """
        self._functions.add(
            HostFunction.of(function, name=name, capability=capability, timeout_ms=timeout_ms)
        )

    def load(self, files: PluginFiles) -> Plugin:
        """Verify, compile and check a plugin; it is not instantiated yet.

        Args:
            files: Its bytes; what is verified is what runs.

        Raises:
            BadModule: Too long, not a valid module, or not what ``[exports]`` says.
            IncompatibleError: A component, an import that no host function provides, a newer ABI.
            ManifestError: As ``parse`` raises.
            MissingExport: ``entry``, ``[health]`` or ``[exports]`` names no function of it.
            SandboxError: The sandbox is closed.
            Exception: Whatever ``verify`` raises.
        """
        if self._closed:
            raise SandboxError(f"cannot load {files.stem}: the sandbox is closed")
        self._bring_installed()
        admission = self._verify(files)
        manifest = self._parse(files.manifest, f"{files.stem}.toml")
        try:
            plugin = self._load(files, manifest, admission)
        except SandboxError as error:
            error.plugin_id = manifest.id
            raise
        with self._lock:
            self._plugins.add(plugin)
        self._functions.complete()
        return plugin

    def _bring_installed(self) -> None:
        """Register what packages bring; what the application registered before stays."""
        with self._lock:
            if self._has_brought:
                return
            bring(self.register)
            self._has_brought = True

    def logs(self, plugin_id: str) -> tuple[LogRecord, ...]:
        """What a plugin said lately, oldest first, whichever release of it; bounded."""
        return self._logs.lately(plugin_id)

    def prune(self, keep: Collection[str]) -> None:
        """Remove compiled code from the cache, but for these payloads' (SHA-256 in hex).

        Raises:
            OSError: An entry can't be removed.
        """
        self._builds.prune(keep)

    def forget(self, payload_sha256: str) -> None:
        """Remove the compiled code of a payload from the cache.

        Raises:
            OSError: An entry can't be removed.
        """
        self._builds.forget(payload_sha256)

    def close(self) -> None:
        """Close every plugin; calls that run are left to end, by their deadlines at the latest."""
        self._closed = True
        with self._lock:
            plugins = list(self._plugins)
        if self._quarters is not None:
            self._quarters.close()
        for plugin in plugins:
            plugin.close()
        self._runtime.watchdog.close()
        self._runtime.off_main.close()
        self._functions.close()

    def _load(self, files: PluginFiles, manifest: PluginManifest, admission: Admission) -> Plugin:
        name = f"{manifest.id} {manifest.version}"
        built = self._builds.get(files.payload, manifest, admission)
        shape = built.shape
        links = self._functions.link(shape, manifest.capabilities, name=name)
        check_imports(shape, links, name=name)
        surroundings = _surroundings(manifest, admission, bodies(links, self._functions.answer))
        offered = signatures(manifest, shape)
        token = Token.mint(manifest, admission)
        ask = Allowance(token, admission.purse, admission.clock).refusal
        reused = manifest.instance == "reused"

        def make_worker() -> Worker:
            return Worker(built.code, shape, surroundings, name=name)

        runner: Runner
        if admission.isolation == "process":
            from sandbox.isolate.orders import Orders

            make_worker()  # what can't be linked is told now
            runner = self._apart().runner(
                Orders(
                    token=token,
                    name=name,
                    stem=manifest.stem,
                    reused=reused,
                    environment=surroundings.environment,
                    shape=shape,
                    signatures=offered,
                    links=links,
                ),
                built.code,
                surroundings.data_dir,
                ask,
            )
        else:
            inline = InlineRunner(
                token, manifest.stem, make_worker, self._runtime, ask=ask, reused=reused
            )
            inline.warm()
            runner = inline
        differences = notes(shape.imports, manifest.capabilities, self._functions.capabilities())
        for note in differences:
            _LOG.info("%s: %s", name, note)
        plugin = Plugin(manifest, admission, token, shape, offered, runner, differences)
        self._builds.keep(built)  # code that is refused leaves nothing behind
        return plugin

    def _apart(self) -> "Quarters":
        # what speaks with processes is loaded where there are any
        from sandbox.isolate.quarters import Quarters

        with self._lock:
            if self._quarters is None:
                self._quarters = Quarters(
                    self._runtime.off_main,
                    self._functions.answer,
                    self._runtime.on_log,
                    self._on_crash_loop,
                )
            return self._quarters


def _surroundings(
    manifest: PluginManifest, admission: Admission, functions: Mapping[Import, border.Body]
) -> Surroundings:
    settings = {key: _text(value) for key, value in manifest.settings.items()}
    for key, value in admission.settings.items():
        if "\0" in value:
            raise SandboxError(f"cannot set {key!r} of {manifest.id}: the value holds a NUL")
        # what only another version knows must not stop an update or a rollback to this one
        if key in settings:
            settings[key] = value
    may_read = "fs_read" in admission.granted and "fs_read" in manifest.capabilities
    return Surroundings(
        environment={_SETTING_PREFIX + key.upper(): value for key, value in settings.items()},
        data_dir=admission.data_dir if may_read else None,
        functions=functions,
    )


def _text(value: str | float | bool) -> str:  # noqa: FBT001  # the value itself
    return str(value).lower() if isinstance(value, bool) else str(value)
