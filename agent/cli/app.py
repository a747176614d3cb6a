"""What every verb gets: the global flags, the installation, the output."""

import functools
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.cli.output import Output

if TYPE_CHECKING:
    from agent.context import Context
    from agent.telemetry import Telemetry

F = TypeVar("F", bound=Callable[..., Any])

_MIXED = 12
_MAX_ID_CHARS = 128
_PATH_STARTS = ("/", "./", "../", "~/")


class App:
    """One run of the command line.

    Attributes:
        out: Where results and messages go.
        exit_code: What the process ends with unless an error says otherwise.
    """

    def __init__(self) -> None:
        self.flags: dict[str, Any] = {}
        self.out = Output()
        self.exit_code = 0

    @functools.cached_property
    def context(self) -> "Context":
        """The installation that the flags name; its modules load now and not for --help.

        Raises:
            UsageError: It is not for root to change; see ``require_own``.
        """
        from agent.context import Context, Options
        from agent.settings.owner import require_own

        verb = click.get_current_context().command_path.partition(" ")[2]
        # Whatever is wrong with a plugin's section, the emergency stop stops the plugin.
        context = Context(Options(**self.flags), acting=verb, spare_plugins=verb == "disable")
        if not verb.startswith("config "):  # which changes nothing, and is for who edits it
            require_own(context.places.state, is_system=context.options.system)
        return context

    @functools.cached_property
    def telemetry(self) -> "Telemetry":
        """Where spans go; nowhere unless an endpoint is configured."""
        from agent.telemetry import Telemetry, endpoint_of

        return Telemetry(endpoint_of(self.context.config.telemetry.endpoint, os.environ))

    def end_with(self, codes: Collection[int]) -> None:
        """Decide the exit code by what each of several plugins came to (contract §7).

        Args:
            codes: One for each; all alike → that one, else 12: some failed, or in other ways.
        """
        distinct = set(codes)
        self.exit_code = distinct.pop() if len(distinct) == 1 else _MIXED if distinct else 0

    def close(self) -> None:
        """Close what was opened."""
        if "telemetry" in self.__dict__:
            self.telemetry.close()
        if "context" in self.__dict__:
            self.context.close()


pass_app = click.make_pass_decorator(App)


def global_flags(command: F) -> F:
    """The flags that every verb takes, before or after its name (contract §7)."""
    for option in reversed(_GLOBAL):
        command = option(command)
    return command


def format_flag(command: F) -> F:
    """``--format text|json`` for verbs that report."""
    return _flag("--format", "format", type=click.Choice(["text", "json"]), help="Default: text.")(
        command
    )


def dry_run_flag(command: F) -> F:
    """``--dry-run`` for verbs that change something."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(
        command
    )


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:  # noqa: ANN401 - of any flag
    """Put a flag's value where it belongs; a flag that was not given changes nothing."""
    if value is None or value is False or value == ():
        return
    app = ctx.ensure_object(App)
    match param.name:
        case "format":
            app.out.as_json = value == "json"
        case "quiet":
            app.out.quiet = True
        case "verbose":
            app.out.verbose = True
        case "no_color":
            app.out.color = False
        case "registry_config":
            app.flags["registry_config"] = (*app.flags.get("registry_config", ()), *value)
        case name:
            app.flags[str(name)] = value


