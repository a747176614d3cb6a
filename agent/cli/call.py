"""call: run a function of a plugin, in the service where it answers."""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from agent.cli.app import App, format_flag, is_path, is_plugin_id, path_hint, verb
from agent.cli.output import Output
from agent.cli.remote import service_of
from agent.control.client import RemoteError
from agent.control.values import LEVELS, Value, from_json
from agent.errors import UsageError

if TYPE_CHECKING:
    from sandbox import CallResult
    from sandbox.admission import Isolation

_SHOWN = LEVELS[2:]


@dataclass(frozen=True, slots=True)
class _Called:
    """What a call gave, here or in the service."""

    value: Value | None
    fuel_used: int
    memory_peak_bytes: int
    took_ms: float


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
    isolation: "Isolation | None",
    dev: bool,
) -> None:
    """Call a function of a plugin; without FUNC, its entry.

    Arguments are text unless the parameter is numeric. A text result goes to stdout as it is,
    any other as JSON. What the plugin logs goes to stderr.

    Where the service runs, the call is made there; with --config, --isolation or --dev here.
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

    def show(plugin_id: str, level: str, message: str) -> None:
        if level in _SHOWN or app.out.verbose:
            app.out.message(f"{plugin_id} {level}: {message}")

    def spent(fuel: int, memory_bytes: int) -> None:
        if stats:
            _print_stats(app.out, fuel, memory_bytes)

    result: CallResult | _Called | None = None
    if not dev and isolation is None:
        result = _through_service(app, plugin, function, arguments, show, spent)
    if result is None:
        from agent.cli.calling import call_folder, call_here

        call = call_folder if dev else call_here
        result = call(app, plugin, function, arguments, isolation=isolation, show=show, spent=spent)
    _print(app.out, result)
    if stats:
        _print_stats(app.out, result.fuel_used, result.memory_peak_bytes, result.took_ms)


def _through_service(
    app: App,
    plugin: str,
    function: str | None,
    arguments: tuple[str, ...],
    show: Callable[[str, str, str], None],
    spent: Callable[[int, int], None],
) -> _Called | None:
    """As in this process: what it logged, then what it cost or gave; None = nothing listens."""
    # Who names another config wants that one.
    with contextlib.ExitStack() as stack:
        service = None if "config" in app.flags else stack.enter_context(service_of(app))
        if service is None:
            return None
        try:
            said = service.call(plugin, function, list(arguments))
        except RemoteError as error:
            _show_all(plugin, error.document, show)
            if "fuel_used" in error.document:
                spent(error.document["fuel_used"], error.document["memory_peak_bytes"])
            raise
    _show_all(plugin, said, show)
    value = None if said["result"] is None else from_json(said["result"])
    return _Called(value, said["fuel_used"], said["memory_peak_bytes"], said["took_ms"])


def _show_all(plugin: str, said: dict[str, Any], show: Callable[[str, str, str], None]) -> None:
    for record in said.get("logs", ()):
        show(plugin, record["level"], record["message"])


def _print(out: Output, result: "CallResult | _Called") -> None:
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
