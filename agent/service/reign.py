"""One config in force, and what was wired by it: the installation and the host that serves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.context import Context
from agent.control.address import socket_path
from agent.control.server import Settings
from agent.host import PluginHost
from agent.settings.windows import Window, read_windows
from agent.telemetry import Telemetry

if TYPE_CHECKING:
    from sandbox import LogRecord


@dataclass(frozen=True, slots=True)
class Reign:
    """See the module.

    Attributes:
        telemetry: Where spans and figures go; outlives the reign.
        windows: The maintenance windows, read.
        control: How to answer on the socket.
    """

    context: Context
    host: PluginHost
    telemetry: Telemetry
    windows: tuple[Window, ...]
    control: Settings

    @classmethod
    def begin(
        cls,
        context: Context,
        telemetry: Telemetry,
        *,
        on_load: Callable[[str], object],
        on_log: "Callable[[LogRecord], None]",
    ) -> "Reign":
        """Open a host by a config; no plugin is loaded yet."""
        windows = read_windows(context.config.update.windows)
        control = Settings.of(context.config.control, socket_path(context.places.socket))
        # It has no application's functions: what imports some must load here all the same.
        host = PluginHost(
            context=context,
            telemetry=telemetry,
            on_log=on_log,
            on_load=on_load,
            stands_in=True,
        )
        return cls(context, host, telemetry, windows, control)

    def mode(self, plugin_id: str) -> str:
        """How a plugin is updated: auto, notify or manual."""
        return self.context.config.mode(plugin_id)

    def close(self, *, drain_s: float = 0) -> None:
        """Wait for running calls, so long at most, and let go of everything."""
        self.host.close(drain_s=drain_s)
        self.context.close()