def _flag(*names: str, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    return click.option(*names, expose_value=False, callback=_keep, **settings)


_PATH = click.Path(path_type=Path)
_GLOBAL: list[Callable[..., Any]] = [
    _flag("--config", type=_PATH, metavar="FILE", help="Use this config file alone."),
    _flag("--home", type=_PATH, metavar="DIR", help="Keep everything under DIR."),
    _flag("--registry", metavar="BASE", help="Look up plugin ids here, for this command."),
    _flag("--plain-http", is_flag=True, help="Speak HTTP without TLS."),
    _flag("--insecure", is_flag=True, help="Do not check the registry's certificate."),
    _flag("--ca-file", type=_PATH, metavar="FILE", help="Trust these CA certificates."),
    _flag(
        "--registry-config",
        type=_PATH,
        multiple=True,
        metavar="FILE",
        help="Look for credentials here first; may be repeated.",
    ),
    _flag("--offline", is_flag=True, help="Use no network."),
    _flag("--system", is_flag=True, help="Use the machine's installation."),
    _flag("--no-color", is_flag=True, help="Print without colours."),
    _flag("-q", "--quiet", is_flag=True, help="Print errors only, beside the result."),
    _flag("-v", "--verbose", is_flag=True, help="Say more of what goes on."),
]


def verb(*, examples: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:  # noqa: ANN401 - click's own
    """A command with the global flags and examples under its help.

    Args:
        examples: Lines of example commands.
        settings: As of ``click.command``.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
        settings.setdefault("epilog", f"\b\nExamples:\n{lines}")
        settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        command: click.Command = click.command(**settings)(global_flags(pass_app(function)))
        return command

    return decorate


def is_plugin_id(text: str) -> bool:
    """Whether an argument is a plugin ID by its grammar (contract §2)."""
    from sandbox.grammar import PLUGIN_ID

    return len(text) <= _MAX_ID_CHARS and PLUGIN_ID.fullmatch(text) is not None


def plugin_id_type(text: str) -> str:
    """The type of an argument that names a plugin: no other text reaches disk or ledger.

    Raises:
        BadParameter: It is no plugin ID.
    """
    if not is_plugin_id(text):
        raise click.BadParameter(f"got {text[:140]!r}, expected an ID such as org.example.hello")
    return text


def capability_type(text: str) -> str:
    """The type of an argument that names a capability: the sandbox's or an application's.

    Raises:
        BadParameter: It is no word for one.
    """
    from agent.settings.kinds import CAPABILITIES
    from sandbox.grammar import CAPABILITY

    if CAPABILITY.fullmatch(text) is None:
        raise click.BadParameter(
            f"got {text[:80]!r}, expected one of {', '.join(CAPABILITIES)}, or an application's "
            "word of a-z, 0-9 and _"
        )
    return text


def duration_type(text: str) -> int:
    """The type of a duration.

    Raises:
        BadParameter: It is none, or no time at all.
    """
    from agent.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not seconds:
        raise click.BadParameter(f"got {text!r}, expected at least 1s")
    return seconds


def path_hint(verb_name: str, text: str) -> str | None:
    """What to type where the bare name of a file or folder was given for a PATH."""
    meant = "/" not in text and Path(text).exists()
    return f"agent {verb_name} ./{text}" if meant else None


def is_path(text: str) -> bool:
    """Whether an argument is a PATH and no reference: contains "/" or ends in .toml, or is ".".

    Raises:
        UsageError: It can only be a path, and there is nothing there.
    """
    from agent.errors import UsageError

    if text in (".", "..") or (("/" in text or text.endswith(".toml")) and Path(text).exists()):
        return True
    if text.startswith(_PATH_STARTS):
        raise UsageError(
            f"cannot find a plugin at {text}: there is no such file or folder",
            hint="name the plugin's folder, its .toml, or a reference such as org.example.hello",
        )
    return False


def require_no_path(verb_name: str, text: str) -> None:
    """Stop at what can only be a path where a reference is wanted.

    Raises:
        UsageError: Says so, and whether anything is there.
    """
    from agent.errors import UsageError

    if text in (".", "..") or text.startswith(_PATH_STARTS):
        found = "it is a path" if Path(text).exists() else "there is no such path"
        raise UsageError(
            f"cannot use {text}: {found}, and agent {verb_name} takes a reference, such as "
            "org.example.hello or oci:DIR/org.example.hello",
            hint="agent push PATH pushes a folder of your own; agent verify PATH checks it",
        )


def manifest_at(text: str) -> Path:
    """The manifest that a PATH means: the ``.toml`` itself, or the one in the folder.

    Raises:
        UsageError: There is none, or more than one.
    """
    from agent.errors import UsageError

    path = Path(text)
    if not path.is_dir():
        if path.suffix == ".toml" and path.is_file():
            return path
        raise UsageError(
            f"cannot find a plugin at {path}: expected a folder or its .toml",
            hint="name the plugin's folder",
        )
    found = sorted(p for p in path.glob("*.toml") if not p.name.startswith("."))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UsageError(
            f"cannot choose the manifest in {path}: found {names}, expected one .toml",
            hint="name the .toml itself",
        )
    return found[0]
