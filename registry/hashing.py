"""SHA-256 beside the work that brings the bytes: hashing lets go of Python's lock."""

import hashlib
import os
import queue
import threading
from types import TracebackType
from typing import Self

_WORTH_A_THREAD_BYTES = 8 << 20
_WORTH_A_THREAD_CORES = 2
# Smaller ones are handed over more often, and each time two threads wait for Python's lock.
_PIECE_BYTES = 1 << 20
_PIECES = 2
# One for all: of several blobs at once the others keep the cores busy, and memory small.
_BESIDE = threading.Lock()


class SideHash:
    """A SHA-256 that is taken on a thread of its own, if that helps; see ``registry.digest.Hash``.

    A context manager: the thread ends with it. It holds a piece of 1 MiB, or two with a thread,
    which one of them has at a time.

    Args:
        size_bytes: How much will come; little of it is not worth a thread.
        cores: How many processors there are for us; ``None``: as the system says.
    """

    def __init__(self, size_bytes: int, *, cores: int | None = None) -> None:
        self._sha256 = hashlib.sha256()
        self._free = queue.SimpleQueue[memoryview]()
        self._full = queue.SimpleQueue[memoryview | threading.Event | None]()
        self._thread: threading.Thread | None = None
        pieces = 1
        if _is_worth_a_thread(size_bytes, cores) and _BESIDE.acquire(blocking=False):
            pieces = _PIECES
            self._thread = threading.Thread(target=self._hash, name="sha256", daemon=True)
            self._thread.start()
        for _ in range(pieces):
            self._free.put(memoryview(bytearray(min(_PIECE_BYTES, max(size_bytes, 1)))))
        self._given: memoryview | None = None

    def room(self) -> memoryview:
        """Where the next bytes may be put; waits where too many are left to hash."""
        if self._given is None:
            self._given = self._free.get()
        return self._given

    def take(self, count: int) -> None:
        """Hash the first bytes of the room, which are not to be changed before the next."""
        piece, self._given = self.room(), None
        if self._thread is not None:
            self._full.put(piece[:count])
            return
        self._sha256.update(piece[:count])
        self._free.put(piece)

    def restart(self) -> None:
        """Forget what came."""
        self._finish()
        self._sha256 = hashlib.sha256()

    def hexdigest(self) -> str:
        """Of all that came so far."""
        self._finish()
        return self._sha256.hexdigest()

    def _finish(self) -> None:
        if self._thread is not None:
            is_done = threading.Event()
            self._full.put(is_done)
            is_done.wait()

    def _hash(self) -> None:
        while (piece := self._full.get()) is not None:
            if isinstance(piece, threading.Event):
                piece.set()
                continue
            self._sha256.update(piece)
            self._free.put(memoryview(piece.obj))  # the whole of it again

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            _BESIDE.release()


def _is_worth_a_thread(size_bytes: int, cores: int | None) -> bool:
    if size_bytes < _WORTH_A_THREAD_BYTES:
        return False
    cores = os.cpu_count() or 1 if cores is None else cores
    return cores >= _WORTH_A_THREAD_CORES
