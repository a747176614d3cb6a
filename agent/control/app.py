"""The API as one ASGI application: rights first, then routes, then errors in one place."""

import asyncio
import contextlib
import functools
import json
import logging
import time

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.control.agency import Agency
from agent.control.answers import STATUS, RequestError, answer, encoded, error_fields, refused
from agent.control.bounds import Bounds
from agent.control.calls import Calls
from agent.control.document import document
from agent.control.follow import Following, events, logs
from agent.control.peers import Access
from agent.control.pool import Pool
from agent.control.reads import Looks, Updates
from agent.control.requests import caller_of, query
from agent.control.streams import Streams
from agent.errors import BusyError, translated

_LOG = logging.getLogger("stack_composer.control")
_READS = ("GET", "HEAD")
_CLOSE_S = 5.0


class Fixed:
    """An ASGI application that always answers the same."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Take one request."""
        query(scope, {})
        await answer(send, self._body)


class Api:
    """See the module.

    Args:
        agency: The service.
        bounds: How much a peer may cost it.
    """

    def __init__(self, agency: Agency, bounds: Bounds) -> None:
        def pool(name: str, threads: int, most: int) -> Pool:
            return Pool(f"control-{name}", threads=threads, most=most, patience_s=bounds.queue_s)

        calls = pool("call", bounds.calls, 4 * bounds.calls)
        reads = pool("read", bounds.readers, 4 * bounds.readers)
        updates = pool("update", bounds.updates, 4 * bounds.updates)
        # All may be woken at once, when what those read that have just ended is not over yet.
        streams = pool("stream", bounds.readers, 2 * bounds.streams)
        self._pools = (calls, reads, updates, streams)
        self._streams = Streams(streams, bounds)
        looks = Looks(agency, reads, bounds)
        feed = self._streams.bell(agency.feed, "control-events")
        book = self._streams.bell(agency.logs, "control-logs")
        paths: dict[str, tuple[str, ASGIApp]] = {
            "/v1/plugins/{id}/calls": ("POST", Calls(agency, calls, bounds)),
            "/v1/status": ("GET", looks.status()),
            "/v1/plugins": ("GET", looks.plugins()),
            "/v1/plugins/{id}": ("GET", looks.plugin()),
            "/v1/plugins/{id}/logs": (
                "GET",
                Following(self._streams, book, reads, bounds, logs(agency)),
            ),
            "/v1/events": ("GET", Following(self._streams, feed, reads, bounds, events(agency))),
            "/v1/updates": ("POST", Updates(agency, updates, bounds)),
            "/openapi.json": ("GET", Fixed(encoded_document())),
            "/healthz": ("GET", Fixed(encoded({"status": "ok"}))),
            "/readyz": ("GET", looks.ready()),
            "/metrics": ("GET", looks.metrics()),
        }
        self._router = Router(
            [Route(path, app, methods=[method]) for path, (method, app) in paths.items()],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request, of whomever."""
        scope["app"] = self  # the router raises what it would else answer itself
        try:
            _require(caller_of(scope).access, scope["method"])
            await self._router(scope, receive, send)
        except RequestError as error:
            await answer(send, refused(error), error.status, is_last=error.is_last)
        except HTTPException as error:
            await _no_route(send, error)
        except asyncio.CancelledError:
            # The service ends, and waits no longer.
            fields = error_fields(BusyError("cannot answer any more: the service ends"))
            with contextlib.suppress(RuntimeError):  # the answer has begun
                await answer(send, encoded({"error": fields}), 503, is_last=True)
        except Exception as error:  # noqa: BLE001 - told, and logged where it is a mistake of ours
            cause = translated(error)
            if cause is None:
                _LOG.exception("cannot answer %s", scope["path"])
                fields = {
                    "code": "internal",
                    "message": "cannot answer: a mistake in the service, which its log tells",
                    "hint": None,
                    "exit_code": 1,
                }
                await answer(send, encoded({"error": fields}), 500)
                return
            fields = error_fields(cause)
            await answer(send, encoded({"error": fields}), STATUS.get(cause.exit_code, 500))

    def end_streams(self) -> None:
        """Let every stream end; on the event loop's thread."""
        self._streams.end()

    def close(self) -> None:
        """End the threads; what they still do goes on without anybody waiting."""
        self._streams.close()
        until_s = time.monotonic() + _CLOSE_S
        for pool in self._pools:
            if not pool.close(until_s - time.monotonic()):
                _LOG.warning("cannot wait for the threads of %s any longer", pool.name)


def _require(access: Access, method: str) -> None:
    """Stop who has no rights, whatever is asked for."""
    if access is Access.NONE:
        raise RequestError(403, "forbidden", "cannot answer: you have no rights here", is_last=True)
    if access is Access.READ and method not in _READS:
        raise RequestError(
            403,
            "forbidden",
            'cannot do that: your group may only read (control.group_access = "read")',
            is_last=True,
        )


async def _no_route(send: Send, error: HTTPException) -> None:
    code = {404: "not-found", 405: "usage"}.get(error.status_code, "usage")
    what = {404: "there is no such path", 405: "the path has other methods"}
    text = f"cannot answer: {what.get(error.status_code, error.detail)}; /openapi.json has them all"
    allow = (error.headers or {}).get("Allow")
    await answer(
        send,
        refused(RequestError(error.status_code, code, text)),
        error.status_code,
        is_last=True,
        allow=allow.encode("ascii") if allow else None,
    )


@functools.cache
def encoded_document() -> bytes:
    """The OpenAPI document as it is sent; it carries no schemaVersion: OpenAPI says what it has."""
    return json.dumps(document()).encode("ascii")
