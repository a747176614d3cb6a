"""Lists that a registry gives in pages: followed to the end, on its own host, and never in a loop.

OCI distribution specification 1.1, "Listing Tags" and "Listing Referrers".
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin, urlsplit

from registry.errors import ContentError
from registry.links import join
from registry.transport import Transport

_MAX_PAGE_BYTES = 4 << 20
_MAX_PAGES = 100
_LINK = re.compile(r"<([^<>]+)>([^<>]*)")
_IS_NEXT = re.compile(r';\s*rel\s*=\s*("[^"]*\bnext\b[^"]*"|next\b)', re.ASCII | re.IGNORECASE)


def pages(
    transport: Transport, path: str, *, accept: str, what: str
) -> Iterator[tuple[bytes, Mapping[str, str]]]:
    """Fetch a list page by page: one request, more only if the registry gives it in parts.

    Args:
        transport: To the registry.
        path: Of the first page.
        accept: The ``Accept`` header.
        what: How messages call the list.

    Yields:
        Each page's bytes, at most 4 MiB, and its headers.

    Raises:
        ContentError: The next page is on another host, or the pages have no end.
        RegistryError: See ``Transport.get``.
    """
    seen: set[str] = set()
    url = urljoin(transport.origin, path)
    while url not in seen and len(seen) < _MAX_PAGES:
        seen.add(url)
        raw, headers = transport.get(url, accept=accept, max_bytes=_MAX_PAGE_BYTES, what=what)
        yield raw, headers
        links = _LINK.findall(headers.get("Link") or "")
        target = next((to for to, said in links if _IS_NEXT.search(said)), None)
        if target is None:
            return
        url = join(url, target)
        if urlsplit(url)[:2] != urlsplit(transport.origin)[:2]:
            message = f"cannot read {what}: the next page is on another host"
            raise ContentError(message)
    message = f"cannot read {what}: after {len(seen)} pages there is no end"
    raise ContentError(message)
