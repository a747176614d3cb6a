"""Where everything lives: XDG folders, ``--home``, ``--system``, an explicit config."""

from pathlib import Path

import pytest

from agent.settings.places import Places, find_places

HOME = Path("/home/user")


def test_the_defaults_are_those_of_the_contract() -> None:
    """Nothing set: the folders of contract §1."""
    assert find_places({}, HOME) == Places(
        home=HOME,
        plugins=HOME / ".local/share/stack-composer/plugins",
        system_plugins=Path("/opt/stack-composer/plugins"),
        registry=HOME / ".local/share/stack-composer/registry",
        data=HOME / ".local/share/stack-composer/data",
        state=HOME / ".local/state/stack-composer",
        cache=HOME / ".cache/stack-composer",
        socket=HOME / ".local/state/stack-composer/run/agent.sock",
        config_files=(
            Path("/etc/stack-composer/plugin-host.toml"),
            HOME / ".config/stack-composer/plugin-host.toml",
        ),
        config_is_explicit=False,
        trust_stores=(
            Path("/etc/stack-composer/trusted_keys.toml"),
            HOME / ".config/stack-composer/trusted_keys.toml",
        ),
    )


def test_xdg_variables_are_honoured() -> None:
    """Each of the five moves its own folder."""
    found = find_places(
        {
            "XDG_DATA_HOME": "/d",
            "XDG_STATE_HOME": "/s",
            "XDG_CACHE_HOME": "/c",
            "XDG_CONFIG_HOME": "/f",
            "XDG_RUNTIME_DIR": "/r",
        },
        HOME,
    )
    assert found.plugins == Path("/d/stack-composer/plugins")
    assert found.registry == Path("/d/stack-composer/registry")
    assert found.data == Path("/d/stack-composer/data")
    assert found.state == Path("/s/stack-composer")
    assert found.cache == Path("/c/stack-composer")
    assert found.config_files[-1] == Path("/f/stack-composer/plugin-host.toml")
    assert found.trust_stores[-1] == Path("/f/stack-composer/trusted_keys.toml")
    assert found.socket == Path("/r/stack-composer/agent.sock")


@pytest.mark.parametrize("value", ["", "relative", "./here", "~/there"])
def test_a_relative_xdg_path_is_ignored(value: str) -> None:
    """As the XDG specification says."""
    names = ("DATA_HOME", "STATE_HOME", "CACHE_HOME", "CONFIG_HOME", "RUNTIME_DIR")
    assert find_places({f"XDG_{name}": value for name in names}, HOME) == find_places({}, HOME)


def under(root: Path) -> dict[str, Path]:
    """What lies where under ``--home``."""
    names = ("plugins", "registry", "data", "state", "cache")
    return {name: root / name for name in names} | {"system_plugins": root / "system"}


@pytest.mark.parametrize("system", [False, True])
def test_home_holds_everything(*, system: bool) -> None:
    """``--home`` puts all under one folder, reads nothing in /etc, and wins over the rest."""
    environ = {"XDG_DATA_HOME": "/d", "STATE_DIRECTORY": "/s", "STACK_COMPOSER_HOME": "/else"}
    found = find_places(environ, HOME, home=Path("/demo"), system=system)
    for name, path in under(Path("/demo")).items():
        assert getattr(found, name) == path
    assert found.socket == Path("/demo/run/agent.sock")
    assert found.config_files == (Path("/demo/config/plugin-host.toml"),)
    assert found.trust_stores == (Path("/demo/config/trusted_keys.toml"),)
    assert found.home == HOME


def test_home_by_environment() -> None:
    """``$STACK_COMPOSER_HOME`` is ``--home``; an empty one is none."""
    assert find_places({"STACK_COMPOSER_HOME": "/demo"}, HOME) == find_places(
        {}, HOME, home=Path("/demo")
    )
    assert find_places({"STACK_COMPOSER_HOME": ""}, HOME) == find_places({}, HOME)


def test_the_flag_for_the_system_goes_before_a_home_by_environment() -> None:
    """A shell that has another agent's home set still reaches the machine's own."""
    environ = {"STACK_COMPOSER_HOME": "/demo"}
    assert find_places(environ, HOME, system=True) == find_places({}, HOME, system=True)


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working folder moves nothing."""
    monkeypatch.chdir(tmp_path)
    assert find_places({}, HOME, home=Path("demo")).state == tmp_path / "demo" / "state"


def test_the_system_installation() -> None:
    """``--system`` uses the machine's folders; there is no second config or trust store."""
    found = find_places({"XDG_DATA_HOME": "/d"}, HOME, system=True)
    assert found.plugins == found.system_plugins == Path("/opt/stack-composer/plugins")
    assert found.state == Path("/var/lib/stack-composer")
    assert found.data == Path("/var/lib/stack-composer/data")
    assert found.registry == Path("/var/lib/stack-composer/registry")
    assert found.cache == Path("/var/cache/stack-composer")
    assert found.socket == Path("/run/stack-composer/agent.sock")
    assert found.config_files == (Path("/etc/stack-composer/plugin-host.toml"),)
    assert found.trust_stores == (Path("/etc/stack-composer/trusted_keys.toml"),)


def test_the_service_manager_names_the_system_folders() -> None:
    """``$STATE_DIRECTORY`` and its kin win; of several the first."""
    environ = {"STATE_DIRECTORY": "/s", "CACHE_DIRECTORY": "/c", "RUNTIME_DIRECTORY": "/r"}
    found = find_places(environ, HOME, system=True)
    assert (found.state, found.cache) == (Path("/s"), Path("/c"))
    assert (found.data, found.registry) == (Path("/s/data"), Path("/s/registry"))
    assert found.socket == Path("/r/agent.sock")
    several = {"STATE_DIRECTORY": "/s:/t", "CACHE_DIRECTORY": ""}
    found = find_places(several, HOME, system=True)
    assert (found.state, found.cache) == (Path("/s"), Path("/var/cache/stack-composer"))


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_an_explicit_config_replaces_both(way: str) -> None:
    """One config file, and the trust store beside it; every other place stays."""
    path = Path("/srv/host/my.toml")
    flag = path if way == "flag" else None
    environ = {"STACK_COMPOSER_CONFIG": str(path) if way == "environment" else "/other.toml"}
    found = find_places(environ, HOME, config=flag)
    assert found.config_files == (path,)
    assert found.config_is_explicit
    assert found.trust_stores == (Path("/srv/host/trusted_keys.toml"),)
    assert found.state == find_places({}, HOME).state


def test_an_empty_config_variable_is_none() -> None:
    """An empty ``$STACK_COMPOSER_CONFIG`` changes nothing."""
    assert not find_places({"STACK_COMPOSER_CONFIG": ""}, HOME).config_is_explicit
