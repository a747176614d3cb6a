"""The server: a thread with an event loop, from the bound socket to the last answer."""

import asyncio
import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from agent.control.agency import Agency
from agent.control.app import Api
from agent.control.binding import Bound, bind
from agent.control.bounds import Bounds
from agent.control.peers import Rights, rights
from agent.control.protocol import Gate, guarded
from agent.files import Files
from agent.settings.schema import ControlSection

_LOG = logging.getLogger("stack_composer.control")
_MARGIN_S = 5.0
_LAST_WORD_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is given.

    Attributes:
        path: Where it listens; see ``socket_path``.
        rights: Who may do what.
    """

    path: Path
    rights: Rights
    bounds: Bounds

    @classmethod
    def of(cls, section: ControlSection, path: Path, bounds: Bounds | None = None) -> "Settings":
        """What a config says.

        Raises:
            ConfigError: It names a group that there is not.
        """
        bounds = replace(
            bounds or Bounds(), body_bytes=section.max_body_bytes, calls=section.max_calls
        )
        return cls(path, rights(section.group, section.group_access), bounds)


class _Quiet(uvicorn.Server):
    """Waits until it is told to stop; uvicorn's own looks ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        """Between start-up and shutdown."""
        await self.stop.wait()


class ControlServer:
    """Answers on the socket while it is open.

    Args:
        agency: The service.
        settings: Where, to whom, how much.
        files: Makes the socket's folder.

    Raises:
        BusyError: Another service answers there.
        ConfigError, OSError: The place can't be used.
    """

    def __init__(self, agency: Agency, settings: Settings, files: Files) -> None:
        self._bounds = settings.bounds
        self._bound: Bound = bind(settings.path, group=settings.rights.group, files=files)
        self._api = Api(agency, settings.bounds)
        gate = Gate(settings.rights, settings.bounds)
        self._server = _Quiet(
            uvicorn.Config(
                self._api,
                http=guarded(gate),
                ws="none",
                lifespan="off",
                loop="asyncio",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=settings.bounds.idle_s,  # type: ignore[arg-type]  # seconds go to call_later as they are
                timeout_graceful_shutdown=settings.bounds.drain_s,  # type: ignore[arg-type]  # like these
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it answers; for the service's watchdog."""
        return self._thread.is_alive()

    def withdraw(self) -> None:
        """Remove the socket's file: another server may take its place before this one is closed."""
        self._bound.remove()

    def close(self) -> None:
        """Take no more requests, let those in flight end within the bound, remove the socket."""
        self.withdraw()  # where that was done, its number is not given out again while it listens
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(self._bounds.drain_s + _MARGIN_S)
        if self._thread.is_alive():
            _LOG.error("the control server did not end in time")
        self._api.close()

    def _stop(self) -> None:
        self._api.end_streams()
        self._server.stop.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # noqa: BLE001 - the end of a thread
            _LOG.exception("the control server ended")
        finally:
            self._started.set()
            self._bound.listener.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._server.serve(sockets=[self._bound.listener])
        if left := set(self._server.server_state.tasks):  # they have a last word
            await asyncio.wait(left, timeout=_LAST_WORD_S)
        # Those that did not end in time, and streams nobody reads.
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
