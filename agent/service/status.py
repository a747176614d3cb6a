"""What the service says of itself: values, no behaviour with effects."""

from dataclasses import dataclass

from agent.model import Decision


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One plugin in the service.

    Attributes:
        version: What serves; None where nothing does.
        state: active, trial, disabled or broken.
        due_at: When it is looked after next, in seconds since the epoch; None = not by itself.
        is_running: Whether a run is at it just now.
        last: What the last run decided.
        problem: Why its calls are refused; None where they are not.
    """

    plugin_id: str
    version: str | None
    state: str
    due_at: float | None
    is_running: bool
    last: Decision | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service as a whole.

    Attributes:
        version: The agent's.
        started_at: Seconds since the epoch.
        is_ready: Whether every plugin that can be loaded is.
        config_problem: Why the config on disk is not the one in force; None where it is.
    """

    pid: int
    version: str
    started_at: float
    is_ready: bool
    config_problem: str | None
    plugins: tuple[PluginStatus, ...]
