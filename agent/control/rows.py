"""What the API says of each thing: JSON objects, as the command line prints them."""

from typing import TYPE_CHECKING

from agent.control.agency import Happening
from agent.control.answers import error_fields
from agent.control.values import LEVELS
from agent.model import Outcome
from agent.service.status import PluginStatus, ServiceStatus
from agent.verbs.inventory import moment
from agent.verbs.rows import decision_row, outcome_row

if TYPE_CHECKING:
    from sandbox import LogRecord


def record_row(record: "LogRecord") -> dict[str, object]:
    """One thing that a plugin said."""
    return {
        "at": moment(record.at_s),
        "level": LEVELS[record.level],
        "source": record.source,
        "message": record.message,
    }


def happening_row(happening: Happening) -> dict[str, object]:
    """One thing that happened to a plugin."""
    event = happening.event
    return {
        "number": happening.number,
        "at": moment(event.at),
        "id": event.plugin_id,
        "event": event.kind,
        "version": event.version,
        "release": event.release,
        "detail": event.detail,
    }


def status_fields(status: ServiceStatus) -> dict[str, object]:
    """How the service is."""
    return {
        "pid": status.pid,
        "version": status.version,
        "started_at": moment(status.started_at),
        "ready": status.is_ready,
        "config_problem": status.config_problem,
        "plugins": [_plugin_row(one) for one in status.plugins],
    }


def updated_row(outcome: Outcome) -> dict[str, object]:
    """What became of one plugin, and all that a command needs to say so as for its own run."""
    error = outcome.error
    return {
        **outcome_row(outcome),
        "ungranted": list(outcome.ungranted),
        "error": None if error is None else error_fields(error),
    }


def _plugin_row(plugin: PluginStatus) -> dict[str, object]:
    return {
        "id": plugin.plugin_id,
        "version": plugin.version,
        "state": plugin.state,
        "due_at": None if plugin.due_at is None else moment(plugin.due_at),
        "running": plugin.is_running,
        "last": None if plugin.last is None else decision_row(plugin.last),
        "problem": plugin.problem,
    }
