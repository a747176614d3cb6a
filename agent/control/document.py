"""The API's own description: OpenAPI 3.1, with JSON Schema for every shape."""

from typing import Any

from agent import __version__
from agent.control.requests import LONGEST_PAGE, PAGE
from agent.control.schemas import SCHEMAS

Json = dict[str, Any]

_JSON = "application/json"
_ID: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "A plugin ID (reverse DNS).",
    "schema": {"$ref": "#/components/schemas/Id"},
}
_ANY_ERROR = {
    "400": "A wrong argument, or no such plugin ID",
    "403": "No rights: neither the service's user, nor root, nor the configured group",
    "404": "No such plugin or function",
    "408": "The request did not come in time",
    "431": "The headers are too long",
    "500": "It could not be done; a trap, fuel or memory of a plugin",
    "503": "Busy, or not ready",
    "504": "A deadline passed",
}
_BODY_ERRORS = {
    "409": "A rule of the operator's says no: a capability, a hold, disabled",
    "413": "The body is too long",
    "415": "The body is no application/json",
    "422": "A format, a signature, or health says no",
    "502": "The registry can't be reached, or wants other credentials",
}


def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stack Composer agent: control API",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "HTTP over a Unix socket. The peer's user and groups decide what it "
            "may do; fields may be added to any object, and are never renamed.",
        },
        "servers": [{"url": "http://localhost", "description": "over the socket"}],
        "paths": {
            "/v1/plugins": {"get": _get("plugins", "The installed plugins", "Plugins")},
            "/v1/plugins/{id}": {
                "get": _get("plugin", "Everything about one plugin", "Plugins", [_ID])
            },
            "/v1/plugins/{id}/calls": {
                "post": {
                    **_post("call", "Call a function of a plugin", "CallRequest", "CallResult"),
                    "parameters": [_ID],
                }
            },
            "/v1/plugins/{id}/logs": {
                "get": _following("logs", "What a plugin said lately", "Logs", [_ID])
            },
            "/v1/updates": {
                "post": _post("update", "Run an update now", "UpdateRequest", "Outcomes")
            },
            "/v1/events": {"get": _following("events", "What happened to plugins", "Events", [])},
            "/v1/status": {"get": _get("status", "How the service is", "Status")},
            "/openapi.json": {"get": _get("document", "This document", "Anything")},
            "/healthz": {"get": _get("healthz", "Whether it answers at all", "Health")},
            "/readyz": {"get": _ready()},
            "/metrics": {"get": _metrics()},
        },
        "components": {"schemas": SCHEMAS},
    }


def _get(name: str, summary: str, schema: str, parameters: list[Json] | None = None) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": _response(summary, _content(schema)), **_errors(_ANY_ERROR)},
    }


def _post(name: str, summary: str, request: str, schema: str) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": _content(request)},
        "responses": {
            "200": _response(summary, _content(schema)),
            **_errors({**_ANY_ERROR, **_BODY_ERRORS}),
        },
    }


def _following(name: str, summary: str, schema: str, parameters: list[Json]) -> Json:
    count = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    page = {"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": PAGE}
    content = {**_content(schema), "text/event-stream": {"schema": _ref("Sent")}}
    return {
        "operationId": name,
        "summary": summary,
        "description": "A page, or with `follow` (or `Accept: text/event-stream`) server-sent "
        "events: each entry is one `data:` line of JSON, its number the `id:`.",
        "parameters": [
            *parameters,
            _query("follow", "Go on as more comes.", {"enum": ["", "true", "false"]}),
            _query("after", "Only what has a higher number.", count),
            _query("limit", "How many at most; without `after` the newest.", page),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "description": "For a stream: as `after`, and wins over it.",
                "schema": count,
            },
        ],
        "responses": {"200": _response(summary, content), **_errors(_ANY_ERROR)},
    }


def _query(name: str, description: str, schema: Json) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }


def _ready() -> Json:
    found = _get("readyz", "Whether every plugin that can be loaded is", "Ready")
    either = {"schema": {"anyOf": [_ref("Ready"), _ref("Error")]}}
    found["responses"]["503"] = _response("Not ready", {_JSON: either})
    return found


def _metrics() -> Json:
    found = _get("metrics", "What was counted, in Prometheus' text format", "Anything")
    found["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


def _errors(errors: dict[str, str]) -> Json:
    found = {}
    for status, description in errors.items():
        # These two are said before there is anybody to write a document.
        content = {} if status in {"408", "431"} else _content("Error")
        found[status] = _response(description, content)
    return found


def _response(description: str, content: Json) -> Json:
    return {"description": description, **({"content": content} if content else {})}


def _content(schema: str) -> Json:
    return {_JSON: {"schema": _ref(schema)}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
