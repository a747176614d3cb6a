"""The grammar of references: what a user types, and where a plugin's repository is. Pure.

Contract §4, "References".
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from registry.errors import ReferenceFormatError
from registry.version_tags import parse_tag, tag_to_version

_SEGMENT = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_PLUGIN_ID = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})+")
_MAX_ID_CHARS = 128
_NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_NAME_PART}(?:/{_NAME_PART})*")
_MAX_NAME_CHARS = 255
_HOST = re.compile(
    r"(?:(?P<dns>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*)"
    r"|\[(?P<ipv6>[0-9a-f:.]{2,45})\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_MAX_HOST_CHARS = 253
_MAX_PORT = 65535
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LAYOUT = "oci:"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Bases:
    """Where plugins are looked for that were named by ID alone.

    Attributes:
        default: A registry base, ``HOST[/PATH]`` or ``oci:DIR``.
        namespaces: Bases of the IDs that start with these whole segments.
        home: What ``~`` stands for.
        working_folder: What a relative DIR starts from; ``None`` leaves it relative.
    """

    default: str
    namespaces: Mapping[str, str]
    home: Path
    working_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class HttpLocation:
    """A repository behind the OCI distribution API.

    Attributes:
        host: With its port if one was given: ``registry.example.com:5000``, ``[::1]:5000``.
        name: The repository's path; its last component is the plugin's ID.
    """

    host: str
    name: str

    @property
    def plugin_id(self) -> str:
        """The ID of the plugin that belongs here."""
        return self.name.rpartition("/")[2]

    @property
    def text(self) -> str:
        """What ``parse_location`` reads back."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True)
class LayoutLocation:
    """A repository in an OCI image layout: a folder, no server.

    Attributes:
        folder: DIR.
        name: The plugin's ID.
    """

    folder: Path
    name: str

    @property
    def plugin_id(self) -> str:
        """The ID of the plugin that belongs here."""
        return self.name

    @property
    def text(self) -> str:
        """What ``parse_location`` reads back."""
        folder = str(self.folder).rstrip("/")
        # A folder that is really called "~" must not come back as the home folder.
        return f"{_LAYOUT}{'./' if folder.startswith('~') else ''}{folder}/{self.name}"


Location = HttpLocation | LayoutLocation


