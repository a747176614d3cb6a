"""``plugin-host.toml`` and the environment: every key, precedence, origins, and what is refused."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

import pytest

from agent.errors import ConfigError
from agent.settings.config import (
    Config,
    configured_paths,
    load_config,
    trust_store_path,
)
from agent.settings.places import Places, find_places
from agent.settings.registry_check import check_registries
from agent.settings.schema import (
    LATER_SECTIONS,
    SECTIONS,
    HostSection,
    PluginLimitsSection,
    PluginSection,
    kinds,
)

PLUGIN = "org.example.hello"


def places(root: Path) -> Places:
    """An installation with a user's and a system's config file."""
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "user").mkdir(exist_ok=True)
    found = find_places({}, Path("/home/user"), home=root)
    return Places(
        **{
            **{f.name: getattr(found, f.name) for f in fields(found)},
            "config_files": (root / "etc" / "plugin-host.toml", root / "user" / "plugin-host.toml"),
        }
    )


def load(
    root: Path, user: str = "", system: str = "", environ: Mapping[str, str] | None = None
) -> Config:
    """The config of two files and an environment."""
    where = places(root)
    for path, text in zip(where.config_files, (system, user), strict=True):
        if text:
            path.write_text(text)
    return load_config(where, environ or {})


# One value for each key that is not its default, as TOML and as Python has it.
VALUES: dict[str, tuple[str, object]] = {
    "limits.fuel_units": ("7", 7),
    "limits.mem_bytes": ("65536", 65_536),
    "limits.wall_timeout_ms": ("9223372036854775807", 2**63 - 1),
    "paths.user_dir": ('"/srv/plugins"', "/srv/plugins"),
    "paths.system_dir": ('"~/system"', "~/system"),
    "registry.default": ('"registry.example.com/plugins"', "registry.example.com/plugins"),
    "registry.max_artifact_bytes": ("1", 1),
    "registry.max_cache_bytes": ("1", 1),
    "update.interval": ('"1h30m"', 5_400),
    "update.parallel": ("2", 2),
    "update.jitter": ('"0s"', 0),
    "update.mode": ('"notify"', "notify"),
    "update.windows": ('["Mon-Fri 22:00-05:00"]', ("Mon-Fri 22:00-05:00",)),
    "update.cooldown": ('"7d"', 604_800),
    "update.keep": ("1", 1),
    "update.probation": ('"90s"', 90),
    "capabilities.grant": ('["log", "fs_read"]', ("log", "fs_read")),
    "network.offline": ("true", True),
    "network.proxy": ('"http://proxy:3128"', "http://proxy:3128"),
    "network.max_bytes_per_s": ("1000000", 1_000_000),
    "network.allow_hosts": ('["api.example.org"]', ("api.example.org",)),
    "sandbox.isolation": ('"inline"', "inline"),
    "sandbox.max_module_bytes": ("2", 2),
    "telemetry.endpoint": ('"http://127.0.0.1:4318"', "http://127.0.0.1:4318"),
    "control.group": ('"plugins"', "plugins"),
    "control.group_access": ('"full"', "full"),
    "control.max_body_bytes": ("4096", 4_096),
    "control.max_calls": ("1", 1),
    "hooks.pre_activate": ('["/usr/bin/ask", "-v"]', ("/usr/bin/ask", "-v")),
    "hooks.post_commit": ('["logger", ""]', ("logger", "")),
    "hooks.on_rollback": ('["page"]', ("page",)),
    "hooks.on_approval_needed": ('["mail", "root"]', ("mail", "root")),
    "hooks.timeout": ('"5s"', 5),
    "hooks.webhook": ('"https://chat.example.org/in?key=1"', "https://chat.example.org/in?key=1"),
}


def test_every_key_is_tried() -> None:
    """The table above names each key there is."""
    keys = {f"{section}.{key}" for section, kind in SECTIONS.items() for key in kinds(kind)}
    assert set(VALUES) == keys


@pytest.mark.parametrize("key", VALUES)
def test_a_key_by_file_and_by_environment(tmp_path: Path, key: str) -> None:
    """A key means the same in a file and in the environment; its origin is told."""
    section, _, name = key.partition(".")
    toml, value = VALUES[key]
    variable = f"STACK_COMPOSER_{section}__{name}".upper()
    by_file = load(tmp_path, f"[{section}]\n{name} = {toml}\n")
    assert getattr(getattr(by_file, section), name) == value
    assert by_file.origins[key] == str(tmp_path / "user" / "plugin-host.toml")
    by_environment = load(tmp_path / "other", environ={variable: toml})
    assert getattr(getattr(by_environment, section), name) == value
    assert by_environment.origins[key] == variable
    default = getattr(getattr(load(tmp_path / "third"), section), name)
    assert default != value


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    """Nothing set: the documented values, each with the origin "default"."""
    config = load(tmp_path)
    effective = {key: value for key, value, _ in config.effective()}
    assert {origin for _, _, origin in config.effective()} == {"default"}
    assert effective == {
        "limits.fuel_units": 10_000_000,
        "limits.mem_bytes": 268_435_456,
        "limits.wall_timeout_ms": 5_000,
        "paths.user_dir": str(tmp_path / "plugins"),
        "paths.system_dir": str(tmp_path / "system"),
        "registry.default": f"oci:{tmp_path}/registry",
        "registry.max_artifact_bytes": 2 * 1024**3,
        "registry.max_cache_bytes": 1024**3,
        "update.interval": 3_600,
        "update.parallel": 4,
        "update.jitter": 600,
        "update.mode": "auto",
        "update.windows": (),
        "update.cooldown": 0,
        "update.keep": 3,
        "update.probation": 600,
        "capabilities.grant": ("log",),
        "network.offline": False,
        "network.proxy": "",
        "network.max_bytes_per_s": None,
        "network.allow_hosts": (),
        "sandbox.isolation": "process",
        "sandbox.max_module_bytes": 64 * 1024**2,
        "telemetry.endpoint": "",
        "control.group": "",
        "control.group_access": "read",
        "control.max_body_bytes": 1_048_576,
        "control.max_calls": 16,
        "hooks.pre_activate": (),
        "hooks.post_commit": (),
        "hooks.on_rollback": (),
        "hooks.on_approval_needed": (),
        "hooks.timeout": 30,
        "hooks.webhook": "",
    }
    assert config.plugin(PLUGIN) == PluginSection()
    assert config.plugins == {}


def test_precedence_is_key_by_key(tmp_path: Path) -> None:
    """Environment over user file over system file over default."""
    config = load(
        tmp_path,
        user='[update]\nmode = "notify"\nkeep = 5\n',
        system='[update]\nmode = "manual"\nkeep = 4\njitter = "1m"\n',
        environ={"STACK_COMPOSER_UPDATE__MODE": "auto", "UNRELATED": "x"},
    )
    update = config.update
    assert (update.mode, update.keep, update.jitter, update.interval) == ("auto", 5, 60, 3_600)
    origins = {key: origin for key, _, origin in config.effective() if key.startswith("update.")}
    assert origins["update.mode"] == "STACK_COMPOSER_UPDATE__MODE"
    assert origins["update.keep"] == str(tmp_path / "user" / "plugin-host.toml")
    assert origins["update.jitter"] == str(tmp_path / "etc" / "plugin-host.toml")
    assert origins["update.interval"] == "default"


QUOTED = f"""
[registry.namespaces]
"org.example" = "registry.example.com/plugins"
[registry.hosts."registry.example.com:5000"]
plain_http = true
insecure = true
ca_file = "~/ca.pem"
client_cert = "/srv/cert.pem"
client_key = "/srv/key.pem"
[plugins."{PLUGIN}"]
constraint = "^0.2"
mode = "manual"
channel = "stable"
grants = ["network"]
deny = ["log"]
hosts = ["api.example.org"]
data_dir = "~/data"
hold_until = 2027-01-31T08:00:00Z
isolation = "inline"
limits = {{ fuel_units = 1, mem_bytes = 2, wall_timeout_ms = 3 }}
settings = {{ name = "a", count = 2, ratio = 0.5, on = true }}
"""


def test_the_quoted_tables(tmp_path: Path) -> None:
    """Namespaces, hosts and plugins: every key is read, and told with its origin."""
    config = load(tmp_path, QUOTED)
    assert config.namespaces == {"org.example": "registry.example.com/plugins"}
    assert config.hosts["registry.example.com:5000"] == HostSection(
        plain_http=True,
        insecure=True,
        ca_file="~/ca.pem",
        client_cert="/srv/cert.pem",
        client_key="/srv/key.pem",
    )
    assert config.plugin(PLUGIN) == PluginSection(
        constraint="^0.2",
        mode="manual",
        channel="stable",
        grants=("network",),
        deny=("log",),
        hosts=("api.example.org",),
        data_dir="~/data",
        hold_until="2027-01-31T08:00:00+00:00",
        isolation="inline",
        settings=MappingProxyType({"name": "a", "count": 2, "ratio": 0.5, "on": True}),
        limits=PluginLimitsSection(1, 2, 3),
    )
    origin = str(tmp_path / "user" / "plugin-host.toml")
    told = {key: value for key, value, where in config.effective() if where == origin}
    assert told['registry.namespaces."org.example"'] == "registry.example.com/plugins"
    assert told['registry.hosts."registry.example.com:5000".plain_http'] is True
    assert told[f'plugins."{PLUGIN}".limits.mem_bytes'] == 2
    assert len(told) == 1 + 5 + 10 + 3


def test_quoted_tables_are_laid_over_each_other(tmp_path: Path) -> None:
    """The user's keys over the system's, within one plugin, its limits and one host."""
    config = load(
        tmp_path,
        user=f'[plugins."{PLUGIN}"]\nmode = "auto"\nlimits.fuel_units = 5\n'
        '[registry.hosts."h:1"]\ninsecure = true\n',
        system=f'[plugins."{PLUGIN}"]\nchannel = "beta"\n'
        "limits.fuel_units = 4\nlimits.mem_bytes = 6\n"
        '[registry.hosts."h:1"]\nplain_http = false\n',
    )
    section = config.plugin(PLUGIN)
    assert (section.mode, section.channel) == ("auto", "beta")
    assert section.limits == PluginLimitsSection(5, 6, None)
    assert config.hosts["h:1"] == HostSection(plain_http=False, insecure=True)
    set_keys = [key for key, _, origin in config.effective() if origin != "default"]
    assert len(set_keys) == 2 + 2 + 2


def test_a_hold_may_be_for_ever(tmp_path: Path) -> None:
    """The word forever stands for no end."""
    config = load(tmp_path, f'[plugins."{PLUGIN}"]\nhold_until = "forever"\n')
    assert config.plugin(PLUGIN).hold_until == "forever"


@pytest.mark.parametrize(
    ("text", "key", "got", "allowed"),
    [
        ("[nonsense]\n", "nonsense", "an unknown section", "one of limits, paths, "),
        ("[limits]\nfuel = 1\n", "limits.fuel", "an unknown key", "fuel_units, mem_bytes"),
        ("limits = 3\n", "limits", "3", "a table"),
        ("[limits]\nfuel_units = 0\n", "limits.fuel_units", "0", "a whole number of at least 1"),
        ("[limits]\nmem_bytes = -1\n", "limits.mem_bytes", "-1", "at least 1"),
        ("[limits]\nmem_bytes = true\n", "limits.mem_bytes", "true", "at least 1"),
        ("[limits]\nmem_bytes = 1.5\n", "limits.mem_bytes", "1.5", "at least 1"),
        (
            "[limits]\nmem_bytes = 9223372036854775808\n",
            "limits.mem_bytes",
            "9223372036854775808",
            "at least 1",
        ),
        ("[paths]\nuser_dir = 1\n", "paths.user_dir", "1", "text"),
        ('[update]\nmode = "off"\n', "update.mode", '"off"', "auto | notify | manual"),
        ("[update]\nmode = []\n", "update.mode", "[]", "auto | notify | manual"),
        ('[update]\njitter = "5"\n', "update.jitter", '"5"', 'a duration like "90s"'),
        ("[update]\njitter = 5\n", "update.jitter", "5", "a duration"),
        ("[update]\nkeep = 0\n", "update.keep", "0", "at least 1"),
        ('[update]\nwindows = "Mon"\n', "update.windows", '"Mon"', "a list of times"),
        ("[update]\nwindows = [1]\n", "update.windows", "[1]", "a list of times"),
        ("[retrieval]\nk = 1\n", "retrieval.k", "an unknown key", "with a later version"),
        ("[llm]\nmodel = 'm'\n", "llm.model", "an unknown key", "with a later version"),
        ("[plan]\nx = 1\n", "plan.x", "an unknown key", "with a later version"),
        ("[trust]\nstore = 's'\n", "trust.store", "an unknown key", "with a later version"),
        ("trust = 1\n", "trust", "1", "a table"),
        ('[capabilities]\ngrant = ["Root"]\n', "capabilities.grant", '["Root"]', "a list of log, "),
        ("[network]\noffline = 1\n", "network.offline", "1", "true or false"),
        ('[sandbox]\nisolation = "none"\n', "sandbox.isolation", '"none"', "process | inline"),
        ("[registry]\nnamespaces = 1\n", "registry.namespaces", "1", "a table"),
        ("[registry.namespaces]\na = 1\n", 'registry.namespaces."a"', "1", "text"),
        ("[registry]\nhosts = []\n", "registry.hosts", "[]", "a table"),
        *(
            (f"[hooks]\npost_commit = {got}\n", "hooks.post_commit", got, "a list: a program")
            for got in ('"logger -t agent"', '[""]', '["./tell"]', '["bin/tell"]', '["a", 1]')
        ),
        ('[hooks]\non_rollback = ["a\\u0000"]\n', "hooks.on_rollback", "u0000", "a list"),
        ('[hooks]\ntimeout = "0s"\n', "hooks.timeout", '"0s"', 'at least "1s"'),
        *(
            (f'[hooks]\nwebhook = "{got}"\n', "hooks.webhook", got, "an https:// address")
            for got in (
                *("http://chat.example.org/", "ftp://localhost/", "https://", "https:///in"),
                *("https://a b/", "https://a:0/", "https://a:x/", "https://[/", "chat"),
            )
        ),
        ('[registry.hosts]\n"h" = 1\n', 'registry.hosts."h"', "1", "a table"),
        (
            '[registry.hosts."h"]\nport = 1\n',
            'registry.hosts."h".port',
            "an unknown key",
            "plain_http",
        ),
        ("plugins = 1\n", "plugins", "1", "a table"),
        ("[plugins]\na = 1\n", 'plugins."a"', "1", "a table"),
        ("[plugins.a]\nnope = 1\n", 'plugins."a".nope', "an unknown key", "constraint, mode"),
        ("[plugins.a]\nlimits = 1\n", 'plugins."a".limits', "1", "a table"),
        ("[plugins.a.limits]\nmem_bytes = 0\n", 'plugins."a".limits.mem_bytes', "0", "at least 1"),
        ("[plugins.a.limits]\ncpu = 1\n", 'plugins."a".limits.cpu', "an unknown key", "fuel_units"),
        ('[plugins.a]\nconstraint = "new"\n', 'plugins."a".constraint', '"new"', '"^0.2"'),
        ('[plugins.a]\nchannel = "a b"\n', 'plugins."a".channel', '"a b"', "a tag's name"),
        ('[plugins.a]\nhold_until = "soon"\n', 'plugins."a".hold_until', '"soon"', "a date-time"),
        (
            "[plugins.a]\nhold_until = 2027-01-31T08:00:00\n",
            'plugins."a".hold_until',
            "2027-01-31T08:00:00",
            "a date-time like 2027-01-31T08:00:00Z",
        ),
        ("[plugins.a]\nsettings = 1\n", 'plugins."a".settings', "1", "a table of texts"),
        (
            "[plugins.a.settings]\nx = []\n",
            'plugins."a".settings',
            "{ x = [] }",
            "a table of texts",
        ),
        (
            '[plugins.a.settings]\n"a b" = 1\n',
            'plugins."a".settings',
            '{ "a b" = 1 }',
            "a table of texts",
        ),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, text: str, key: str, got: str, allowed: str) -> None:
    """The error names file, key, what was got and what is allowed."""
    path = tmp_path / "user" / "plugin-host.toml"
    message = f"cannot use {path}: {key} is .*{re.escape(got)}.*, expected .*{re.escape(allowed)}"
    with pytest.raises(ConfigError, match=message.replace('"', '\\"')) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 2
    assert caught.value.hint == "agent config check"


@pytest.mark.parametrize(
    "window",
    [
        "Sun 00:00-23:59",
        "Mon-Fri 22:00-05:00",
        "Sat-Mon 09:30-09:30 UTC",
        "Mon 01:00-02:00 Europe/Berlin",
        "Mon 01:00-02:00 America/Argentina/Ushuaia",
        "Mon 01:00-02:00 Etc/GMT+5",
    ],
)
def test_a_window_is_days_times_and_a_zone(tmp_path: Path, window: str) -> None:
    """What an operator would write is taken as it is written."""
    assert load(tmp_path, f'[update]\nwindows = ["{window}"]\n').update.windows == (window,)


@pytest.mark.parametrize(
    "window",
    [
        *("", "Mon", "22:00-05:00", "Mon 22:00", "Mon 24:00-05:00", "Mon 22:60-23:00"),
        *("Mon 1:00-2:00", "mon 01:00-02:00", "Mon-Foo 01:00-02:00", "Mon,Tue 01:00-02:00"),
        *("Mon  01:00-02:00", "Mon 01:00-02:00 ", "Mon 01:00-02:00 ../x", "Mon 01:00-02:00 a/"),
        "Mon 01:00-02:00\\n",
        "Mon 01:00-02:00 Europe/Berlinn",
    ],
)
def test_a_window_that_could_be_misread_is_refused(tmp_path: Path, window: str) -> None:
    """A time that nobody would keep is found when it is written, also beside a good one."""
    text = f'[update]\nwindows = ["Mon 01:00-02:00", "{window}"]\n'
    with pytest.raises(ConfigError, match="expected a list of times like"):
        load(tmp_path, text)


@pytest.mark.parametrize("section", LATER_SECTIONS)
def test_the_sections_to_come_may_stand_empty(tmp_path: Path, section: str) -> None:
    """A file of a later version whose new sections say nothing is read."""
    config = load(tmp_path, f"[{section}]\n[update]\nkeep = 4\n")
    assert config.update.keep == 4
    assert [key for key, _, _ in config.effective() if key.startswith(section)] == []


@pytest.mark.parametrize(
    "base",
    ["localhost:5000/plugins", "registry.example.com", "oci:/srv/r", "oci:~/r", "[::1]:5000/p"],
)
def test_a_registry_base_is_proved(tmp_path: Path, base: str) -> None:
    """What an ID can be looked up in is a base, as the default and for a namespace."""
    text = f'[registry]\ndefault = "{base}"\n[registry.namespaces]\n"org.example" = "{base}"\n'
    check_registries(load(tmp_path, text), places(tmp_path))


@pytest.mark.parametrize("base", ["https://x/y", "host:0/p", "Host/UPPER", "", "oci:", "a b"])
def test_a_registry_base_that_is_none_is_named(tmp_path: Path, base: str) -> None:
    """The error names the origin, the key, what was got and what a base looks like."""
    origin = re.escape(str(tmp_path / "user" / "plugin-host.toml"))
    for key, text in (
        ("registry.default", f'[registry]\ndefault = "{base}"\n'),
        ('registry.namespaces."org.a"', f'[registry.namespaces]\n"org.a" = "{base}"\n'),
    ):
        said = f"{origin}: {re.escape(key)} is {re.escape(json.dumps(base))}, expected HOST"
        with pytest.raises(ConfigError, match=said) as caught:
            check_registries(load(tmp_path, text), places(tmp_path))
        assert caught.value.hint == f"change {key}"


@pytest.mark.parametrize(
    "variable",
    [
        "STACK_COMPOSER_LIMITS__FUEL",
        "STACK_COMPOSER_LIMITS",
        "STACK_COMPOSER_LIMITS_FUEL_UNITS",
        "STACK_COMPOSER_NOPE__KEY",
        "STACK_COMPOSER_",
        "STACK_COMPOSER_PLUGINS__A",
        "STACK_COMPOSER_REGISTRY__NAMESPACES",
    ],
)
def test_an_unknown_variable_is_an_error(tmp_path: Path, variable: str) -> None:
    """A misspelt name is never silently ignored."""
    with pytest.raises(ConfigError, match=f"environment variable {variable}: no such config key"):
        load(tmp_path, environ={variable: "1"})


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("STACK_COMPOSER_LIMITS__FUEL_UNITS", "many", 'limits.fuel_units is "many"'),
        ("STACK_COMPOSER_LIMITS__FUEL_UNITS", "0", "limits.fuel_units is 0"),
        ("STACK_COMPOSER_NETWORK__OFFLINE", "yes", 'network.offline is "yes"'),
        ("STACK_COMPOSER_UPDATE__MODE", "never", 'update.mode is "never"'),
        ("STACK_COMPOSER_UPDATE__WINDOWS", "[" * 5_000, 'update.windows is "'),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, variable: str, text: str, message: str) -> None:
    """The error names the variable and the key."""
    with pytest.raises(ConfigError, match=f"cannot use {variable}: {message}"):
        load(tmp_path, environ={variable: text})


@pytest.mark.parametrize(
    ("text", "value"),
    [("5000", "5000"), ('"quoted"', "quoted"), ("true", "true"), ("a b", "a b"), ("", "")],
)
def test_bare_text_is_taken_for_text_keys(tmp_path: Path, text: str, value: str) -> None:
    """Text that looks like a number or a flag stays text; quotes are TOML's."""
    config = load(tmp_path, environ={"STACK_COMPOSER_REGISTRY__DEFAULT": text})
    assert config.registry.default == value


