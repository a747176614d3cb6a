"""Frames on a Unix stream socket: two lengths, a header of JSON, and bytes as they are.

Strict and bounded: who reads says how long a frame may be, before any of it is kept.
"""

import json
import socket
import struct
import time
from typing import Any

_LENGTHS = struct.Struct(">II")
_READ_BYTES = 8_192
_TIME = struct.Struct("@2l")  # struct timeval
_STEP_MS = 50
"""A wait is told to the kernel in such steps, so that mostly it knows it already."""
MAX_HEADER_BYTES = 1 << 20
_spelled = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_parsed = json.JSONDecoder().raw_decode


class ChannelClosedError(Exception):
    """The other side is gone.

    Attributes:
        is_unread: It had not read all that it was sent.
    """

    def __init__(self, *, is_unread: bool = False) -> None:
        super().__init__()
        self.is_unread = is_unread


class FrameError(Exception):
    """The other side sent what is no frame, or one that is too long."""


Frame = tuple[list[Any], bytes]
"""A header and the bytes that follow it."""


class Channel:
    """One end of a socket; used by one thread at a time.

    Args:
        end: A connected Unix stream socket; closed with the channel.
    """

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(None)
        self._socket = end
        self._patience_ms = {socket.SO_RCVTIMEO: 0, socket.SO_SNDTIMEO: 0}  # 0 = for ever
        self._read: bytes | bytearray = b""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing lies here that was read and belongs to no frame yet."""
        return not self._read

    def send(
        self, header: list[Any], tail: bytes = b"", *, deadline_s: float | None = None
    ) -> None:
        """Send one frame.

        Args:
            header: What JSON can carry.
            tail: The bytes.
            deadline_s: On the clock of ``time.monotonic()``; None = wait for the other side.

        Raises:
            ChannelClosedError: The other side is gone.
            TimeoutError: It does not take the frame.
        """
        text = _spelled(header).encode("ascii")
        left = memoryview(_LENGTHS.pack(len(text), len(tail)) + text + tail)
        try:
            while left:
                self._be_patient_until(deadline_s, socket.SO_SNDTIMEO)
                try:
                    left = left[self._socket.send(left) :]
                except BlockingIOError:  # that long it did not take anything
                    continue
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosedError(is_unread=True) from error

    def receive(self, longest: int, *, deadline_s: float | None = None) -> Frame:
        """Wait for one frame.

        Args:
            longest: Bytes that may follow the header.
            deadline_s: As for ``send``.

        Raises:
            ChannelClosedError: The other side is gone.
            FrameError: What came is no frame, or is too long.
            TimeoutError: No whole frame came in time.
        """
        self._fill(_LENGTHS.size, deadline_s)
        of_header, of_tail = _LENGTHS.unpack_from(self._read)
        if of_header > MAX_HEADER_BYTES or of_tail > longest:
            raise FrameError(f"a frame of {of_header} + {of_tail} bytes")
        begin, end = _LENGTHS.size + of_header, _LENGTHS.size + of_header + of_tail
        self._fill(end, deadline_s)
        text, tail = bytes(self._read[_LENGTHS.size : begin]), bytes(self._read[begin:end])
        self._read = self._read[end:]
        return parse_header(text), tail

    def close(self) -> None:
        """Close this end; the other side finds out at its next step."""
        self._socket.close()

    def _be_patient_until(self, deadline_s: float | None, option: int) -> None:
        """Have the kernel end the next wait at the deadline, or a little after it."""
        wait_ms = 0
        if deadline_s is not None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            wait_ms = (int(left_s * 1000) // _STEP_MS + 1) * _STEP_MS
        if wait_ms != self._patience_ms[option]:
            self._patience_ms[option] = wait_ms
            when = _TIME.pack(wait_ms // 1000, wait_ms % 1000 * 1000)
            self._socket.setsockopt(socket.SOL_SOCKET, option, when)

    def _fill(self, size: int, deadline_s: float | None) -> None:
        while len(self._read) < size:
            try:
                self._be_patient_until(deadline_s, socket.SO_RCVTIMEO)
                data = self._socket.recv(max(_READ_BYTES, size - len(self._read)))
            except BlockingIOError:  # that long nothing came
                continue
            except TimeoutError:
                raise
            except ConnectionResetError as error:  # which Linux keeps for this very case
                raise ChannelClosedError(is_unread=True) from error
            except OSError as error:
                raise ChannelClosedError from error
            if not data:
                raise ChannelClosedError
            if not self._read:  # as mostly: one piece is the whole frame
                self._read = data
                continue
            if isinstance(self._read, bytes):
                self._read = bytearray(self._read)
            self._read += data


def parse_header(text: bytes) -> list[Any]:
    """A header's list.

    Raises:
        FrameError: It is none.
    """
    try:
        header, length = _parsed(text.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise FrameError("a header that is no JSON") from error
    if length != len(text) or not isinstance(header, list) or not header:
        raise FrameError("a header that is no list")
    return header
