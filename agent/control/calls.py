"""``POST /v1/plugins/{id}/calls``: a call, by the shortest way there is."""

import functools
from typing import Any

from starlette.types import Receive, Scope, Send

from agent.control.agency import Agency
from agent.control.answers import STATUS, answer, bad, encoded, error_fields
from agent.control.bounds import Bounds
from agent.control.pool import Pool
from agent.control.requests import caller_of, json_body, only, plugin_id
from agent.control.rows import record_row
from agent.control.values import Value, from_json, to_json
from agent.errors import translated
from agent.host import PluginHost
from sandbox import CallError, CallResult, LogRecord

_MAX_ARGUMENTS = 1_000
_MAX_NAME_CHARS = 128


class Calls:
    """An ASGI application.

    Args:
        agency: The service.
        pool: The threads that calls run on.
        bounds: Of the body.
    """

    def __init__(self, agency: Agency, pool: Pool, bounds: Bounds) -> None:
        self._agency = agency
        self._pool = pool
        self._bounds = bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        plugin = plugin_id(scope)
        document = await json_body(scope, receive, self._bounds)
        only(document, "function", "args")
        function, args = _function(document), _arguments(document)
        call = functools.partial(self._call, plugin, function, args)
        is_owner = caller_of(scope).is_owner
        status, body = await self._pool.run(call, is_owner=is_owner)
        await answer(send, body, status)

    def _call(self, plugin: str, function: str | None, args: list[Value]) -> tuple[int, bytes]:
        with self._agency.logs.collecting() as records, self._agency.serving() as host:
            try:
                result = _called(host, plugin, function, args)
            except Exception as error:
                cause = translated(error)
                if cause is None:
                    raise
                fields: dict[str, Any] = {"error": error_fields(cause), "logs": _rows(records)}
                if isinstance(error, CallError):
                    fields |= {
                        "fuel_used": error.stats.fuel_used,
                        "memory_peak_bytes": error.stats.memory_peak_bytes,
                        "took_ms": round(error.stats.took_ms, 3),
                    }
                return STATUS.get(cause.exit_code, 500), encoded(fields)
        return 200, encoded(
            {
                "result": to_json(result.value),
                "fuel_used": result.fuel_used,
                "memory_peak_bytes": result.memory_peak_bytes,
                "took_ms": round(result.took_ms, 3),
                "logs": _rows(records),
            }
        )


def _called(host: PluginHost, plugin: str, function: str | None, args: list[Value]) -> CallResult:
    if not host.is_loaded(plugin):
        # Pulled a moment ago, and not yet seen.
        host.load_installed(plugin)
    return host.call(function, args, plugin=plugin)


def _rows(records: list[LogRecord]) -> list[dict[str, object]]:
    return [record_row(record) for record in records]


def _function(document: dict[str, Any]) -> str | None:
    name = document.get("function")
    if name is not None and (not isinstance(name, str) or len(name) > _MAX_NAME_CHARS):
        raise bad(f"cannot use function: got {repr(name)[:80]}, expected a name or null")
    return name


def _arguments(document: dict[str, Any]) -> list[Value]:
    args = document.get("args", [])
    if not isinstance(args, list) or len(args) > _MAX_ARGUMENTS:
        raise bad(f"cannot use args: expected a list of at most {_MAX_ARGUMENTS}")
    try:
        return [from_json(item) for item in args]
    except ValueError as error:
        raise bad(f"cannot use args: {error}") from None