def test_a_newline_in_a_variable_sets_no_other_key(tmp_path: Path) -> None:
    """A variable is one value, whatever is in it."""
    config = load(tmp_path, environ={"STACK_COMPOSER_NETWORK__PROXY": '"a"\nvalue2 = "b"'})
    assert config.network.proxy == "a"


def test_the_places_are_no_config_keys(tmp_path: Path) -> None:
    """``STACK_COMPOSER_HOME`` and ``STACK_COMPOSER_CONFIG`` are read elsewhere."""
    environ = {"STACK_COMPOSER_HOME": "/x", "STACK_COMPOSER_CONFIG": "/y"}
    assert load(tmp_path, environ=environ).origins == {}


@pytest.mark.parametrize(
    "data",
    [
        b"[limits\n",
        b"a = 1\na = 2\n",
        b"\xff\xfe",
        b"a = " + b"[" * 100_000,
    ],
    ids=["torn", "twice", "no UTF-8", "deep"],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, data: bytes) -> None:
    """Broken TOML, other bytes and deep nesting are errors that name the file."""
    where = places(tmp_path)
    where.config_files[1].write_bytes(data)
    with pytest.raises(ConfigError, match=f"cannot read the config {where.config_files[1]}: "):
        load_config(where, {})


def test_a_file_may_have_one_mebibyte(tmp_path: Path) -> None:
    """A file at the limit is read, one byte more is refused."""
    where = places(tmp_path)
    where.config_files[1].write_bytes(b"#" * (1 << 20))
    load_config(where, {})
    where.config_files[1].write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load_config(where, {})


