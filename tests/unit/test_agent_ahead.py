"""Looking ahead: who is asked when, and whose answer it is."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

import registry
from agent.pipeline.ahead import Ahead

WAIT_S = 10
IDS = [f"org.example.p{number}" for number in range(20)]


def location(plugin_id: str) -> registry.Location:
    """Where a plugin is looked for."""
    return registry.HttpLocation("127.0.0.1:1", plugin_id)


@dataclass
class Listed:
    """Repositories that note who lists their tags, and on which thread."""

    tags: Callable[[str], tuple[str, ...]] = lambda plugin_id: (plugin_id,)
    asked: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def open(self, plugin_id: str) -> registry.Repository:
        """Open the repository of a plugin."""
        return cast("registry.Repository", OneListed(location(plugin_id), self))

    def wait_for(self, count: int) -> None:
        """Until so many were asked."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= count, WAIT_S), self.asked


@dataclass
class OneListed:
    """One of them: all that is asked of it."""

    location: registry.Location
    all: Listed

    def tags(self) -> tuple[str, ...]:
        """List the tags."""
        with self.all.changed:
            self.all.asked.append(self.location.plugin_id)
            self.all.threads.add(threading.current_thread().name)
            self.all.changed.notify_all()
        return self.all.tags(self.location.plugin_id)


def take(ahead: Ahead, repositories: Listed, plugin_id: str) -> tuple[str, ...]:
    """What a search does for one plugin."""
    return ahead.tags(ahead.opened(location(plugin_id)) or repositories.open(plugin_id))


def test_the_next_ones_are_asked_while_the_first_is_judged() -> None:
    """And no more than those, by three: at most four connections with what the run itself asks."""
    before = threading.active_count()
    repositories = Listed()
    ahead = Ahead(repositories.open)
    turns = ahead.over(IDS)
    first = next(turns)
    repositories.wait_for(12)
    assert threading.active_count() - before == 3
    assert set(repositories.asked) == set(IDS[:12])
    assert take(ahead, repositories, first) == (first,)
    assert next(turns) == IDS[1]
    repositories.wait_for(13)
    assert set(repositories.asked) == set(IDS[:13])
    turns.close()


def test_each_is_asked_once_and_gets_its_own_answer() -> None:
    """In turn, whatever order the answers come in."""
    repositories = Listed()
    ahead = Ahead(repositories.open)
    assert [take(ahead, repositories, one) for one in ahead.over(IDS)] == [(one,) for one in IDS]
    assert set(repositories.asked) == set(IDS)
    assert len(repositories.asked) == len(IDS)
    assert repositories.threads == {"tags-ahead"}


def test_a_repository_is_opened_once() -> None:
    """The run asks on with the one whose tags were listed, and opens none a second time."""
    repositories, opened = Listed(), list[registry.Repository]()

    def open_one(plugin_id: str) -> registry.Repository:
        opened.append(repositories.open(plugin_id))
        return opened[-1]

    ahead = Ahead(open_one)
    used = [ahead.opened(location(one)) for one in ahead.over(IDS)]
    assert [id(one) for one in used] == [id(one) for one in opened]
    assert len(opened) == len(IDS)


def test_an_error_is_raised_where_the_tags_are_taken() -> None:
    """One plugin's registry is down: the others never notice."""

    def fail_for_one(plugin_id: str) -> tuple[str, ...]:
        if plugin_id == IDS[1]:
            raise registry.NetworkError("down")
        return (plugin_id,)

    repositories = Listed(fail_for_one)
    ahead = Ahead(repositories.open)
    fine: list[str] = []
    for plugin_id in ahead.over(IDS):
        if plugin_id == IDS[1]:
            with pytest.raises(registry.NetworkError, match="down"):
                take(ahead, repositories, plugin_id)
        else:
            fine += take(ahead, repositories, plugin_id)
    assert fine == [one for one in IDS if one != IDS[1]]


def test_who_was_not_foreseen_is_asked_on_the_spot() -> None:
    """Nobody was asked ahead, and the answer is the repository's own."""
    repositories = Listed()
    ahead = Ahead(lambda _: None)
    for plugin_id in ahead.over(IDS):
        assert take(ahead, repositories, plugin_id) == (plugin_id,)
    assert repositories.threads == {"MainThread"}


def test_answers_that_nobody_takes_keep_no_other_back() -> None:
    """Plugins that failed before the search: those that follow are still looked up ahead."""
    repositories = Listed()
    ahead = Ahead(repositories.open)
    for plugin_id in ahead.over(IDS):
        if plugin_id == IDS[-1]:
            assert take(ahead, repositories, plugin_id) == (plugin_id,)
    assert set(repositories.asked) == set(IDS)


def test_the_threads_end_with_the_run() -> None:
    """Also where it is given up half-way."""
    before = set(threading.enumerate())
    repositories = Listed()
    turns = Ahead(repositories.open).over(IDS)
    next(turns)
    started = set(threading.enumerate()) - before
    assert started
    turns.close()
    for thread in started:
        thread.join(WAIT_S)
    assert not set(threading.enumerate()) - before
