"""Edits of ``trusted_keys.toml`` as text, so that comments and layout stay (pure).

Whole lines are put in and single values replaced; the caller reads the result back and
compares it with what it meant. A TOML library that rewrites the document was tried first: with
[[key]] and [[deny]] tables mixed it moved tables about, and once dropped one.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from trust.keys import PublicKey

NEW_STORE = b"""\
# Whom this host believes. `agent trust` edits this file and keeps its comments.
schema = 1
serial = 0
"""

_SERIAL = re.compile(r"""^([ \t]*(?:serial|"serial"|'serial')[ \t]*=[ \t]*)[^\s#]+""", re.MULTILINE)
_KEY_HEADER = re.compile(r"""^[ \t]*\[\[[ \t]*(?:key|"key"|'key')[ \t]*\]\]""", re.MULTILINE)
_ANY_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
_STATUS = re.compile(
    r"""^([ \t]*(?:status|"status"|'status')[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*')""", re.MULTILINE
)

Value = str | list[str] | datetime


def key_table(
    key: PublicKey,
    *,
    owner: str,
    scopes: Iterable[str],
    registries: Iterable[str],
    max_capabilities: Iterable[str] | None,
    accepts: Iterable[str],
    not_before: datetime | None,
    not_after: datetime | None,
) -> dict[str, Value]:
    """Return the ``[[key]]`` table of a new key, not yet checked, without what is a default."""
    table: dict[str, Value] = {
        "id": key.key_id,
        "algorithm": "ed25519",
        "public": key.hex,
        "owner": owner,
        "scopes": list(scopes),
    }
    if origins := list(registries):
        table["registries"] = origins
    table["accepts"] = list(accepts)
    if max_capabilities is not None:
        table["max_capabilities"] = sorted(max_capabilities)
    if not_before is not None:
        table["not_before"] = not_before
    if not_after is not None:
        table["not_after"] = not_after
    table["status"] = "active"
    return table


def append_key(data: bytes, table: Mapping[str, Value], *, serial: int) -> bytes:
    """Return the file with one more ``[[key]]`` at its end.

    Args:
        data: The file, known to be a valid store.
        table: The new table, known to be valid.
        serial: The new serial.
    """
    return (_with_serial(data, serial) + "\n[[key]]\n" + _render(table)).encode()


def revoke_key(data: bytes, index: int, *, reason: str, at: datetime, serial: int) -> bytes:
    """Return the file with one key revoked.

    Args:
        data: The file, known to be a valid store.
        index: Which ``[[key]]``, counted from 0.
        reason: Why; one line of text.
        at: When; timezone-aware.
        serial: The new serial.
    """
    text = _with_serial(data, serial)
    headers = list(_KEY_HEADER.finditer(text))
    if index >= len(headers):  # written inline, key = [{…}]: the caller sees that nothing changed
        return data
    start = headers[index].end()
    following = _ANY_HEADER.search(text, start)
    end = following.start() if following else len(text)
    body = text[start:end]
    added: dict[str, Value] = {"revoked_at": at, "reason": reason}
    status = _STATUS.search(body)
    if status:
        body = body[: status.start()] + status[1] + '"revoked"' + body[status.end() :]
        line_end = body.index("\n", status.start()) + 1
    else:
        added = {"status": "revoked", **added}
        line_end = body.index("\n") + 1
    body = body[:line_end] + _render(added) + body[line_end:]
    return (text[:start] + body + text[end:]).encode()


def _with_serial(data: bytes, serial: int) -> str:
    """Return the text with its serial replaced and its last line ended."""
    text = data.decode()
    if not text.endswith("\n"):
        text += "\n"
    return _SERIAL.sub(rf"\g<1>{serial}", text, count=1)


def _render(table: Mapping[str, Value]) -> str:
    return "".join(f"{name} = {_render_value(value)}\n" for name, value in table.items())


def _render_value(value: Value) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    # What JSON writes for printable text is a TOML basic string, or an array of them.
    return json.dumps(value, ensure_ascii=False)