def test_a_config_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A folder in the file's place is no config."""
    where = places(tmp_path)
    where.config_files[0].mkdir()
    with pytest.raises(
        ConfigError, match=f"cannot read the config {where.config_files[0]}: not a r"
    ):
        load_config(where, {})


def test_an_explicit_config_must_exist(tmp_path: Path) -> None:
    """``--config`` of a missing file is an error; a default one that is missing is not."""
    missing = tmp_path / "missing.toml"
    found = find_places({}, tmp_path, home=tmp_path, config=missing)
    with pytest.raises(ConfigError, match=f"cannot read the config {missing}: No such file"):
        load_config(found, {})
    assert load_config(find_places({}, tmp_path, home=tmp_path), {}).origins == {}


def test_the_plugin_folders_expand_the_home(tmp_path: Path) -> None:
    """``~`` is the user's home; another user's ``~name`` is taken as it is written."""
    where = places(tmp_path)
    config = load(tmp_path, '[paths]\nuser_dir = "~"\nsystem_dir = "~/s/p"\n')
    assert configured_paths(config, where) == (Path("/home/user"), Path("/home/user/s/p"))
    other = load(tmp_path, '[paths]\nuser_dir = "~name/p"\nsystem_dir = "/s"\n')
    assert configured_paths(other, where) == (Path("~name/p"), Path("/s"))


