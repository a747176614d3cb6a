"""Links that strangers give: resolved, compared and shown. Pure."""

import functools
import re
from urllib.parse import urljoin, urlsplit

from registry.errors import ContentError, RegistryError, one_line

# What every parser of URLs takes for the same host: with a backslash or a user name in it urllib3
# may go to another one than urllib names.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_PORTS = {"http": 80, "https": 443}
_HUB = "docker.io"
_HUB_API = "registry-1.docker.io"
_HUB_HOSTS = (_HUB, "index.docker.io", _HUB_API)
_HUB_SERVER = "https://index.docker.io/v1/"


@functools.lru_cache(maxsize=64)  # each request asks several times whose its URL is
def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: what may see a secret that belongs to another URL (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def join(base: str, target: str) -> str:
    """Resolve a link that a registry gave against where it gave it.

    Raises:
        ContentError: It is no URL, or one whose host is not plain.
    """
    try:
        url = urljoin(base, target)
        # Asked for here, once: looking at a bad port is what raises.
        _ = urlsplit(url).port
    except ValueError as error:
        message = f"cannot follow {one_line(target)} from {shown(base)}: {error}"
        raise ContentError(message) from error
    if urlsplit(url).scheme in _PORTS and not has_plain_host(url):
        message = (
            f"cannot follow {one_line(target)} from {shown(base)}: expected HOST[:PORT] in it, "
            "and neither blanks nor a user name"
        )
        raise ContentError(message)
    return url


def has_plain_host(url: str) -> bool:
    """Whether nobody can take a URL for one of another host than ``origin_of`` says."""
    is_visible = all(" " < char != "\x7f" for char in url)
    return is_visible and _AUTHORITY.fullmatch(urlsplit(url).netloc) is not None


def follow(base: str, target: str) -> str:
    """Resolve a link that requests are going to follow: never from https to anything less.

    Raises:
        ContentError: It is no URL.
        RegistryError: It leads out of https, or out of HTTP.
    """
    url = join(base, target)
    if urlsplit(url).scheme not in {"https", urlsplit(base).scheme}:
        message = f"cannot follow {shown(base)}: it leads to {shown(url)}, expected https"
        raise RegistryError(message)
    return url


def shown(url: str) -> str:
    """Take from a URL what may be secret: stores sign the links they give out in the query."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def api_host(host: str) -> str:
    """Where a registry's API is: Docker Hub's is not at the name that references have."""
    return _HUB_API if host in _HUB_HOSTS else host


def hosts_of(host: str) -> tuple[str, ...]:
    """The names under which credentials for a registry may be kept."""
    return _HUB_HOSTS if host in _HUB_HOSTS else (host,)


def server_of(host: str) -> str:
    """What docker calls a registry in its config and to credential helpers."""
    return _HUB_SERVER if host in _HUB_HOSTS else host
