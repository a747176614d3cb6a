"""What hooks and the webhook are told, as JSON."""

import datetime as dt
import json

SCHEMA_VERSION = 1
_LONGEST_REASON = 4096


def notice(
    event: str,
    *,
    plugin_id: str,
    version: str | None,
    release: str | None,
    before: str | None,
    after: str | None,
    reason: str,
    at: float,
) -> bytes:
    """One event as a line of JSON; all that is no ASCII is escaped.

    Args:
        event: What happened: a word of ``agent history``, or ``activating``.
        plugin_id: The plugin.
        version: Of the release that it happened to.
        release: 64 hex; None where it is about none.
        before: The version that served before, as far as known.
        after: The version that serves from then on, or would; None where none does.
        reason: Why, for people; cut where it is very long.
        at: Seconds since the epoch.
    """
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "event": event,
        "id": plugin_id,
        "version": version,
        "release": release,
        "from": before,
        "to": after,
        "reason": reason[:_LONGEST_REASON],
        "at": dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(document).encode() + b"\n"
