"""config, completion."""

import re
from collections.abc import Iterator, Mapping

import click

from agent.cli.app import App, format_flag, global_flags, verb
from agent.durations import format_duration
from agent.serving.grants import similar_word
from agent.settings.config import Config
from agent.settings.kinds import CAPABILITIES, DURATION, TIMEOUT, WORDS
from agent.settings.outside import shown_address
from agent.settings.registry_check import check_registries
from agent.settings.schema import SECTIONS, PluginSection, kinds
from agent.settings.spelling import toml_text

_USERINFO = re.compile(r"(?<=//)[^/@\s]+@")


@click.group(name="config", context_settings={"help_option_names": ["-h", "--help"]})
@global_flags
def config_command() -> None:
    """The configuration: plugin-host.toml and STACK_COMPOSER_* variables."""


@verb(name="show", examples="agent config show --effective")
@click.option("--effective", is_flag=True, help="Every key, with the origin of its value.")
@format_flag
def show_command(app: App, *, effective: bool) -> None:
    """Print the values that were set; with --effective all that are in force."""
    rows = [
        (key, _written(key, _unsecret(key, value)), origin)
        for key, value, origin in app.context.config.effective()
        if effective or origin != "default"
    ]
    if app.out.as_json:
        app.out.document(
            values=[{"key": key, "value": value, "origin": origin} for key, value, origin in rows]
        )
        return
    app.out.table(("KEY", "VALUE", "ORIGIN"), [(k, _shown(v), o) for k, v, o in rows])
    if not rows:
        app.out.message("nothing is set; agent config show --effective prints the defaults")


@verb(name="check", examples="agent config check")
@format_flag
def check_command(app: App) -> None:
    """Check the config files and variables; ends with 2 where one cannot be used."""
    places = app.context.places
    check_registries(app.context.config, places)
    for note in _slips(app.context.config):
        app.out.message(note)
    read = [str(path) for path in places.config_files if path.exists()]
    if app.out.as_json:
        app.out.document(files=read, ok=True)
        return
    for path in read:
        app.out.line(f"{path}: sound")
    if not read:
        looked = ", ".join(map(str, places.config_files))
        app.out.line(f"no config file: the defaults are in force; looked for {looked}")


for _command in (show_command, check_command):
    config_command.add_command(_command)


@verb(
    name="completion",
    examples="agent completion bash > ~/.local/share/bash-completion/completions/agent",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(app: App, shell: str) -> None:  # noqa: ARG001 - every verb gets the app
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from agent.cli.main import agent

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(agent, {}, "agent", "_AGENT_COMPLETE").source())


def _slips(config: Config) -> Iterator[str]:
    """What is allowed, because an application may mean it, and looks like a slip."""
    for key, value, origin in config.effective():
        section, _, name = key.rpartition(".")
        kind = kinds(SECTIONS.get(section, PluginSection)).get(name)
        for word in value if kind is WORDS and isinstance(value, tuple) else ():
            meant = None if word in CAPABILITIES else similar_word(word, CAPABILITIES)
            if meant is not None:
                yield f"note: {origin}: {key} has {word!r}; was {meant} meant?"


def _written(key: str, value: object) -> object:
    """A value as the config file would have it: durations as text, tuples as lists."""
    section, _, name = key.rpartition(".")
    if section in SECTIONS and kinds(SECTIONS[section]).get(name) in (DURATION, TIMEOUT):
        return format_duration(float(str(value)))
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _unsecret(key: str, value: object) -> object:
    """A value without the password that a URL may hold; of the webhook all may be one."""
    if key == "hooks.webhook":
        return shown_address(str(value))
    return _USERINFO.sub("***@", value) if isinstance(value, str) else value


def _shown(value: object) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else toml_text(value)
