"""Where everything lives: XDG folders, ``--home``, ``--system`` (contract §1); pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_NAME = "stack-composer"


@dataclass(frozen=True, slots=True)
class Places:
    """The folders and files of one installation.

    ``config_files`` are read in this order, later over earlier. ``trust_stores`` are
    candidates in order: the first that exists is in force, else the last is where one is
    created.
    """

    home: Path
    plugins: Path
    system_plugins: Path
    registry: Path
    data: Path
    state: Path
    cache: Path
    socket: Path
    config_files: tuple[Path, ...]
    config_is_explicit: bool
    trust_stores: tuple[Path, ...]


def find_places(
    environ: Mapping[str, str],
    user_home: Path,
    *,
    home: Path | None = None,
    config: Path | None = None,
    system: bool = False,
) -> Places:
    """Decide every place from the environment and the global flags.

    Args:
        environ: The process environment.
        user_home: The user's home folder.
        home: ``--home``; else ``$STACK_COMPOSER_HOME``. Puts everything under it.
        config: ``--config``; else ``$STACK_COMPOSER_CONFIG``. Replaces the config files.
        system: ``--system``: the machine-wide service's folders.
    """
    home_text = environ.get("STACK_COMPOSER_HOME")
    # A flag goes before the environment: --system is not of the home that a shell has set.
    root = home or (Path(home_text) if home_text and not system else None)
    config_text = environ.get("STACK_COMPOSER_CONFIG")
    explicit = config or (Path(config_text) if config_text else None)
    if root is not None:
        places = _under(root.absolute(), user_home)
    elif system:
        places = _system(environ, user_home)
    else:
        places = _user(environ, user_home)
    if explicit is None:
        return places
    explicit = explicit.absolute()
    return replace(
        places,
        config_files=(explicit,),
        config_is_explicit=True,
        trust_stores=(explicit.parent / "trusted_keys.toml",),
    )


def _under(root: Path, user_home: Path) -> Places:
    config = root / "config"
    return Places(
        home=user_home,
        plugins=root / "plugins",
        system_plugins=root / "system",
        registry=root / "registry",
        data=root / "data",
        state=root / "state",
        cache=root / "cache",
        socket=root / "run" / "agent.sock",
        config_files=(config / "plugin-host.toml",),
        config_is_explicit=False,
        trust_stores=(config / "trusted_keys.toml",),
    )


def _system(environ: Mapping[str, str], user_home: Path) -> Places:
    def named(variable: str, fallback: str) -> Path:
        # systemd joins several with colons; the first is the one a service writes to.
        return Path(environ.get(variable, "").partition(":")[0] or f"{fallback}/{_NAME}")

    state = named("STATE_DIRECTORY", "/var/lib")
    runtime = named("RUNTIME_DIRECTORY", "/run")
    config = Path("/etc") / _NAME
    return Places(
        home=user_home,
        plugins=Path("/opt") / _NAME / "plugins",
        system_plugins=Path("/opt") / _NAME / "plugins",
        registry=state / "registry",
        data=state / "data",
        state=state,
        cache=named("CACHE_DIRECTORY", "/var/cache"),
        socket=runtime / "agent.sock",
        config_files=(config / "plugin-host.toml",),
        config_is_explicit=False,
        trust_stores=(config / "trusted_keys.toml",),
    )


def _user(environ: Mapping[str, str], user_home: Path) -> Places:
    def xdg(name: str, fallback: str) -> Path:
        value = environ.get(name, "")
        # The XDG specification: a relative path is invalid and is ignored.
        return (Path(value) if value.startswith("/") else user_home / fallback) / _NAME

    data = xdg("XDG_DATA_HOME", ".local/share")
    state = xdg("XDG_STATE_HOME", ".local/state")
    config = xdg("XDG_CONFIG_HOME", ".config")
    system_config = Path("/etc") / _NAME
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    socket_folder = Path(runtime) / _NAME if runtime.startswith("/") else state / "run"
    return Places(
        home=user_home,
        plugins=data / "plugins",
        system_plugins=Path("/opt") / _NAME / "plugins",
        registry=data / "registry",
        data=data / "data",
        state=state,
        cache=xdg("XDG_CACHE_HOME", ".cache"),
        socket=socket_folder / "agent.sock",
        config_files=(system_config / "plugin-host.toml", config / "plugin-host.toml"),
        config_is_explicit=False,
        trust_stores=(system_config / "trusted_keys.toml", config / "trusted_keys.toml"),
    )
