"""Calls and swaps without end: memory and descriptors stay where they were."""

import gc
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Plugin, Slot
from sandbox.errors import CallError
from support.sandbox import BUMP, admit, plugin_files, sandbox

CALLERS = 4
WAT = f"""(module (import "env" "host_log" (func $log (param i32 i32 i32))) {BUMP}
  (func (export "dealloc") (param i32 i32) (global.set $heap (i32.const 1024)))
  (func (export "trap") (call $log (i32.const 2) (i32.const 0) (i32.const 8)) unreachable)
  (func (export "burn") (loop (br 0)))
  (func (export "grow") (drop (memory.grow (i32.const 30))))
  (func (export "run") (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
            (i64.extend_i32_u (local.get $len)))))"""


@pytest.mark.parametrize(
    ("calls", "swaps"), [(3_000, 20), pytest.param(100_000, 500, marks=pytest.mark.soak)]
)
def test_calls_and_swaps_leave_nothing_behind(calls: int, swaps: int, tmp_path: Path) -> None:
    """Good and bad calls on four threads while the plugin is swapped under them."""
    admission = admit(fuel_units=50_000, wall_timeout_ms=60_000)
    with sandbox(admission, cache_dir=tmp_path) as box:

        def load(number: int) -> Slot[Plugin]:
            instance = '"fresh"' if number % 2 else '"reused"'
            return Slot(box.load(plugin_files(WAT, instance=instance)))

        slot = load(0)
        _serve(slot, calls // 5)
        _swap(slot, load, swaps // 5)
        before = _used()
        caller = threading.Thread(target=_serve, args=(slot, calls))
        caller.start()
        _swap(slot, load, swaps)
        caller.join()
        resident, descriptors = (now - then for now, then in zip(_used(), before, strict=True))
        assert resident < 24 << 20
        assert descriptors <= CALLERS


def _serve(slot: Slot[Plugin], calls: int) -> None:
    numbers = itertools.count()
    wrong: list[object] = []

    def call() -> None:
        while (number := next(numbers)) < calls:
            with slot.lease() as plugin:
                func = ("run", "run", "run", "trap", "burn", "grow")[number % 6]
                text = f"call {number}"
                try:
                    value = plugin.call(func, [text] if func == "run" else []).value
                except CallError:
                    value = None
                if value != (text if func == "run" else None):
                    wrong.append((func, value))

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _swap(slot: Slot[Plugin], load: Callable[[int], Slot[Plugin]], swaps: int) -> None:
    for number in range(swaps):
        old = slot.swap(load(number).current)
        assert slot.drain(old, 60)
        old.close()


def _used() -> tuple[int, int]:
    """Resident bytes, and descriptors."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir()))
