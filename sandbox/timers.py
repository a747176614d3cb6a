"""Deadlines that the kernel keeps: a timer for each engine, whose expiry interrupts it (Linux).

What an expired timer calls is wasmtime's own function, on a thread of the C library's: busy
Python threads can't delay it, as they delay ``deadline.Watchdog``. That call can come late,
after the timer was disarmed, so an engine whose timer has gone off rests before its next use,
and is never freed.
"""

import ctypes
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from wasmtime import Config, Engine, _ffi

_MONOTONIC, _ABSOLUTE, _THREAD = 1, 1, 2
_TIME = struct.Struct("@4l")  # struct itimerspec: the interval, then the time
_EVENT = struct.Struct("@PiiPP32x")  # struct sigevent: value, signal, kind, function, attributes
_NEVER = bytes(_TIME.size)
_REST_S = 2
"""How long a call that is under way may take to arrive, by far."""

try:
    _LIBC = ctypes.PyDLL(None, use_errno=True)
    _create, _set, _delete = _LIBC.timer_create, _LIBC.timer_settime, _LIBC.timer_delete
except (OSError, AttributeError):  # no such functions
    IS_AVAILABLE = False
else:
    IS_AVAILABLE = True
    _create.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    _set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    _delete.argtypes = [ctypes.c_void_p]

_TICK = ctypes.cast(_ffi.dll.wasmtime_engine_increment_epoch, ctypes.c_void_p).value


_process = 0
"""Another number in each forked child, where the timers of its parent do not exist."""


def _count_fork() -> None:
    global _process  # noqa: PLW0603  # it is the process that has changed
    _process += 1


os.register_at_fork(after_in_child=_count_fork)


class TimedEngine(Engine):
    """An engine with a timer of its own, which is gone before the engine is.

    The timer is made when it is first armed: it does not outlive a fork, nor does its process
    then use it.
    """

    def __init__(self, config: Config) -> None:
        self._timer: int | None = None
        self._process = -1
        self._is_armed = False
        self._left = ctypes.create_string_buffer(_TIME.size)
        super().__init__(config)

    def arm(self, deadline_s: float) -> bool:
        """Interrupt whatever runs in the engine when ``time.monotonic()`` reaches the deadline.

        Returns:
            False where the system has no timer for us.
        """
        if self._process != _process:
            self._open()
        if self._timer is None:
            return False
        seconds = int(deadline_s)
        when = _TIME.pack(0, 0, seconds, int((deadline_s - seconds) * 1e9) or 1)
        self._is_armed = _set(self._timer, _ABSOLUTE, when, None) == 0
        return self._is_armed

    def disarm(self) -> bool:
        """Leave the engine alone.

        Returns:
            The timer has gone off; the interruption may yet come.
        """
        if not self._is_armed:
            return False
        self._is_armed = False
        _set(self._timer, 0, _NEVER, self._left)
        return self._left.raw == _NEVER

    def _open(self) -> None:
        self._process = _process
        self._timer, self._is_armed = None, False
        event = _EVENT.pack(ctypes.cast(self.ptr(), ctypes.c_void_p).value, 0, _THREAD, _TICK, 0)
        timer = ctypes.c_void_p()
        if _create(_MONOTONIC, event, ctypes.byref(timer)) == 0:
            self._timer = timer.value or 0

    def _delete(self, ptr: "ctypes._Pointer[_ffi.wasm_engine_t]") -> None:
        if self._timer is not None and self._process == _process:
            _delete(self._timer)
        self._timer = None
        super()._delete(ptr)


class Engines:
    """Makes engines, and lets those rest whose timer has gone off.

    One that has rested is as good as a new one, or at worst slower.
    """

    def __init__(self, make: Callable[[Config], Engine]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._resting: deque[tuple[float, Engine]] = deque()

    def new(self, config: Config) -> Engine:
        """An engine that nobody else uses."""
        with self._lock:
            if self._resting and time.monotonic() - self._resting[0][0] > _REST_S:
                engine = self._resting.popleft()[1]
                ctypes.pythonapi.Py_DecRef(ctypes.py_object(engine))
                return engine
        return self._make(config)

    def rest(self, engine: Engine) -> None:
        """Keep an engine that may yet be interrupted; its user lets go of it."""
        with self._lock:
            # the end of the process must not free it either
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
            self._resting.append((time.monotonic(), engine))
