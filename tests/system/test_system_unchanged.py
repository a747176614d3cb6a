"""An update run with nothing to do: what it writes, what it connects to, whom it waits for."""

import contextlib
from collections.abc import Iterator

import pytest

from agent.context import Context, Options
from agent.pipeline.update import Pipeline
from agent.telemetry import Telemetry
from support.system import PLUGIN_ID, Machine, Publisher

PLUGINS = (PLUGIN_ID, "org.example.other")
NO_WRITES = ("SELECT", "PRAGMA", "BEGIN", "COMMIT")


@pytest.fixture
def context(installed: Machine, publisher: Publisher) -> Iterator[Context]:
    """An installation with two plugins, looked at once before."""
    publisher.release("0.1.0", plugin_id=PLUGINS[1], stem="other-plugin")
    installed.run("pull", PLUGINS[1])
    installed.run("update")
    with contextlib.closing(Context(Options(home=installed.home))) as wired:
        yield wired


def update_all(context: Context) -> list[str]:
    """Run; returns how it ended for each."""
    pipeline = Pipeline(context, Telemetry(""))
    return [pipeline.update(plugin_id, named=False).kind.value for plugin_id in PLUGINS]


def test_it_writes_at_most_once_a_plugin_and_waits_for_no_disk(context: Context) -> None:
    """What was decided, which the next run says again: so a power cut may take it back."""
    statements: list[str] = []
    context.ledger._db.set_trace_callback(statements.append)
    assert update_all(context) == ["current", "current"]
    writes = [s for s in statements if not s.startswith(NO_WRITES)]
    assert len(writes) == len(PLUGINS)
    for write in writes:
        before = statements[: statements.index(write)]
        levels = [s for s in before if s.startswith("PRAGMA synchronous=")]
        assert levels[-1] == "PRAGMA synchronous=NORMAL"
    assert context.ledger._run("PRAGMA synchronous") == [(2,)]


def test_it_connects_once(context: Context) -> None:
    """Two repositories of one registry share a connection."""
    update_all(context)
    (kept,) = context.registries.connections._kept.values()
    manager = kept[1]
    (key,) = manager.pools.keys()
    assert manager.pools[key].num_connections == 1
    assert manager.pools[key].num_requests == len(PLUGINS)


def test_it_waits_for_nobody(context: Context) -> None:
    """Another agent holds the tree: what has nothing to be finished needs no lock."""
    with context.tree.lock(timeout_s=0):
        assert update_all(context) == ["current", "current"]
