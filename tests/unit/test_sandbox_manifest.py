"""The manifest: what contract section 2 takes, and what it refuses by file and key."""

import pytest

from sandbox.errors import IncompatibleError, ManifestError
from sandbox.manifest import MAX_MANIFEST_BYTES, manifest_stem
from sandbox.signature import BYTES_COMMAND, COMMAND, Signature
from support.sandbox import manifest_text, parse

WHOLE = """
[meta]
name = "Hello Plugin"
description = ""
license = "MIT"
authors = ["Jane Dev <jane@example.org>"]
homepage = "https://example.org"
source = "https://example.org/src"
keywords = ["greeting"]
[limits]
fuel_units = 5
mem_bytes = 6
wall_timeout_ms = 7
[health]
func = "health"
args = ["a", 1, 2.5]
[network]
hosts = ["api.example.org", "*.example.net:8443"]
[settings]
greeting = "hi"
times = 3
ratio = 0.5
loud = true
[exports.run]
params = ["string", "i32"]
result = "bytes"
[exports.reset]
"""


def test_every_key_of_the_contract_is_read() -> None:
    """A manifest that uses every key parses to exactly what it says."""
    manifest = parse(
        manifest_text(
            WHOLE,
            version='"1.2.3-rc.1+build.5"',
            capabilities='["log", "retrieval"]',
            abi="1",
            min_host='">=0.1"',
            instance='"reused"',
            kind='"wasm"',
        ).encode(),
        "hello.toml",
    )
    assert (manifest.id, manifest.version) == ("org.example.hello", "1.2.3-rc.1+build.5")
    assert (manifest.stem, manifest.signature_file) == ("hello", "hello.sig")
    assert manifest.capabilities == ("log", "retrieval")
    assert (manifest.abi, manifest.min_host, manifest.kind) == (1, ">=0.1", "wasm")
    assert (manifest.entry, manifest.instance) == ("run", "reused")
    assert manifest.meta.name == "Hello Plugin"
    assert manifest.meta.description == ""
    assert manifest.meta.authors == ("Jane Dev <jane@example.org>",)
    assert manifest.meta.keywords == ("greeting",)
    assert manifest.limits.fuel_units == 5
    assert manifest.limits.mem_bytes == 6
    assert manifest.limits.wall_timeout_ms == 7
    assert manifest.health is not None
    assert (manifest.health.func, manifest.health.args) == ("health", ("a", 1, 2.5))
    assert manifest.network_hosts == ("api.example.org", "*.example.net:8443")
    assert manifest.settings == {"greeting": "hi", "times": 3, "ratio": 0.5, "loud": True}
    assert manifest.exports == {
        "run": Signature(("string", "i32"), "bytes"),
        "reset": Signature((), "none"),
    }


def test_what_is_left_out_has_its_default() -> None:
    """Only the keys down to ``entry`` and ``meta.name`` are required."""
    manifest = parse(manifest_text().encode(), "hello.toml")
    assert (manifest.abi, manifest.min_host) == (1, None)
    assert (manifest.instance, manifest.kind) == ("fresh", "wasm")
    assert manifest.health is None
    assert manifest.limits.fuel_units is None
    assert (manifest.network_hosts, dict(manifest.settings), dict(manifest.exports)) == ((), {}, {})


@pytest.mark.parametrize(
    "key", ["id", "version", "wasm_target", "signature", "capabilities", "entry"]
)
def test_a_missing_required_key_is_named(key: str) -> None:
    """Each key that the contract requires is asked for by file and name."""
    with pytest.raises(ManifestError, match=rf"hello\.toml.*missing key 'plugin\.{key}'"):
        parse(manifest_text(without=key).encode(), "hello.toml")


