"""What the config may name outside of us: commands that are run, an address that is called."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def command(words: tuple[str, ...]) -> tuple[str, ...]:
    """What can be run as it stands: there is no shell, and no folder that it would be in.

    Raises:
        ValueError: The program is a path that does not begin with ``/``, or nothing at all; or
            a word has a NUL.
    """
    if words and (not words[0] or ("/" in words[0] and not words[0].startswith("/"))):
        raise ValueError
    if any("\0" in word for word in words):
        raise ValueError
    return words


def address(text: str) -> str:
    """An address of HTTPS, or of HTTP on this machine; or none.

    Raises:
        ValueError: It is another.
    """
    if not text:
        return text
    parts = urlsplit(text)
    host = parts.hostname
    if not host or not text.isascii() or not text.isprintable() or " " in text or parts.port == 0:
        raise ValueError
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        raise ValueError
    return text


def shown_address(text: str) -> str:
    """An address without what may be a secret: user, path and query."""
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/***" if text else ""


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
