"""What a supervisor is told: systemd's protocol, a datagram of lines (``sd_notify(3)``)."""

import contextlib
import os
import socket
from collections.abc import Mapping


class Supervisor:
    """Who started the service and wants to know how it is; nobody, mostly.

    Args:
        environ: ``NOTIFY_SOCKET`` names its socket, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` how
            often it wants a sign of life, and from whom.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket's name begins with a zero byte, written "@".
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._status = ""
        interval = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(interval) / 1e6 if is_ours and interval.isdecimal() else None

    @property
    def sign_every_s(self) -> float | None:
        """How often ``alive`` is due: twice as often as is asked; None = it isn't."""
        return None if self._watchdog_s is None else self._watchdog_s / 2

    def ready(self, status: str) -> None:
        """Everything is in place."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """What ``systemctl status`` shows; sent where it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, lines: str) -> None:
        if not self._address:
            return
        # Whoever does not listen is told nothing; the service goes on.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk,
        ):
            talk.settimeout(0)
            talk.sendto(lines.encode(), self._address)
