"""status: what the service says."""

from typing import Any

from agent.cli.app import App, format_flag, verb
from agent.cli.remote import required_service

_MOST_CHARS = 100


@verb(name="status", examples="agent status\nagent status --format json")
@format_flag
def status_command(app: App) -> None:
    """Print how the service and each of its plugins are.

    Where no service runs, it ends with 3.
    """
    with required_service(app) as service:
        status = service.get("/v1/status")
    if app.out.as_json:
        del status["schemaVersion"]
        app.out.document(**status)
        return
    ready = "ready" if status["ready"] else "not ready"
    app.out.line(
        f"agent {status['version']}, {ready}, pid {status['pid']}, since {status['started_at']}"
    )
    if status["config_problem"]:
        app.out.line(f"  the config on disk is not in force: {status['config_problem']}")
    rows = [
        (one["id"], one["version"], one["state"], _next(one), _short(_last(one)))
        for one in status["plugins"]
    ]
    app.out.table(("ID", "VERSION", "STATE", "NEXT", "LAST"), rows)


def _next(plugin: dict[str, Any]) -> str | None:
    return "now" if plugin["running"] else plugin["due_at"]


def _last(plugin: dict[str, Any]) -> str | None:
    if plugin["problem"]:
        return str(plugin["problem"])
    last = plugin["last"]
    return f"{last['outcome']}: {last['detail']}" if last else None


def _short(text: str | None) -> str | None:
    """As much of a reason as a table takes; ``agent why`` has all of it."""
    return text if text is None or len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"
