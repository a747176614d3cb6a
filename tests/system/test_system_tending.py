"""What the service's ticks look at, wired as in the service, each tick at the test's word."""

import queue
import time
from pathlib import Path

from agent.context import Context, Options
from agent.service.clock import Clock
from agent.service.deadman import DeadMan
from agent.service.reign import Reign
from agent.service.tending import Tending
from agent.telemetry import Telemetry
from sandbox import Slot

WAIT_S = 20


def test_a_config_that_changes_while_it_is_read_is_read_once_more(tmp_path: Path) -> None:
    """Loading the plugins by it may take its time; what the operator wrote last is in force."""
    options = Options(home=tmp_path / "home")
    config = tmp_path / "home" / "config" / "plugin-host.toml"
    config.parent.mkdir(parents=True)
    telemetry = Telemetry("")
    begun: queue.Queue[str] = queue.Queue()
    may_go_on: queue.Queue[None] = queue.Queue()

    def begin(wired: Context) -> Reign:
        reign = Reign.begin(wired, telemetry, on_load=lambda _: None, on_log=lambda _: None)
        begun.put(wired.config.mode("org.example.hello"))
        may_go_on.get(timeout=WAIT_S)
        return reign

    def write(mode: str) -> None:
        config.write_text(f'[update]\nmode = "{mode}"\n', encoding="utf-8")
        tending.tick()

    may_go_on.put(None)
    reigns = Slot(begin(Context(options, environ={})))
    tending = Tending(
        lambda: Context(options, environ={}), begin, reigns, Clock(), lambda: 0.0, removed=str
    )
    tending.begin(DeadMan(lambda: reigns.current.context))
    try:
        assert begun.get(timeout=WAIT_S) == "auto"
        write("notify")
        assert begun.get(timeout=WAIT_S) == "notify"
        write("manual")
        may_go_on.put(None)
        may_go_on.put(None)
        until_s = time.monotonic() + WAIT_S
        while reigns.current.mode("org.example.hello") != "manual":
            assert time.monotonic() < until_s
            tending.tick()
    finally:
        tending.close(WAIT_S)
        reigns.current.close()
        telemetry.close()
