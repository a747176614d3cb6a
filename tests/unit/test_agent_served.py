"""One plugin as a host serves it: it follows what is current, and loses no call."""

import threading
from typing import TYPE_CHECKING, cast

import pytest

from agent.served import Served
from sandbox import Slot

if TYPE_CHECKING:
    from sandbox import Plugin


class Loaded:
    """What a slot holds: a name, and whether it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = 0

    def close(self) -> None:
        """Let go."""
        self.closed += 1


class Host:
    """A served plugin over a tree that is one variable."""

    def __init__(self) -> None:
        self.current: str | None = "1"
        self.loads: list[str] = []
        self.plugins: dict[str, Loaded] = {"1": Loaded("1")}
        self.broken: Exception | None = None
        slot = Slot(cast("Plugin", self.plugins["1"]))
        self.served = Served(
            "org.example.hello", slot, name="1", where=lambda: self.current, load=self.load
        )

    def load(self, name: str) -> "Plugin":
        """Load a generation."""
        self.loads.append(name)
        if self.broken is not None:
            raise self.broken
        self.plugins[name] = Loaded(name)
        return cast("Plugin", self.plugins[name])

    def go_to(self, name: str | None) -> Exception | None:
        """Flip, and look."""
        self.current = name
        return self.served.follow(now=True)

    @property
    def serving(self) -> str:
        """What a call would get now."""
        return cast("Loaded", self.served.slot.current).name


def test_a_flip_is_followed() -> None:
    """What is current is loaded and swapped in; the old one stays warm."""
    host = Host()
    assert host.go_to("2") is None
    assert (host.serving, host.loads) == ("2", ["2"])
    assert host.plugins["1"].closed == 0


def test_going_back_needs_no_load() -> None:
    """The plugin that was swapped out serves again as it is."""
    host = Host()
    host.go_to("2")
    host.go_to("1")
    assert (host.serving, host.loads) == ("1", ["2"])
    host.go_to("2")
    assert (host.serving, host.loads) == ("2", ["2"])


def test_only_the_last_one_is_kept_warm() -> None:
    """A third release lets go of the first."""
    host = Host()
    host.go_to("2")
    host.go_to("3")
    assert [host.plugins[name].closed for name in "123"] == [1, 0, 0]


def test_a_recent_look_is_not_repeated() -> None:
    """Between two looks a call costs no system call; an older look is repeated."""
    host = Host()
    host.current = "2"
    host.served._looked = float("inf")
    assert host.served.follow() is None
    assert host.serving == "1"
    host.served._looked = float("-inf")
    host.served.follow()
    assert host.serving == "2"


def test_what_is_unchanged_or_gone_is_not_loaded() -> None:
    """The same name, or none at all: what serves goes on serving."""
    host = Host()
    host.go_to("1")
    host.go_to(None)
    assert (host.serving, host.loads) == ("1", [])


def test_what_cannot_be_loaded_is_told_once() -> None:
    """The old one serves on; the error is handed out once for each generation."""
    host = Host()
    host.broken = ValueError("no module")
    assert host.go_to("2") is host.broken
    assert host.served.follow(now=True) is None
    assert (host.serving, host.loads) == ("1", ["2"])
    assert host.go_to("3") is host.broken
    host.broken = None
    assert host.go_to("2") is None
    assert host.serving == "2"


def test_a_failed_load_does_not_keep_the_warm_one_away() -> None:
    """After a failure, going back is still another swap."""
    host = Host()
    host.go_to("2")
    host.broken = ValueError("no module")
    host.go_to("3")
    host.go_to("1")
    assert (host.serving, host.loads) == ("1", ["2", "3"])


def test_one_thread_loads_and_the_others_go_on() -> None:
    """While one thread loads, another call does not wait."""
    host = Host()
    loading, go_on = threading.Event(), threading.Event()
    load = host.load

    def slow(name: str) -> "Plugin":
        loading.set()
        go_on.wait(10)
        return load(name)

    host.served._load = slow
    host.current = "2"
    thread = threading.Thread(target=lambda: host.served.follow(now=True))
    thread.start()
    assert loading.wait(10)
    host.served._looked = float("-inf")
    assert host.served.follow() is None
    assert host.serving == "1"
    go_on.set()
    thread.join()
    assert (host.serving, host.loads) == ("2", ["2"])


def test_a_running_call_keeps_its_plugin() -> None:
    """What is leased is drained before it is closed."""
    host = Host()
    leased, go_on = threading.Event(), threading.Event()

    def call() -> None:
        with host.served.slot.lease():
            leased.set()
            go_on.wait(10)

    thread = threading.Thread(target=call)
    thread.start()
    assert leased.wait(10)
    host.go_to("2")
    assert host.plugins["1"].closed == 0
    go_on.set()
    host.go_to("3")
    thread.join()
    assert host.plugins["1"].closed == 1


def test_closing_lets_go_of_both() -> None:
    """What serves and what is warm are closed, once."""
    host = Host()
    host.go_to("2")
    host.served.close()
    assert [plugin.closed for plugin in host.plugins.values()] == [1, 1]


def test_files_of_ones_own_are_not_followed() -> None:
    """A plugin that is no installed one stays what it is."""
    plugin = Loaded("1")
    served = Served("org.example.hello", Slot(cast("Plugin", plugin)), name="1")
    assert not served.is_followed
    assert Host().served.is_followed
    assert served.follow(now=True) is None
    served.close()
    assert plugin.closed == 1


def test_a_call_that_never_ends_keeps_its_plugin_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded wait the plugin is left to its call: nothing is closed under it."""
    monkeypatch.setattr("agent.served._DRAIN_S", 0.0)
    host = Host()
    with host.served.slot.lease():
        host.served.close()
        assert host.plugins["1"].closed == 0


def test_a_flip_without_a_loader_changes_nothing() -> None:
    """Where nobody can load, what serves goes on serving."""
    slot = Slot(cast("Plugin", Loaded("1")))
    served = Served("org.example.hello", slot, name="1", where=lambda: "2")
    assert served.follow(now=True) is None
    assert cast("Loaded", slot.current).name == "1"
