"""What a process keeps in memory of a library's code once it has started."""

import os
import re
from pathlib import Path

from sandbox.isolate.pages import let_go_of_code
from support.sandbox import ECHO, admit, plugin_files, sandbox, zygote_of

ENGINE = "_libwasmtime.so"


def code_kb(pid: int) -> int:
    """How much of the engine's code a process has in memory."""
    maps = Path(f"/proc/{pid}/smaps").read_text("ascii")
    found = re.findall(rf" r-xp [^\n]*/{re.escape(ENGINE)}\n(?:.*\n)*?Rss: +([0-9]+) kB", maps)
    return sum(map(int, found))


def test_the_zygote_lets_go_of_the_compiler() -> None:
    """Its start takes megabytes of the engine's code; what it keeps is next to nothing."""
    with sandbox(admit(isolation="process")) as box:
        plugin = box.load(plugin_files(ECHO))
        assert plugin.call("run", ["text"]).value == "text"
        assert code_kb(zygote_of(plugin)) < 1000
        assert plugin.call("run", ["again"]).value == "again"


def test_code_that_was_let_go_runs_when_it_is_needed() -> None:
    """This process goes on compiling and calling."""
    with sandbox() as box:
        plugin = box.load(plugin_files(ECHO))
        plugin.call("run", ["text"])
        before = code_kb(os.getpid())
        let_go_of_code(ENGINE)
        assert code_kb(os.getpid()) < before / 2
        assert plugin.call("run", ["again"]).value == "again"
