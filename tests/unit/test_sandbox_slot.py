"""Slots: a swap under load loses no call, and draining tells when the old plugin is free."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.errors import MissingExport
from sandbox.slot import Slot
from support.sandbox import plugin_files, sandbox

pytestmark = pytest.mark.usefixtures("isolation")


def answering(number: int) -> str:
    """A plugin whose ``run`` returns a number."""
    return f'(module (func (export "run") (result i32) (i32.const {number})))'


def test_a_lease_holds_what_was_current() -> None:
    """A swap changes what new leases get, never what a caller has."""
    with sandbox() as box:
        old, new = (box.load(plugin_files(answering(n))) for n in (1, 2))
        slot = Slot(old)
        with slot.lease() as held:
            assert slot.swap(new) is old
            assert held is old
            assert slot.current is new
            with slot.lease() as later:
                assert later.call().value == 2
            assert held.call().value == 1


def test_draining_waits_for_the_last_lease() -> None:
    """``drain`` is False while a caller holds the plugin, and True once none does."""
    with sandbox() as box:
        old, new = (box.load(plugin_files(answering(n))) for n in (1, 2))
        slot = Slot(old)
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with slot.lease():
                entered.set()
                leave.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        assert entered.wait(30)
        slot.swap(new)
        assert not slot.drain(old, 0.0)
        leave.set()
        assert slot.drain(old, 30.0)
        holder.join()
        assert slot.drain(old, 0.0)


def test_a_lease_ends_with_an_exception_too() -> None:
    """A call that fails gives its plugin back."""
    with sandbox() as box:
        plugin = box.load(plugin_files(answering(1)))
        slot = Slot(plugin)
        with pytest.raises(MissingExport), slot.lease() as held:
            held.call("nope")
        assert slot.drain(plugin, 0.0)


def test_swaps_under_load_lose_no_call() -> None:
    """Every call during swaps, drains and closes answers as one of the two versions."""
    with sandbox() as box:
        slot = Slot(box.load(plugin_files(answering(1))))
        done = threading.Event()

        def call_on() -> list[object]:
            values: list[object] = []
            while not done.is_set():
                with slot.lease() as plugin:
                    values.append(plugin.call().value)
            return values

        with ThreadPoolExecutor(3) as pool:
            callers = [pool.submit(call_on) for _ in range(3)]
            try:
                for number in itertools.islice(itertools.cycle((2, 1)), 30):
                    old = slot.swap(box.load(plugin_files(answering(number))))
                    assert slot.drain(old, 30.0)
                    old.close()
            finally:
                done.set()
            answers = [value for caller in callers for value in caller.result()]
    assert set(answers) <= {1, 2}
    assert answers
