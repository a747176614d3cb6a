"""A plugin's manifest: parsed, judged and typed (contract section 2). Pure.

The bytes come from strangers: they are read once, bounded, and refused by the name of the
file and the key. A manifest made for a newer host is judged by ``abi`` and ``min_host``
before its unknown keys are, so that its user learns to upgrade rather than of a "typo".
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import tomli

from sandbox.capabilities import ABI
from sandbox.errors import IncompatibleError, ManifestError
from sandbox.grammar import (
    CAPABILITY,
    EXPORT_NAME,
    HOST_PATTERN,
    PLUGIN_ID,
    SEMVER,
    SETTING_KEY,
    SIGNATURE_FILE,
)
from sandbox.limits import RequestedLimits
from sandbox.signature import BYTES_COMMAND, COMMAND, PARAMETER_TYPES, RESULT_TYPES, Signature
from sandbox.tables import Table

MAX_MANIFEST_BYTES = 65_536
MAX_VERSION_CHARACTERS = 128
MAX_ID_CHARACTERS = 128
WASM_TARGETS = ("wasm32-wasi", "wasm32-wasip1", "wasm32-wasip2", "wasm32-unknown-unknown")
KINDS = ("wasm",)
INSTANCES = ("fresh", "reused")

_REQUIRED_KEYS = {"id", "version", "wasm_target", "signature", "capabilities", "entry"}
_PLUGIN_KEYS = _REQUIRED_KEYS | {"abi", "min_host", "instance", "kind"}
_META_KEYS = {"name", "description", "license", "authors", "homepage", "source", "keywords"}
_LIMIT_KEYS = {"fuel_units", "mem_bytes", "wall_timeout_ms"}

Setting = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Meta:
    """``[meta]``: for people; nothing is decided by it. Escape it where it is shown."""

    name: str
    description: str | None = None
    license: str | None = None
    authors: tuple[str, ...] = ()
    homepage: str | None = None
    source: str | None = None
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """``[health]``: the function that says whether the plugin works, and its arguments."""

    func: str
    args: tuple[str | int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginManifest:
    """A manifest that kept every rule of contract section 2.

    Attributes:
        id: Reverse DNS.
        version: SemVer 2.0.0.
        wasm_target: As written.
        signature_file: A bare file name, ``<stem>.sig``.
        stem: What the three files are called.
        capabilities: What the plugin requests, in its order.
        entry: The function that runs where none is named.
        abi: The host API's major version.
        min_host: Cargo's requirement syntax, or None.
        instance: ``fresh`` or ``reused``.
        kind: ``wasm``.
        meta: For people.
        limits: What it asks for; the operator's bounds cap it.
        health: The health function, or None.
        network_hosts: The hosts it asks to reach.
        settings: Defaults of what the operator may set.
        exports: Declared signatures by function.
    """

    id: str
    version: str
    wasm_target: str
    signature_file: str
    stem: str
    capabilities: tuple[str, ...]
    entry: str
    abi: int
    min_host: str | None
    instance: str
    kind: str
    meta: Meta
    limits: RequestedLimits
    health: Health | None
    network_hosts: tuple[str, ...]
    settings: Mapping[str, Setting]
    exports: Mapping[str, Signature]


def parse_manifest(
    data: bytes, *, name: str, host_version: str, satisfies: Callable[[str, str], bool]
) -> PluginManifest:
    """Parse and judge a manifest.

    Args:
        data: The file's bytes.
        name: What error messages call the file.
        host_version: This host's version, for ``min_host``.
        satisfies: ``satisfies(version, requirement)``; ValueError for a bad requirement.

    Returns:
        The manifest, every rule of contract section 2 kept.

    Raises:
        IncompatibleError: ``abi``, ``min_host`` or ``kind`` is not this host's.
        ManifestError: Anything else, with the file and the key.
    """
    root = Table(_decode(data, name), name)
    plugin = root.table("plugin", required=True)
    abi = _judge_host(plugin, host_version, satisfies)
    root.only({"plugin", "meta", "limits", "health", "network", "settings", "exports"})
    plugin.only(_PLUGIN_KEYS)
    kind = plugin.text("kind", default="wasm")
    if kind not in KINDS:
        raise IncompatibleError(
            f"cannot use {name}: plugin.kind is {kind!r}, this host runs {', '.join(KINDS)}"
        )
    signature_file, stem = _signature_file(plugin)
    return PluginManifest(
        id=plugin.matching("id", PLUGIN_ID, "reverse DNS", longest=MAX_ID_CHARACTERS),
        version=plugin.matching("version", SEMVER, "SemVer", longest=MAX_VERSION_CHARACTERS),
        wasm_target=plugin.choice("wasm_target", WASM_TARGETS),
        signature_file=signature_file,
        stem=stem,
        capabilities=plugin.names("capabilities", CAPABILITY, "a capability", required=True),
        entry=plugin.matching("entry", EXPORT_NAME, "a function name"),
        abi=abi,
        min_host=plugin.text("min_host", default=None),
        instance=plugin.choice("instance", INSTANCES, default="fresh"),
        kind=kind,
        meta=_meta(root.table("meta", required=True)),
        limits=_limits(root.table("limits")),
        health=_health(root.table("health")),
        network_hosts=_network_hosts(root.table("network")),
        settings=_settings(root.table("settings")),
        exports=_exports(root.table("exports")),
    )


def manifest_stem(data: bytes, *, name: str) -> str:
    """The stem that a manifest's ``signature`` names, before anything else is judged.

    Raises:
        ManifestError: Not TOML, or no such key, or not ``file:<stem>.sig``.
    """
    return _signature_file(Table(_decode(data, name), name).table("plugin", required=True))[1]


def _decode(data: bytes, name: str) -> dict[str, object]:
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"cannot read {name}: got {len(data)} bytes, expected at most {MAX_MANIFEST_BYTES}"
        )
    try:
        text = data.decode("utf-8")
        values: dict[str, object] = tomli.loads(text)
        # tomli reads TOML 1.1; the standard library's reader is the gate that keeps 1.0
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ManifestError(f"cannot read {name}: not TOML 1.0: {reason}") from error
    return values


def _judge_host(plugin: Table, host_version: str, satisfies: Callable[[str, str], bool]) -> int:
    abi = plugin.integer("abi", default=ABI)
    if abi != ABI:
        raise IncompatibleError(
            f"cannot use {plugin.file}: plugin.abi is {abi}, this host has {ABI}; "
            "upgrade the host or take an older version of the plugin"
        )
    requirement = plugin.text("min_host", default=None)
    if requirement is None:
        return abi
    try:
        fits = satisfies(host_version, requirement)
    except ValueError as error:
        raise plugin.wrong("min_host", requirement, f"a version requirement ({error})") from error
    if not fits:
        raise IncompatibleError(
            f"cannot use {plugin.file}: plugin.min_host is {requirement!r}, "
            f"this host is {host_version}; upgrade the host or take an older version of the plugin"
        )
    return abi


def _signature_file(plugin: Table) -> tuple[str, str]:
    value = plugin.text("signature")
    match = SIGNATURE_FILE.fullmatch(value)
    if match is None:
        raise plugin.wrong("signature", value, '"file:<stem>.sig", a bare file name')
    return match["file"], match["stem"]


def _meta(meta: Table) -> Meta:
    meta.only(_META_KEYS)
    return Meta(
        name=meta.text("name"),
        description=meta.text("description", default=None),
        license=meta.text("license", default=None),
        authors=meta.texts("authors"),
        homepage=meta.text("homepage", default=None),
        source=meta.text("source", default=None),
        keywords=meta.texts("keywords"),
    )


def _limits(limits: Table) -> RequestedLimits:
    limits.only(_LIMIT_KEYS)
    return RequestedLimits(**{key: limits.integer(key) for key in limits})


def _health(health: Table) -> Health | None:
    if not health.present:
        return None
    health.only({"func", "args"})
    args = []
    for value in health.items("args"):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise health.wrong("args", value, "strings and numbers")
        args.append(value)
    return Health(health.matching("func", EXPORT_NAME, "a function name"), tuple(args))


def _network_hosts(network: Table) -> tuple[str, ...]:
    network.only({"hosts"})
    return network.names("hosts", HOST_PATTERN, "a host, *.host or host:port")


def _settings(settings: Table) -> Mapping[str, Setting]:
    values: dict[str, Setting] = {}
    for key in settings:
        value = settings.value(key)
        if SETTING_KEY.fullmatch(key) is None:
            raise settings.wrong(key, key, "a key of a-z, 0-9 and _")
        if not isinstance(value, str | int | float | bool):
            raise settings.wrong(key, value, "a string, a number or a boolean")
        if isinstance(value, str) and "\0" in value:
            raise settings.wrong(key, value, "text without NUL: it is an environment variable")
        values[key] = value
    return MappingProxyType(values)


def _exports(exports: Table) -> Mapping[str, Signature]:
    signatures: dict[str, Signature] = {}
    for func in exports:
        export = exports.table(func)
        export.only({"params", "result"})
        params = export.texts("params")
        for kind in params:
            if kind not in PARAMETER_TYPES:
                raise export.wrong("params", kind, f"one of {', '.join(PARAMETER_TYPES)}")
        result = export.choice("result", RESULT_TYPES, default="none")
        signature = Signature(params, result)
        if func == "_start":
            signature = _command(export, signature)
        signatures[func] = signature
    return MappingProxyType(signatures)


def _command(export: Table, signature: Signature) -> Signature:
    for command in (COMMAND, BYTES_COMMAND):
        if signature.result == command.result and set(signature.params) <= {"string"}:
            return command
    raise export.wrong("result", signature.result, "string or bytes for a command's stdout")
