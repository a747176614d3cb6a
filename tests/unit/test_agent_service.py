"""The service's main thread: what signals tell it is heeded, whenever they come."""

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, cast

from agent.context import Options
from agent.service.answering import Answering
from agent.service.service import Service
from agent.service.tending import Tending

WAIT_S = 20
MOMENTS = 200


class Looks:
    """What the main thread passes signals on to, as far as it is asked here."""

    def __init__(self) -> None:
        self.reloads = 0

    def reload(self) -> None:
        """Count."""
        self.reloads += 1

    def heed(self) -> None:
        """See nothing new."""


def test_a_signal_is_heeded_at_any_moment(tmp_path: Path) -> None:
    """Python runs a handler between any two steps of the main thread, whatever lock it holds."""
    service, looks = Service(Options(home=tmp_path), {}), Looks()
    moments = 0
    is_handling = False

    def between_steps(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal moments, is_handling
        if event == "line" and not is_handling:
            is_handling = True
            moments += 1
            (service.reload if moments < MOMENTS else service.stop)()
            is_handling = False
        return between_steps

    def watch() -> None:
        sys.settrace(between_steps)
        service._watch_over(cast("Tending", looks), cast("Answering", looks), lambda: None)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert looks.reloads
