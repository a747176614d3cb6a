"""JSON Schema (2020-12) of the API's shapes; pure."""

from collections.abc import Collection
from typing import Any

from sandbox.grammar import PLUGIN_ID

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_MAYBE: Json = {"type": ["string", "null"]}
_COUNT: Json = {"type": "integer", "minimum": 0}
_FLAG: Json = {"type": "boolean"}
_TIME: Json = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_MAX_ID_CHARS = 128


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Json, optional: Collection[str] = ()) -> Json:
    """An object whose fields are all there, but for the optional ones; more may be added."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _document(properties: Json, optional: Collection[str] = ()) -> Json:
    return _object({"schemaVersion": {"const": 1}, **properties}, optional)


def _request(properties: Json) -> Json:
    """An object that is sent: every key may be left out, and none may be added."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(items: Json, most: int | None = None) -> Json:
    return {"type": "array", "items": items, **({"maxItems": most} if most else {})}


def _only(name: str, value: Json) -> Json:
    return {
        "type": "object",
        "properties": {name: value},
        "required": [name],
        "additionalProperties": False,
    }


_BASE64 = _only("base64", {"type": "string", "contentEncoding": "base64"})
_NO_NUMBER = _only("float", {"enum": ["nan", "inf", "-inf"]})
_RECORD = {
    "at": _TIME,
    "level": {"enum": ["trace", "debug", "info", "warn", "error"]},
    "source": _TEXT,
    "message": {"type": "string", "description": "One line; control characters are escaped."},
}
_USED = {"fuel_used": _COUNT, "memory_peak_bytes": _COUNT, "took_ms": {"type": "number"}}

_FAILURE = _object({"code": _TEXT, "message": _TEXT, "hint": _MAYBE, "exit_code": _COUNT})
_HAPPENING = _object(
    {
        "number": _COUNT,
        "at": _TIME,
        "id": _TEXT,
        "event": _TEXT,
        "version": _MAYBE,
        "release": _MAYBE,
        "detail": _TEXT,
    }
)
_OUTCOME = _object(
    {
        "id": _TEXT,
        "from": _MAYBE,
        "to": _MAYBE,
        "release": _MAYBE,
        "digest": _MAYBE,
        "outcome": _TEXT,
        "step": _TEXT,
        "detail": _TEXT,
        "ungranted": _list(_TEXT),
        "error": {"anyOf": [_FAILURE, {"type": "null"}]},
    }
)
_PLUGIN = _object(
    {
        "id": _TEXT,
        "version": _TEXT,
        "release": _TEXT,
        "digest": _MAYBE,
        "state": {"enum": ["active", "trial", "disabled", "broken"]},
        "path": _TEXT,
        "source": _TEXT,
        "capabilities": _list(_TEXT),
        "key_id": _MAYBE,
    }
)
_TURN = _object(
    {
        "id": _TEXT,
        "version": _MAYBE,
        "state": _TEXT,
        "due_at": _MAYBE_TIME,
        "running": _FLAG,
        "last": {"type": ["object", "null"]},
        "problem": _MAYBE,
    }
)

SCHEMAS: Json = {
    "Id": {
        "type": "string",
        "pattern": f"^{PLUGIN_ID.pattern}$",
        "maxLength": _MAX_ID_CHARS,
        "examples": ["org.example.hello"],
    },
    "Anything": {"type": "object"},
    "Error": _document(
        {"error": _FAILURE, **_USED, "logs": _list(_ref("Record"))}, (*_USED, "logs")
    ),
    "Value": {
        "description": "Text, a number, bytes, or a number that JSON has no word for.",
        "anyOf": [_TEXT, {"type": "number"}, _BASE64, _NO_NUMBER],
    },
    "CallRequest": _request(
        {
            "function": {
                "type": ["string", "null"],
                "maxLength": 128,
                "description": "Null: the manifest's entry.",
            },
            "args": _list(_ref("Value"), 1_000),
        }
    ),
    "CallResult": _document(
        {
            "result": {"anyOf": [_ref("Value"), {"type": "null"}]},
            **_USED,
            "logs": _list(_ref("Record")),
        }
    ),
    "Record": _object(_RECORD),
    "Logs": _document({"logs": _list(_object({"number": _COUNT, **_RECORD})), "last": _COUNT}),
    "Events": _document({"events": _list(_HAPPENING), "last": _COUNT}),
    "Sent": {
        "type": "object",
        "description": "One server-sent event.",
        "properties": {
            "id": {"type": "string", "description": "The entry's number."},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["id", "data"],
    },
    "UpdateRequest": _request(
        {
            "ids": {**_list(_ref("Id"), 1_000), "description": "None: every installed plugin."},
            "dry_run": {**_FLAG, "default": False},
        }
    ),
    "Outcomes": _document({"plugins": _list(_OUTCOME)}),
    "Plugins": _document({"plugins": _list(_PLUGIN)}),
    "Status": _document(
        {
            "pid": _COUNT,
            "version": _TEXT,
            "started_at": _TIME,
            "ready": _FLAG,
            "config_problem": _MAYBE,
            "plugins": _list(_TURN),
        }
    ),
    "Health": _document({"status": {"const": "ok"}}),
    "Ready": _document({"ready": _FLAG, "config_problem": _MAYBE}),
}