@pytest.mark.parametrize(
    ("extra", "plugin", "named"),
    [
        ("", {"colour": "1"}, "plugin.colour"),
        ("[metta]\n", {}, "metta"),
        ('[meta]\nname = "x"\ncolour = 1\n', {}, "meta.colour"),
        ("[limits]\nfuel = 1\n", {}, "limits.fuel"),
        ('[health]\nfunc = "h"\nwhen = 1\n', {}, "health.when"),
        ("[network]\nports = []\n", {}, "network.ports"),
        ("[exports.run]\nparam = []\n", {}, "exports.run.param"),
    ],
)
def test_an_unknown_key_is_named(extra: str, plugin: dict[str, str], named: str) -> None:
    """An unknown key in any table is an error that names file and key."""
    with pytest.raises(ManifestError, match=rf"hello\.toml: unknown key '{named}'"):
        parse(manifest_text(extra, **plugin).encode(), "hello.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", '"hello"'),
        ("id", '"org.Example.hello"'),
        ("id", '"org..hello"'),
        ("id", '"org.-example"'),
        ("id", '"org.example\\n"'),
        ("id", f'"org.{"a" * 125}"'),
        ("id", "7"),
        ("version", '"1.0"'),
        ("version", '"01.0.0"'),
        ("version", '"1.0.0-01"'),
        ("version", '"1.0.0\\n"'),
        ("version", '"1.0.٣"'),
        ("version", f'"1.0.0-{"a" * 123}"'),
        ("wasm_target", '"wasm64"'),
        ("signature", '"hello.sig"'),
        ("signature", '"file:../hello.sig"'),
        ("signature", '"file:/hello.sig"'),
        ("signature", '"file:.hello.sig"'),
        ("signature", f'"file:{"a" * 65}.sig"'),
        ("signature", '"file:hello.pem"'),
        ("capabilities", '"log"'),
        ("capabilities", '["log", "log"]'),
        ("capabilities", '["Log"]'),
        ("capabilities", "[1]"),
        ("entry", '""'),
        ("entry", '"a b"'),
        ("abi", "0"),
        ("abi", "true"),
        ("abi", '"1"'),
        ("min_host", '"whatever"'),
        ("instance", '"shared"'),
    ],
)
def test_a_value_that_breaks_the_grammar_is_refused_by_key(key: str, value: str) -> None:
    """A value outside of the contract's grammar is refused with the key's name."""
    with pytest.raises(ManifestError, match=rf"hello\.toml: plugin\.{key}: got "):
        parse(manifest_text(**{key: value}).encode(), "hello.toml")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("[meta]\n", "meta.name"),
        ('[meta]\nname = ""\n', "meta.name"),
        ('[meta]\nname = "x"\nauthors = "me"\n', "meta.authors"),
        ("[limits]\nfuel_units = 0\n", "limits.fuel_units"),
        ("[limits]\nfuel_units = -1\n", "limits.fuel_units"),
        ("[limits]\nmem_bytes = 18446744073709551616\n", "limits.mem_bytes"),
        ("[limits]\nwall_timeout_ms = true\n", "limits.wall_timeout_ms"),
        ("[health]\n", "health.func"),
        ('[health]\nfunc = "h"\nargs = [true]\n', "health.args"),
        ('[network]\nhosts = ["http://x"]\n', "network.hosts"),
        ('[network]\nhosts = ["*"]\n', "network.hosts"),
        ("[settings]\nUpper = 1\n", "settings.Upper"),
        ('[settings]\na = "x\\u0000y"\n', "settings.a"),
        ("[settings]\na = [1]\n", "settings.a"),
        ('[exports.run]\nparams = ["u8"]\n', "exports.run.params"),
        ('[exports.run]\nresult = "u8"\n', "exports.run.result"),
        ('[exports]\nrun = "string"\n', "exports.run"),
        ('[exports._start]\nresult = "i32"\n', "exports._start.result"),
    ],
)
def test_a_wrong_value_in_another_table_is_refused_by_key(extra: str, named: str) -> None:
    """Every table's values are checked, and errors name the key with its table."""
    with pytest.raises(ManifestError, match=rf"hello\.toml.*{named}"):
        parse(manifest_text(extra).encode(), "hello.toml")


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("abi", "2", "plugin.abi is 2, this host has 1"),
        ("min_host", '">=9.0"', "plugin.min_host is .>=9.0., this host is 0.1.0"),
        ("kind", '"native"', "plugin.kind is 'native'"),
    ],
)
def test_what_another_host_runs_is_incompatible(key: str, value: str, match: str) -> None:
    """A newer ABI, a newer host and another kind are no format errors."""
    with pytest.raises(IncompatibleError, match=match):
        parse(manifest_text(**{key: value}).encode(), "hello.toml")


@pytest.mark.parametrize(("key", "value"), [("abi", "2"), ("min_host", '">=9.0"')])
def test_the_host_is_judged_before_unknown_keys(key: str, value: str) -> None:
    """A manifest of a newer host says "upgrade" and not "unknown key"."""
    text = manifest_text("[future]\n", colour="1", **{key: value})
    with pytest.raises(IncompatibleError, match="upgrade the host"):
        parse(text.encode(), "hello.toml")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b"[plugin",
        b"a = 1\na = 2\n",
        b"a = {x = 1,\n y = 2}\n",  # TOML 1.1
        b"a = " + b"[" * 30_000,
        b"a = " + b"9" * 5_000,
    ],
)
def test_what_is_not_toml_1_0_is_refused(data: bytes) -> None:
    """Bad UTF-8, bad TOML, TOML 1.1 and bottomless nesting are refused alike."""
    with pytest.raises(ManifestError, match=r"cannot read hello\.toml: not TOML 1\.0"):
        parse(data, "hello.toml")


def test_a_manifest_over_the_limit_is_refused_unparsed() -> None:
    """One byte over 64 KiB is too long; at the limit it is read."""
    text = manifest_text()
    comment = "#" * (MAX_MANIFEST_BYTES - len(text.encode()))
    assert parse((text + comment).encode(), "hello.toml").stem == "hello"
    with pytest.raises(ManifestError, match="expected at most 65536"):
        parse((text + comment + "#").encode(), "hello.toml")


def test_a_command_may_declare_what_its_stdout_is() -> None:
    """``[exports._start]`` chooses between text and bytes."""
    texts = parse(manifest_text('[exports._start]\nresult = "string"\n').encode(), "x")
    raw = parse(manifest_text('[exports._start]\nresult = "bytes"\n').encode(), "x")
    assert texts.exports["_start"] == COMMAND
    assert raw.exports["_start"] == BYTES_COMMAND


def test_the_stem_is_read_before_anything_else_is_judged() -> None:
    """The stem of a manifest that is broken elsewhere can still be named."""
    data = b'[plugin]\nsignature = "file:other.sig"\nid = 7\n'
    assert manifest_stem(data, name="x.toml") == "other"
    with pytest.raises(ManifestError, match="missing key 'plugin'"):
        manifest_stem(b"", name="x.toml")