@dataclass(frozen=True, slots=True)
class Reference:
    """One plugin, and which of its releases.

    Attributes:
        location: The repository.
        tag: The OCI tag (a version's ``+`` is written ``_``), if one was given.
        digest: ``sha256:<hex>`` of the manifest, if one was given; it wins over the tag.
    """

    location: Location
    tag: str | None = None
    digest: str | None = None

    @property
    def plugin_id(self) -> str:
        """The ID that the signed manifest must have."""
        return self.location.plugin_id

    @property
    def version(self) -> str | None:
        """The version the tag names; ``None`` for a channel and where there is no tag."""
        return None if self.tag is None else tag_to_version(self.tag)

    @property
    def text(self) -> str:
        """The reference written out in full; ``parse_reference`` reads it back."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.location.text}{tag}{digest}"


def parse_reference(text: str, bases: Bases) -> Reference:
    """Read a reference.

    Args:
        text: ``ID``, ``HOST/PATH/ID`` or ``oci:DIR/ID``, each with ``:TAG`` and ``@sha256:…`` or
            without.
        bases: Where a bare ID is to be found.

    Raises:
        ReferenceFormatError: A part is missing or malformed; the message names it.
    """
    rest, at, digest = text.rpartition("@")
    # An "@" further left belongs to a folder's name.
    if at and "/" not in digest:
        if not _DIGEST.fullmatch(digest):
            message = f"cannot use digest {digest[:80]!r}: expected sha256:<64 lowercase hex>"
            raise ReferenceFormatError(message)
    else:
        rest, digest = text, ""
    scheme = _LAYOUT if rest.startswith(_LAYOUT) else ""
    head, slash, last = rest.removeprefix(scheme).rpartition("/")
    name, colon, tag = last.partition(":")
    if scheme or slash:
        location = _location(f"{scheme}{head}{slash}{name}", bases)
    else:
        location = locate(name, bases)
    return Reference(location, parse_tag(tag) if colon else None, digest or None)


def locate(plugin_id: str, bases: Bases) -> Location:
    """Find the repository of a plugin that is known by its ID alone.

    Args:
        plugin_id: Such as ``org.example.hello``.
        bases: The longest namespace whose segments all match wins, else the default.

    Raises:
        ReferenceFormatError: The ID or the base is malformed.
    """
    _check_id(plugin_id)
    segments = plugin_id.split(".")
    for length in range(len(segments), 0, -1):
        base = bases.namespaces.get(".".join(segments[:length]))
        if base is not None:
            return _join(base, plugin_id, bases)
    return _join(bases.default, plugin_id, bases)


def parse_location(text: str, home: Path) -> Location:
    """Read a location back from its text form: no tag, no digest.

    Args:
        text: ``HOST/PATH/ID`` or ``oci:DIR/ID``.
        home: What ``~`` stands for.

    Raises:
        ReferenceFormatError: It is malformed.
    """
    return _location(text, Bases(default="", namespaces={}, home=home))


def parse_host(text: str) -> str:
    """Read the name of a registry, ``HOST[:PORT]``, as it stands before a reference's first ``/``.

    Raises:
        ReferenceFormatError: It is malformed.
    """
    if "." not in text and ":" not in text and text != "localhost":
        message = f"cannot use host {text[:80]!r}: expected one with '.' or ':', or localhost"
        raise ReferenceFormatError(message)
    return _host(text)


def _join(base: str, plugin_id: str, bases: Bases) -> Location:
    if base == _LAYOUT:
        message = f"cannot use registry base {base!r}: expected oci:DIR"
        raise ReferenceFormatError(message)
    try:
        # One slash only: a base that ends in several is a mistake.
        return _location(f"{base.removesuffix('/')}/{plugin_id}", bases)
    except ReferenceFormatError as error:
        message = f"cannot use registry base {base!r} for {plugin_id}: {error}"
        raise ReferenceFormatError(message) from error


def _location(text: str, bases: Bases) -> Location:
    if _CONTROL.search(text):
        message = f"cannot use reference {text[:200]!r}: it has control characters"
        raise ReferenceFormatError(message)
    if text.startswith(_LAYOUT):
        return _layout_location(text, bases)
    host, slash, name = text.partition("/")
    if "." not in host and ":" not in host and host != "localhost":
        message = (
            f"cannot use reference {text[:200]!r}: got {host[:80]!r} before the first '/', "
            "expected a host (with '.' or ':', or localhost) or oci:DIR"
        )
        raise ReferenceFormatError(message)
    host = _host(host)
    if not slash or len(name) > _MAX_NAME_CHARS or not _NAME.fullmatch(name):
        message = (
            f"cannot use repository {name[:260]!r} on {host}: expected lowercase parts "
            "of letters, digits and . _ - between single slashes"
        )
        raise ReferenceFormatError(message)
    _check_id(name.rpartition("/")[2])
    return HttpLocation(host, name)


def _layout_location(text: str, bases: Bases) -> LayoutLocation:
    path, slash, name = text.removeprefix(_LAYOUT).rpartition("/")
    if not slash:
        message = f"cannot use reference {text[:200]!r}: expected oci:DIR/ID"
        raise ReferenceFormatError(message)
    if text.startswith("oci://"):
        message = (
            f"cannot use reference {text[:200]!r}: oci: names a folder; for a registry "
            "leave 'oci://' out"
        )
        raise ReferenceFormatError(message)
    _check_id(name)
    if path == "~" or path.startswith("~/"):
        folder = bases.home / path[2:].lstrip("/")
    elif path.startswith("~"):
        message = f"cannot use folder {path[:200]!r}: only ~ of the user is known, not ~NAME"
        raise ReferenceFormatError(message)
    else:
        folder = Path(path or "/")
    if bases.working_folder is not None:
        folder = bases.working_folder / folder
    return LayoutLocation(folder, name)


@functools.lru_cache(maxsize=64)  # a run over many plugins reads the same few over and over
def _host(text: str) -> str:
    match = _HOST.fullmatch(text) if len(text) <= _MAX_HOST_CHARS else None
    if match is None:
        message = f"cannot use host {text[:260]!r}: expected a lowercase name or address, [:port]"
        raise ReferenceFormatError(message)
    port = match["port"]
    if port is not None and int(port) > _MAX_PORT:
        message = f"cannot use host {text!r}: got port {port}, expected 1 to {_MAX_PORT}"
        raise ReferenceFormatError(message)
    suffix = "" if port is None else f":{port}"
    try:
        if match["ipv6"] is not None:
            return f"[{IPv6Address(match['ipv6'])}]{suffix}"
        if match["dns"].rpartition(".")[2].isdigit():
            # Resolvers read "127.1" and "017.0.0.1" in ways that differ; one spelling stays.
            return f"{IPv4Address(match['dns'])}{suffix}"
    except ValueError as error:
        message = f"cannot use host {text!r}: {error}"
        raise ReferenceFormatError(message) from error
    return text


def _check_id(plugin_id: str) -> None:
    if len(plugin_id) > _MAX_ID_CHARS or not _PLUGIN_ID.fullmatch(plugin_id):
        message = (
            f"cannot use plugin ID {plugin_id[:140]!r}: expected reverse DNS such as "
            "org.example.hello (lowercase, two or more parts, at most 128 characters)"
        )
        raise ReferenceFormatError(message)
