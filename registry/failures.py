"""What a failed HTTP exchange means: the one table from statuses and exceptions to our errors."""

import json
import re
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from urllib3.exceptions import ProxyError, SSLError

from registry.errors import (
    AuthenticationError,
    ContentError,
    NetworkError,
    NotFoundError,
    RegistryError,
)

RETRIED_STATUSES = {429, 500, 502, 503, 504}
_CONTENT_CODES = {
    "BLOB_UPLOAD_INVALID",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "SIZE_INVALID",
}
_MAX_TEXT_CHARS = 300
# urllib3 begins its texts with the connection or the pool that they are about.
_OBJECT = re.compile(r"\A\w+\(host=[^)]*\): ")


def network_error(url: str, error: Exception) -> NetworkError:
    """Say that there was no whole answer, and why.

    Args:
        url: What was asked; only its host is shown.
        error: What urllib3 or the socket raised.
    """
    host = urlsplit(url).netloc
    if is_certificate(error):
        hint = "; give the registry's CA with --ca-file, or --plain-http if it speaks no TLS"
    else:
        hint = "; check the host, or try again later"
    return NetworkError(f"cannot reach {host}: {_one_line(_reason(error))}{hint}")


def is_certificate(error: Exception) -> bool:
    """Say whether TLS itself failed: asking again would not help."""
    return isinstance(error, SSLError)


def status_error(
    method: str, url: str, status: int, *, body: bytes, challenge: str | None
) -> RegistryError:
    """Translate an answer that was not the expected one.

    Args:
        method: The request's.
        url: The request's, redirects followed.
        status: The answer's.
        body: What the registry says went wrong (distribution specification, "Error Codes").
        challenge: ``WWW-Authenticate``.

    Returns:
        ``AuthenticationError`` for 401 and 403, ``NotFoundError`` for 404, ``NetworkError`` for
        429 and 5xx, ``ContentError`` where the registry calls the content invalid.
    """
    codes, text = _errors_of(body)
    message = f"cannot {method} {shown(url)}: got HTTP {status}{text}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return AuthenticationError(message + _authentication_hint(url, challenge or ""))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or codes & _CONTENT_CODES:
        return ContentError(message)
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if status in RETRIED_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NetworkError(message + "; try again later")
    return RegistryError(message)


def join(base: str, target: str) -> str:
    """Resolve a link that a registry gave against where it gave it.

    Raises:
        ContentError: It is no URL.
    """
    try:
        url = urljoin(base, target)
        # Asked for here, once: looking at a bad port is what raises.
        _ = urlsplit(url).port
    except ValueError as error:
        message = f"cannot follow {_one_line(target)} from {shown(base)}: {error}"
        raise ContentError(message) from error
    return url


def shown(url: str) -> str:
    """Take from a URL what may be secret: stores sign the links they give out in the query."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _reason(error: Exception) -> str:
    """Say what went wrong as the system does, without the objects that it went wrong in."""
    inner = next((part for part in error.args if isinstance(part, Exception)), error.__cause__)
    if isinstance(error, ProxyError) and isinstance(inner, Exception):
        return f"the proxy: {_reason(inner)}"
    if isinstance(inner, OSError):
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next((part for part in error.args if isinstance(part, str)), str(error))
    return _OBJECT.sub("", text).rstrip(".")


def _authentication_hint(url: str, challenge: str) -> str:
    if challenge.lower().startswith("bearer"):
        return "; this registry asks for a token, and tokens come in a later version"
    host = urlsplit(url).netloc
    return f"; put the user and password of {host} into the docker config, as docker login does"


def _errors_of(body: bytes) -> tuple[set[str], str]:
    try:
        errors = json.loads(body)["errors"]
        codes = {str(error["code"]) for error in errors}
        texts = [f"{error['code']}: {error.get('message') or ''}" for error in errors]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return set(), ""
    return codes, f" ({_one_line('; '.join(texts))})" if texts else ""


def _one_line(text: str) -> str:
    """Make a stranger's text fit to be part of a message."""
    return "".join(char if char.isprintable() else " " for char in text)[:_MAX_TEXT_CHARS]
