"""JSON from strangers: UTF-8 only, one meaning only, never an exception of its own kind."""

import json
from typing import NoReturn

from registry.errors import ContentError


def parse_object(raw: bytes, what: str) -> dict[str, object]:
    """Parse one JSON object; the caller has bounded its size.

    Two programs that read a key given twice may see two different documents, so such a document
    is refused, as are ``NaN``, ``Infinity`` and text that is no Unicode.

    Args:
        raw: The document.
        what: How messages call it.

    Raises:
        ContentError: It is not UTF-8, not JSON, not an object, nested too deeply, or a key is
            there twice.
    """
    try:
        text = raw.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\" in text:
            # Only an escape can smuggle half a surrogate pair past the decoding above.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        message = f"cannot read {what}: its JSON is nested too deeply"
        raise ContentError(message) from None
    except ValueError as error:
        message = f"cannot read {what}: {error}"
        raise ContentError(message) from error
    if not isinstance(document, dict):
        message = f"cannot read {what}: got a JSON {type(document).__name__}, expected an object"
        raise ContentError(message)
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                message = f"key {key[:80]!r} is there twice"
                raise ValueError(message)
            seen.add(key)
    return document


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)
