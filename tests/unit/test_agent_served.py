"""One plugin as a host serves it: it follows what is current, and loses no call."""

import threading
from typing import TYPE_CHECKING, cast

import pytest

from agent.errors import NotFoundError, TrustError
from agent.serving.served import Served
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
        self.terms: object = "store 1"
        self.loads: list[str] = []
        self.plugins: dict[str, Loaded] = {"1": Loaded("1")}
        self.broken: Exception | None = None
        slot = Slot(cast("Plugin", self.plugins["1"]))
        self.served = Served(
            "org.example.hello",
            slot,
            name="1",
            where=lambda: self.current,
            load=self.load,
            terms=lambda: self.terms,
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
    """What is current is loaded and swapped in; nobody holds the old one: it goes."""
    host = Host()
    assert host.go_to("2") is None
    assert (host.serving, host.loads) == ("2", ["2"])
    assert host.plugins["2"].closed == 0
    host.served.follow(now=True)
    assert [host.plugins[name].closed for name in "12"] == [1, 0]


def test_going_back_is_judged_anew() -> None:
    """What served before is verified again: it may no longer be believed."""
    host = Host()
    host.go_to("2")
    host.go_to("1")
    assert (host.serving, host.loads) == ("1", ["2", "1"])
    host.go_to("2")
    assert (host.serving, host.loads) == ("2", ["2", "1", "2"])


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
    """The same name, or none at all: nothing to load."""
    host = Host()
    host.go_to("1")
    host.go_to(None)
    assert (host.serving, host.loads) == ("1", [])


def test_calls_are_refused_while_nothing_serves() -> None:
    """And no longer, once something does: the same release or another."""
    host = Host()
    for back in ("1", "2"):
        host.go_to(None)
        assert isinstance(host.served.refused, NotFoundError)
        host.go_to(back)
        assert host.served.refused is None
        assert host.serving == back


def test_other_terms_judge_anew() -> None:
    """The trust store or the grants changed: the same release is loaded once more."""
    host = Host()
    host.terms = "store 2"
    for _ in range(2):
        assert host.served.follow(now=True) is None
        assert host.loads == ["1"]


def test_what_is_no_longer_believed_is_refused() -> None:
    """By the new store: calls end until it believes again, old terms or newer."""
    host = Host()
    for terms in ("store 1", "store 3"):
        host.terms, host.broken = "store 2", TrustError("revoked")
        host.served.follow(now=True)
        assert host.served.refused is host.broken
        host.terms, host.broken = terms, None
        assert host.served.follow(now=True) is None
        assert host.served.refused is None


@pytest.mark.parametrize(
    ("terms", "error"), [("store 1", TrustError("no key")), ("store 2", OSError("unwell disk"))]
)
def test_what_was_judged_serves_on(terms: str, error: Exception) -> None:
    """A new release that the same store refuses, or a fault of the disk, ends no call."""
    host = Host()
    host.terms, host.broken = terms, error
    assert host.go_to("2") is error
    assert (host.serving, host.served.refused) == ("1", None)


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


def test_a_fault_that_passes_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be loaded is tried again after some seconds, in silence, until it can."""
    host = Host()
    host.broken = OSError("unwell disk")
    assert host.go_to("2") is host.broken
    monkeypatch.setattr("agent.serving.served._TRY_AGAIN_AFTER_S", 0.0)
    assert host.served.follow(now=True) is None
    assert (host.serving, host.loads) == ("1", ["2", "2"])
    host.broken = None
    assert host.served.follow(now=True) is None
    assert (host.serving, host.loads) == ("2", ["2", "2", "2"])


def test_after_a_failed_load_going_back_is_no_change() -> None:
    """What serves is what should serve again."""
    host = Host()
    host.go_to("2")
    host.broken = ValueError("no module")
    host.go_to("3")
    assert host.go_to("2") is None
    assert (host.serving, host.loads) == ("2", ["2", "3"])


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
    """What is leased is not closed, however often it is looked; afterwards it is, once."""
    host = Host()
    with host.served.slot.lease():
        for name in "232":
            host.go_to(name)
        assert host.plugins["1"].closed == 0
    for _ in range(2):
        host.served.follow(now=True)
        assert host.plugins["1"].closed == 1


def test_closing_lets_go_of_both() -> None:
    """What serves and what was swapped out are closed, once."""
    host = Host()
    host.go_to("2")
    host.served.close()
    assert [plugin.closed for plugin in host.plugins.values()] == [1, 1]


def test_closing_waits_for_a_running_call() -> None:
    """The call ends on the plugin that it began on."""
    host = Host()
    leased, closing = threading.Event(), threading.Event()
    closed_then: list[int] = []

    def call() -> None:
        with host.served.slot.lease():
            leased.set()
            closing.wait(10)
            closed_then.append(host.plugins["1"].closed)

    thread = threading.Thread(target=call)
    thread.start()
    assert leased.wait(10)
    drain = host.served.slot.drain

    def watched(old: "Plugin", timeout_s: float) -> bool:
        closing.set()
        return drain(old, timeout_s)

    host.served.slot.drain = watched  # type: ignore[method-assign]  # to know that it waits
    host.served.close()
    thread.join()
    assert (closed_then, host.plugins["1"].closed) == ([0], 1)


def test_files_of_ones_own_are_not_followed() -> None:
    """A plugin that is no installed one stays what it is."""
    plugin = Loaded("1")
    served = Served("org.example.hello", Slot(cast("Plugin", plugin)), name="1")
    assert not served.is_followed
    assert Host().served.is_followed
    assert served.follow(now=True) is None
    served.close()
    assert plugin.closed == 1


def test_a_call_that_never_ends_keeps_nobody() -> None:
    """After a bounded wait the plugin takes no more calls; its own deadline ends that one."""
    host = Host()
    with host.served.slot.lease():
        host.served.close(drain_s=0)
    assert host.plugins["1"].closed == 1


def test_a_flip_without_a_loader_changes_nothing() -> None:
    """Where nobody can load, what serves goes on serving."""
    slot = Slot(cast("Plugin", Loaded("1")))
    served = Served("org.example.hello", slot, name="1", where=lambda: "2")
    assert served.follow(now=True) is None
    assert cast("Loaded", slot.current).name == "1"
