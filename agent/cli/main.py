"""Parsing: the group of verbs, the global flags on either side, errors to exit codes."""

import importlib
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import click

from agent import __version__
from agent.cli.app import App, global_flags

# verb -> (module, one line of help): the help of the group loads none of the modules.
_VERBS = {
    "keygen": ("keys", "Make an Ed25519 key pair."),
    "sign": ("keys", "Sign a plugin folder."),
    "verify": ("keys", "Check a plugin folder or an artifact, with every finding."),
    "trust": ("trust", "Whom this host believes: list, show, check, add, revoke."),
    "push": ("publish", "Push a signed plugin to a registry."),
    "pull": ("change", "Fetch, verify, stage, probe and activate a plugin."),
    "update": ("change", "Run an update now, for all or some plugins."),
    "rollback": ("change", "Go back to the last good release."),
    "prune": ("prune", "Remove old releases."),
    "disable": ("stops", "Take a plugin, or all, out of service."),
    "enable": ("stops", "Let a disabled plugin serve again."),
    "remove": ("stops", "Remove a plugin; its data and its floor stay."),
    "hold": ("holds", "Keep update runs away from a plugin."),
    "unhold": ("holds", "Let update runs at a plugin again."),
    "tags": ("lookup", "The versions of a plugin in its registry."),
    "resolve": ("lookup", "The digest and release that a reference names."),
    "login": ("login", "Keep credentials for a registry."),
    "logout": ("login", "Forget the credentials for a registry."),
    "inspect": ("lookup", "What an artifact in a registry holds."),
    "discover": ("discover", "What is attached to an artifact: signatures, attestations, …"),
    "copy": ("carry", "Copy a release to another registry or layout."),
    "export": ("carry", "Write releases into one archive."),
    "import": ("carry", "Take the releases of an archive into the registry."),
    "list": ("installed", "The installed plugins."),
    "info": ("installed", "Everything about one installed plugin."),
    "outdated": ("checks", "Installed plugins with a newer version."),
    "check": ("checks", "What an update run would do, and why."),
    "history": ("installed", "What happened to a plugin."),
    "why": ("installed", "Why a plugin is at the version it is at."),
    "audit": ("audit", "The log of every decision: show, verify."),
    "grant": ("grants", "Grant a capability to a plugin."),
    "deny": ("grants", "Deny a capability to a plugin."),
    "grants": ("grants", "What a plugin requests, and what it is granted."),
    "call": ("call", "Call a function of a plugin."),
    "run": ("run", "Be the background service."),
    "status": ("status", "What the service says of itself and of each plugin."),
    "logs": ("follow", "What a plugin said lately, in the service."),
    "events": ("follow", "What happened to plugins, as it happens."),
    "doctor": ("doctor", "Find and mend what is not as it should be."),
    "config": ("config", "Show and check the configuration."),
    "completion": ("config", "Print the completion script of a shell."),
}


class _Verbs(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"agent.cli.{_VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise click.UsageError(f"cannot find the verb {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="agent VERB --help shows examples.",
)
@click.version_option(__version__, prog_name="agent")
@global_flags
def agent() -> None:
    """Pull, verify, run and update Stack Composer plugins."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit code of contract §7.
    """
    app = App()
    try:
        agent.main(list(arguments), prog_name="agent", standalone_mode=False, obj=app)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # the help: lines of our own, not an error
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SystemExit:
        return 0  # click's own: a completion is answered
    except click.ClickException as error:
        app.out.as_json |= _asks_for_json(arguments)  # the parser gave up, perhaps before it
        app.out.error("usage", error.format_message(), _usage_hint(error))
        return error.exit_code
    except Exception as error:
        from agent.errors import translated

        cause = translated(error)
        if cause is None:
            raise
        app.out.error(cause.code, cause.message, cause.hint)
        return cause.exit_code
    finally:
        app.close()
    return app.exit_code


def _asks_for_json(arguments: Sequence[str]) -> bool:
    words = " ".join(itertools.takewhile(lambda word: word != "--", arguments)).split(" ")
    return "--format=json" in words or ("--format", "json") in itertools.pairwise(words)


def _usage_hint(error: click.ClickException) -> str | None:
    context: Any = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else None
