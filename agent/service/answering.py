"""Answering on the socket as the config in force says, also after it was read again."""

import logging
import threading

from agent.control.server import ControlServer, Settings
from agent.errors import AgentError, in_words
from agent.service.desk import Desk

_LOG = logging.getLogger("stack_composer.service")


class Answering:
    """Holds the control server; where there can't be one the service goes on without.

    Args:
        desk: What it answers from.

    Raises:
        BusyError: Another service answers there.
        ConfigError: The place or the group can't be used.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._server: ControlServer | None = None
        self._leaving: list[threading.Thread] = []
        self._heeded = desk.control
        try:
            self._server = self._begin(self._heeded)
        except OSError as error:
            self._say(error)

    def heed(self) -> None:
        """Answer by the config in force: by a new server, where that says something else."""
        before, self._heeded = self._heeded, self._desk.control
        if before is self._heeded or (before == self._heeded and self._is_answering()):
            return
        self._leave()
        try:
            self._server = self._begin(self._heeded)
        except (AgentError, OSError) as error:
            self._say(error)
        else:
            _LOG.info("answering on %s by the config that was read", self._heeded.path)

    def close(self) -> None:
        """Answer no more; what is being answered ends first, within the server's bound."""
        self._leave()
        for thread in self._leaving:
            thread.join()

    def _begin(self, settings: Settings) -> ControlServer:
        return ControlServer(self._desk, settings, self._desk.context().files)

    def _is_answering(self) -> bool:
        return self._server is not None and self._server.is_alive

    def _leave(self) -> None:
        """Make room for the next one at once; calls in flight end beside it."""
        server, self._server = self._server, None
        if server is not None:
            server.withdraw()
            self._leaving = [thread for thread in self._leaving if thread.is_alive()]
            thread = threading.Thread(target=server.close, name="control leaves")
            thread.start()
            self._leaving.append(thread)

    def _say(self, error: Exception) -> None:
        _LOG.warning(
            "cannot answer on %s: %s; going on without", self._heeded.path, in_words(error)
        )
