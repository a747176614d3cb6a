"""What the API answers: JSON documents, and errors as contract §7 has them."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Send

from agent.errors import AgentError

SCHEMA_VERSION = 1

STATUS = {
    1: 500,
    2: 400,
    3: 404,
    4: 502,
    5: 502,
    6: 422,
    7: 422,
    8: 409,
    9: 422,
    10: 409,
    11: 503,
    12: 500,
    124: 504,
}
"""The HTTP status of an exit code; 403 stays for who has no rights."""

_EXIT_CODES = {403: 8, 404: 3}
_JSON = (b"content-type", b"application/json")


class RequestError(Exception):
    """A request that can't be taken as it is.

    Attributes:
        status: The HTTP status.
        code: A kebab-case word, as in ``AgentError.code``.
        is_last: Whether the connection can't be used any more: the body was not read.
    """

    def __init__(self, status: int, code: str, message: str, *, is_last: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.is_last = is_last


def bad(message: str) -> RequestError:
    """A request that says something that can't be."""
    return RequestError(400, "usage", message)


def encoded(fields: Mapping[str, Any]) -> bytes:
    """A JSON document; ASCII, whatever plugins say."""
    return json.dumps({"schemaVersion": SCHEMA_VERSION, **fields}).encode("ascii")


def error_fields(cause: AgentError) -> dict[str, Any]:
    """The ``error`` of a document; ``exit_code`` is the command line's for it."""
    return {
        "code": cause.code,
        "message": cause.message,
        "hint": cause.hint,
        "exit_code": cause.exit_code,
    }


def refused(error: RequestError) -> bytes:
    """The document of a request that was not taken."""
    exit_code = _EXIT_CODES.get(error.status, 2)
    fields = {"code": error.code, "message": str(error), "hint": None, "exit_code": exit_code}
    return encoded({"error": fields})


async def answer(
    send: Send,
    body: bytes,
    status: int = 200,
    *,
    kind: bytes = _JSON[1],
    is_last: bool = False,
    allow: bytes | None = None,
) -> None:
    """Send a whole answer."""
    headers = [(_JSON[0], kind), (b"content-length", b"%d" % len(body))]
    if is_last:
        headers.append((b"connection", b"close"))
    if allow is not None:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
