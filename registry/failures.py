"""What a failed HTTP exchange means: the one table from statuses and exceptions to our errors."""

import json
import re
from http import HTTPStatus
from urllib.parse import urlsplit

from urllib3.exceptions import ProxyError, SSLError

from registry.errors import (
    AuthenticationError,
    ContentError,
    NetworkError,
    NotFoundError,
    RegistryError,
    one_line,
)
from registry.links import shown

RETRIED_STATUSES = {408, 429, 500, 502, 503, 504}
# nginx answers 400 to who shows no client certificate, or a wrong one; its own are 495 and 496.
_CERTIFICATE_STATUSES = {400, 495, 496}
_WANTS_CERTIFICATE = re.compile(r"(?i)alert.*(certificate|handshake.failure|unknown.ca)")
_CONTENT_CODES = {
    "BLOB_UPLOAD_INVALID",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "SIZE_INVALID",
}
# urllib3 begins its texts with the connection or the pool that they are about.
_OBJECT = re.compile(r"\A\w+\(host=[^)]*\): ")


def network_error(url: str, error: Exception) -> NetworkError:
    """Say that there was no whole answer, and why.

    Args:
        url: What was asked; only its host is shown.
        error: What urllib3 or the socket raised.
    """
    host = urlsplit(url).netloc
    reason = one_line(_reason(error))
    if is_certificate(error) and _WANTS_CERTIFICATE.search(reason):
        hint = _certificate_hint(host)
    elif is_certificate(error):
        hint = "; give the registry's CA with --ca-file, or --plain-http if it speaks no TLS"
    else:
        hint = "; check the host, or try again later"
    return NetworkError(f"cannot reach {host}: {reason}{hint}")


def is_certificate(error: Exception) -> bool:
    """Say whether TLS itself failed: asking again would not help."""
    return isinstance(error, SSLError)


def status_error(method: str, url: str, status: int, *, body: bytes, host: str) -> RegistryError:
    """Translate an answer that was not the expected one.

    Args:
        method: The request's.
        url: The request's, redirects followed.
        status: The answer's.
        body: What the registry says went wrong (distribution specification, "Error Codes").
        host: The registry, whoever answered for it.

    Returns:
        ``AuthenticationError`` for 401 and 403, ``NotFoundError`` for 404, ``NetworkError`` for
        429 and 5xx, ``ContentError`` where the registry calls the content invalid.
    """
    codes, text = _errors_of(body)
    message = f"cannot {method} {shown(url)}: got HTTP {status}{text}"
    if status in _CERTIFICATE_STATUSES and b"SSL certificate" in body:
        return AuthenticationError(message + _certificate_hint(host))
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return AuthenticationError(f"{message}; agent login {host}, if you may use it")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or codes & _CONTENT_CODES:
        return ContentError(message)
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if status in RETRIED_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NetworkError(message + "; try again later")
    return RegistryError(message)


def _certificate_hint(host: str) -> str:
    return f'; it wants a client certificate: client_cert, client_key of [registry.hosts."{host}"]'


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


def _errors_of(body: bytes) -> tuple[set[str], str]:
    try:
        errors = json.loads(body)["errors"]
        codes = {str(error["code"]) for error in errors}
        texts = [f"{error['code']}: {error.get('message') or ''}" for error in errors]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return set(), ""
    return codes, f" ({one_line('; '.join(texts))})" if texts else ""