def test_the_first_trust_store_that_exists_is_in_force(tmp_path: Path) -> None:
    """The system's if it is there, else the user's; none is created at the last place."""
    stores = (tmp_path / "etc.toml", tmp_path / "user.toml")
    where = places(tmp_path)
    both = Places(
        **{**{f.name: getattr(where, f.name) for f in fields(where)}, "trust_stores": stores}
    )
    assert trust_store_path(both) == stores[1]
    stores[1].touch()
    assert trust_store_path(both) == stores[1]
    stores[0].touch()
    assert trust_store_path(both) == stores[0]


def test_a_plugins_section_can_be_spared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Told and left out, all of it; anything else that is wrong is an error as ever."""
    path = tmp_path / "config" / "plugin-host.toml"
    path.parent.mkdir()
    path.write_text(
        '[plugins."a.b"]\nisolation = "inline"\nwhat = 1\n[plugins."a.c"]\nconstraint = "^1"\n',
        encoding="utf-8",
    )
    places = find_places({}, tmp_path, home=tmp_path)
    config = load_config(places, {}, spare_plugins=True)
    assert config.plugin("a.b") == PluginSection()
    assert config.plugin("a.c").constraint == "^1"
    assert "going on without that section" in caplog.text
    path.write_text("[update]\nwhat = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(places, {}, spare_plugins=True)


@pytest.mark.parametrize("target", ["plugin-host.toml", "nowhere.toml"])
def test_a_link_that_leads_nowhere_is_no_missing_file(tmp_path: Path, target: str) -> None:
    """Its operator meant something by it: the defaults must not come into force."""
    config = tmp_path / "config" / "plugin-host.toml"
    config.parent.mkdir()
    config.symlink_to(target)
    with pytest.raises(ConfigError, match=r"plugin-host\.toml"):
        load_config(find_places({}, tmp_path, home=tmp_path), {})


def test_no_webhook_is_an_empty_address(tmp_path: Path) -> None:
    """What a file says of a thing that another one set can be taken back."""
    assert load(tmp_path, '[hooks]\nwebhook = ""\n').hooks.webhook == ""
