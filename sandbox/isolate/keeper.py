"""Keeps the child of one plugin: started at the first call, at rest when idle, buried at last."""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.isolate.child import Child, Folder, Kept, MakeChild
from sandbox.isolate.crashes import Crashes, how_it_ended
from sandbox.isolate.idle import IdleWatch
from sandbox.isolate.serving import MOST_CHANNELS
from sandbox.isolate.wire import Channel

_LOG = logging.getLogger("stack_composer.sandbox")

_LULL_S = 0.05
"""After its start a child has this long for its first call, before another shares the processor."""
_AHEAD_S = 10.0


class Keeper:
    """Lends the channels of one plugin's child; may be used from any thread.

    Args:
        plugin_id: For messages.
        make_child: Starts a child.
        data_dir: What the plugin sees of the disk; None = nothing.
        idle: Stops the child when nobody calls, and keeps one ahead.
        on_loop: Told once, when it crashed too often to be started again.
    """

    def __init__(
        self,
        plugin_id: str,
        make_child: MakeChild,
        data_dir: Path | None,
        idle: IdleWatch,
        on_loop: Callable[[str], None],
    ) -> None:
        self._plugin_id = plugin_id
        self._make_child = make_child
        self._data_dir = data_dir
        self._idle = idle
        self._standby = idle.standby
        self._on_loop = on_loop
        self._changed = threading.Condition(threading.Lock())
        self._kept: Kept | None = None
        self._is_starting = False
        self._wants_another = False
        self._closed = False
        self._crashes = Crashes()
        self._used_s = 0.0

    @property
    def pid(self) -> int | None:
        """The process id of the child, where one runs."""
        kept = self._kept
        return None if kept is None else kept.child.pid

    def lend(self, deadline_s: float) -> tuple[Kept, Channel]:
        """A channel of the child, which is started where none runs.

        Args:
            deadline_s: Until when to wait for one, on the clock of ``time.monotonic()``.

        Raises:
            TimeoutError: All are in use until then, or none could be started.
            CrashLoopError: The child crashed, and is not started again now.
            SandboxError: Closed, or no child can be started.
        """
        while True:
            unused: Kept | None = None
            deaf: Kept | None = None
            with self._changed:
                self._refuse_closed()
                kept = self._kept
                if kept is None and not self._is_starting:
                    self._crashes.require_start(time.monotonic(), self._plugin_id)
                    self._is_starting = True
                    break
                if kept is not None and self._has_other_folder(kept.child):
                    self._retire(kept)
                    unused = None if kept.in_flight else kept
                elif kept is not None and (kept.idle or kept.opened < MOST_CHANNELS):
                    try:
                        return kept, self._take(kept)
                    except OSError:
                        deaf = kept
                elif not self._changed.wait(
                    min(threading.TIMEOUT_MAX, deadline_s - time.monotonic())
                ):
                    self._changed.notify()  # what may just have been said to this one
                    raise TimeoutError
            if unused is not None:
                unused.child.bury()
            if deaf is not None:
                self.lost(deaf)()
        return self._start(deadline_s)

    def give_back(self, kept: Kept, channel: Channel, *, is_usable: bool) -> None:
        """A call is over.

        Args:
            kept: Whose channel it is.
            channel: It.
            is_usable: The call ended as calls do; else the channel is closed.
        """
        with self._changed:
            kept.in_flight -= 1
            self._used_s = time.monotonic()
            if is_usable and not kept.is_retired:
                kept.idle.append(channel)
            else:
                kept.opened -= 1
                channel.close()
            self._changed.notify()
            # who counts a crash buries it
            is_over = kept.is_retired and not kept.in_flight and not kept.has_crashed
        if is_over:
            kept.child.bury()

    def crashed(self, kept: Kept) -> int | None:
        """The child died, or has to.

        Returns:
            See ``Nursery.bury``.
        """
        return self._mourn(kept, *self._count(kept))

    def lost(self, kept: Kept) -> Callable[[], object]:
        """The same where nobody asks how: what is returned buries it, once another serves."""
        is_news, is_loop = self._count(kept)
        return lambda: self._idle.later(lambda: self._mourn(kept, is_news, is_loop))

    def _count(self, kept: Kept) -> tuple[bool, bool]:
        """Count a crash: whether it is news, and one too many."""
        with self._changed:
            self._retire(kept)
            is_news = not kept.has_crashed
            kept.has_crashed = True
            return is_news, is_news and self._crashes.record(time.monotonic())

    def _mourn(self, kept: Kept, is_news: bool, is_loop: bool) -> int | None:  # noqa: FBT001  # as counted
        code = kept.child.bury()
        if is_news:
            _LOG.warning("the process of %s ended: %s", self._plugin_id, how_it_ended(code))
        if is_loop:
            reason = f"its process crashed again and again, at last: {how_it_ended(code)}"
            _LOG.error("%s is not called any more by this host: %s", self._plugin_id, reason)
            self._on_loop(reason)
        return code

    def rest(self, now_s: float, idle_s: float) -> float:
        """Stop the child if it has been idle for so long, else have one ahead; see ``Resting``."""
        with self._changed:
            kept = self._kept
            if kept is None:
                return math.inf
            again_s = (now_s if kept.in_flight else self._used_s) + idle_s
            if now_s >= again_s:
                self._retire(kept)
            elif self._wants_another and now_s < kept.since_s + _LULL_S:
                return min(again_s, kept.since_s + _LULL_S)
            wants, self._wants_another = self._wants_another, False
        if not kept.is_retired:
            if wants:
                self._have_one_stand_by()
            return again_s
        self._standby.drop(self)
        kept.child.bury()
        return math.inf

    def close(self) -> None:
        """Lend nothing more; the child goes now, or with its last call."""
        with self._changed:
            self._closed = True
            if not self._is_starting:
                self._make_child = _no_child  # what it holds goes now: the code
            kept = self._kept
            if kept is not None:
                self._retire(kept)
            self._changed.notify_all()
        self._standby.drop(self)
        if kept is not None and not kept.in_flight:
            kept.child.bury()

    def _start(self, deadline_s: float) -> tuple[Kept, Channel]:
        kept: Kept | None = None
        try:
            child = self._ahead() or self._make_child(self._open_folder(), deadline_s, ahead=False)
            kept = Kept(child, [child.first])
        finally:
            with self._changed:
                self._is_starting = False
                self._changed.notify_all()
                if self._closed:
                    self._make_child = _no_child
                elif kept is not None:
                    self._kept = kept
                    self._wants_another = True
                    channel = self._take(kept)
        if self._kept is not kept:  # closed meanwhile
            child.first.close()
            child.bury()
        self._refuse_closed()
        self._idle.watch(self)
        return kept, channel

    def _ahead(self) -> Child | None:
        """The child that stands by, if it has the folder that there is now."""
        child = self._standby.take(self)
        if child is not None and self._has_other_folder(child):
            child.let_go()
            return None
        return child

    def _have_one_stand_by(self) -> None:
        with self._changed:
            if self._closed:
                return
            make_child = self._make_child
        deadline_s = time.monotonic() + _AHEAD_S
        try:
            child = make_child(self._open_folder(), deadline_s, ahead=True)
        except (SandboxError, TimeoutError):  # no room: the next start will say so
            return
        self._standby.keep(self, child)
        if self._kept is None:  # retired or closed meanwhile
            self._standby.drop(self)

    def _take(self, kept: Kept) -> Channel:
        if kept.idle:
            channel = kept.idle.pop()
        else:
            channel = kept.child.open_channel()
            kept.opened += 1
        kept.in_flight += 1
        return channel

    def _retire(self, kept: Kept) -> None:
        """Give it no more calls; under the lock."""
        kept.is_retired = True
        for channel in kept.idle:
            channel.close()
        kept.idle.clear()
        if self._kept is kept:
            self._kept = None
            self._changed.notify_all()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise SandboxError(
                f"cannot call {self._plugin_id}: it is closed", plugin_id=self._plugin_id
            )

    def _open_folder(self) -> Folder | None:
        if self._data_dir is None:
            return None
        identity = self._identity()
        try:
            descriptor = os.open(self._data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # not there yet, or no folder
            descriptor = None
        return Folder(descriptor, identity)

    def _has_other_folder(self, child: Child) -> bool:
        """Whether the data folder came, went or was replaced since the child started."""
        return child.folder is not None and child.folder.identity != self._identity()

    def _identity(self) -> tuple[int, int] | None:
        if self._data_dir is None:
            return None
        try:
            status = self._data_dir.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _no_child(folder: Folder | None, deadline_s: float, *, ahead: bool) -> Child:  # noqa: ARG001
    message = "no child is started once it is closed"
    raise RuntimeError(message)
