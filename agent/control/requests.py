"""What a request says, checked: the id in its path, its query, its body."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from agent.control.answers import RequestError, bad
from agent.control.bounds import Bounds
from agent.control.protocol import Caller
from sandbox.grammar import PLUGIN_ID

_MAX_ID_CHARS = 128
_MAX_NUMBER = 2**63 - 1
_MAX_FIELDS = 8
_TRUTHS = {"": True, "true": True, "false": False}
PAGE = 100
"""Entries of a page where no limit is given."""
LONGEST_PAGE = 1000


def caller_of(scope: Scope) -> Caller:
    """Who asks."""
    caller: Caller = scope["state"]["caller"]
    return caller


def plugin_id(scope: Scope) -> str:
    """The plugin that the path names: no other text reaches disk or ledger.

    Raises:
        RequestError: It is no plugin ID.
    """
    return checked_id(scope["path_params"]["id"])


def checked_id(text: object) -> str:
    """A plugin ID.

    Raises:
        RequestError: It is none.
    """
    if isinstance(text, str) and len(text) <= _MAX_ID_CHARS and PLUGIN_ID.fullmatch(text):
        return text
    raise bad(f"cannot use the id {repr(text)[:140]}: expected one such as org.example.hello")


def query(scope: Scope, known: Mapping[str, type]) -> dict[str, Any]:
    """The fields of the query.

    Args:
        scope: The request.
        known: A name's type: bool or int.

    Raises:
        RequestError: One is unknown, comes twice, or is no such value.
    """
    found: dict[str, Any] = {}
    try:
        text = scope["query_string"].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise bad("cannot read the query: expected a few fields in ASCII") from None
    for name, value in pairs:
        kind = known.get(name)
        if kind is None or name in found:
            expected = ", ".join(known) or "none"
            raise bad(f"cannot use the query field {name[:40]!r}: expected each once of {expected}")
        found[name] = _truth(name, value) if kind is bool else number(name, value)
    return found


def number(name: str, text: str) -> int:
    """A number that something is counted by.

    Raises:
        RequestError: It is none.
    """
    is_short = len(text) <= len(str(_MAX_NUMBER))
    if is_short and text.isascii() and text.isdecimal() and int(text) <= _MAX_NUMBER:
        return int(text)
    raise bad(f"cannot use {name}: got {text[:40]!r}, expected a whole number of at least 0")


def _truth(name: str, text: str) -> bool:
    if text not in _TRUTHS:
        raise bad(f"cannot use {name}: got {text[:40]!r}, expected true or false")
    return _TRUTHS[text]


async def json_body(scope: Scope, receive: Receive, bounds: Bounds) -> dict[str, Any]:
    """The object that the body is.

    Raises:
        RequestError: It is too long, too slow, or no such thing.
    """
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise RequestError(
            415, "usage", "cannot read the body: expected application/json", is_last=True
        )
    data = await _body(receive, headers.get(b"content-length", b"0"), bounds)
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise bad("cannot read the body: expected JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise bad(f"cannot use the body: got {repr(document)[:80]}, expected an object")
    return document


def only(document: Mapping[str, Any], *known: str) -> None:
    """Stop at a key that nobody would look at.

    Raises:
        RequestError: There is one.
    """
    for name in document:
        if name not in known:
            raise bad(f"cannot use the key {name[:40]!r}: expected {', '.join(known)}")


async def _body(receive: Receive, announced: bytes, bounds: Bounds) -> bytes:
    # The parser refused what is no number.
    if int(announced) > bounds.body_bytes:
        raise _too_long(bounds)
    data = bytearray()
    try:
        async with asyncio.timeout(bounds.body_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestError(400, "usage", "the caller has gone", is_last=True)
                data += message["body"]
                if len(data) > bounds.body_bytes:
                    raise _too_long(bounds)
                if not message["more_body"]:
                    return bytes(data)
    except TimeoutError:
        message_text = f"cannot wait for the body any longer than {bounds.body_s:g} s"
        raise RequestError(408, "usage", message_text, is_last=True) from None


def _too_long(bounds: Bounds) -> RequestError:
    return RequestError(
        413,
        "usage",
        f"cannot take the body: expected ≤ {bounds.body_bytes} bytes (control.max_body_bytes)",
        is_last=True,
    )


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)
