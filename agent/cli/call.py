"""call: run a function of a plugin."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from agent.cli.app import App, format_flag, is_path, is_plugin_id, manifest_at, path_hint, verb
from agent.cli.output import Output
from agent.errors import UsageError
from agent.host import PluginHost
from sandbox import CallError, CallResult, read_set
from sandbox.admission import Isolation

if TYPE_CHECKING:
    from sandbox import LogRecord

_LEVELS = ("trace", "debug", "info", "warn", "error")
_SHOWN_FROM = 2


@verb(
    name="call",
    examples="agent call org.example.hello run Jane\n"
    "agent call org.example.hello run Jane --stats --format json\n"
    "agent call ./hello run Jane --dev",
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True},
)
@click.argument("plugin", metavar="ID|PATH")
@click.argument("function", metavar="[FUNC]", required=False)
@click.argument("arguments", metavar="[ARG]...", nargs=-1)
@click.option("--stats", is_flag=True, help="Print fuel, memory and time on stderr.")
@click.option(
    "--isolation",
    type=click.Choice(["inline", "process"]),
    help="Run it in this process, or in one of its own. Default: the config's, else inline.",
)
@click.option("--dev", is_flag=True, help="Run the unsigned folder PATH.")
@format_flag
def call_command(
    app: App,
    plugin: str,
    function: str | None,
    arguments: tuple[str, ...],
    *,
    stats: bool,
    isolation: Isolation | None,
    dev: bool,
) -> None:
    """Call a function of a plugin; without FUNC, its entry.

    Arguments are text unless the parameter is numeric. A text result goes to stdout as it is,
    any other as JSON. What the plugin logs goes to stderr.
    """
    if is_path(plugin) and not dev:
        raise UsageError(
            f"cannot call {plugin}: it is a path", hint="add --dev to run a folder of your own"
        )
    if not dev and not is_plugin_id(plugin):
        raise UsageError(
            f"cannot call {plugin[:140]!r}: expected an ID such as org.example.hello",
            hint=path_hint("call --dev", plugin) or "agent list",
        )

    def show(record: "LogRecord") -> None:
        if record.level >= _SHOWN_FROM or app.out.verbose:
            app.out.message(f"{record.plugin_id} {_LEVELS[record.level]}: {record.message}")

    try:
        if dev:
            result = _call_folder(app, plugin, function, arguments, show, isolation)
        else:
            with PluginHost(
                context=app.context, on_log=show, stands_in=True, isolation=isolation
            ) as host:
                host.load_installed(plugin)
                result = host.call(function, arguments, plugin=plugin)
    except CallError as error:
        if stats:
            _print_stats(app.out, error.stats.fuel_used, error.stats.memory_peak_bytes)
        raise
    _print(app.out, result)
    if stats:
        _print_stats(app.out, result.fuel_used, result.memory_peak_bytes, result.took_ms)


def _call_folder(
    app: App,
    path: str,
    function: str | None,
    arguments: tuple[str, ...],
    show: "Callable[[LogRecord], None]",
    isolation: Isolation | None,
) -> CallResult:
    """``--dev``: believed as it is, never installed or recorded."""
    app.out.message(f"{path}: run unsigned (--dev)")
    files = read_set(manifest_at(path))
    box = app.context.open_sandbox(unsigned=True, on_log=show, isolation=isolation)
    with contextlib.closing(box) as sandbox:
        return sandbox.load(files).call(function, arguments)


def _print(out: Output, result: CallResult) -> None:
    value = result.value
    plain = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if out.as_json:
        out.document(
            result=plain,
            fuel_used=result.fuel_used,
            memory_peak_bytes=result.memory_peak_bytes,
            took_ms=round(result.took_ms, 3),
        )
    elif isinstance(value, bytes):
        sys.stdout.buffer.write(value)
    elif isinstance(value, str):
        sys.stdout.write(value)
        if sys.stdout.isatty() and not value.endswith("\n"):
            sys.stdout.write("\n")
    elif value is not None:
        sys.stdout.write(json.dumps(value) + "\n")


def _print_stats(out: Output, fuel: int, memory_bytes: int, took_ms: float | None = None) -> None:
    took = "" if took_ms is None else f", {took_ms:.2f} ms"
    out.message(f"fuel {fuel}, memory {memory_bytes} B{took}")
