"""What plugins said lately: kept, bounded, and held to a rate."""

import threading
from dataclasses import dataclass

from sandbox.log import INFO, LogRecord
from sandbox.logs import (
    BURST_RECORDS,
    KEPT_CHARACTERS,
    KEPT_RECORDS,
    RECORDS_PER_S,
    PluginLogs,
)

PLUGIN_ID = "org.example.hello"


@dataclass
class Clock:
    """Seconds that pass when they are told to."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def say(message: str, plugin_id: str = PLUGIN_ID) -> LogRecord:
    """A record."""
    return LogRecord(plugin_id, INFO, message, "host_log")


def messages(logs: PluginLogs, plugin_id: str = PLUGIN_ID) -> list[str]:
    """What is kept of a plugin."""
    return [record.message for record in logs.lately(plugin_id)]


def test_the_last_records_are_kept_by_plugin() -> None:
    """The oldest go first; a plugin that floods takes nothing from another."""
    clock = Clock()
    logs = PluginLogs(None, clock)
    logs.take(say("quiet", "org.example.quiet"))
    for number in range(KEPT_RECORDS + 5):
        logs.take(say(str(number)))
    assert messages(logs) == [str(number) for number in range(5, KEPT_RECORDS + 5)]
    assert messages(logs, "org.example.quiet") == ["quiet"]
    assert messages(logs, "org.example.other") == []


def test_what_is_kept_is_bounded_by_its_length_too() -> None:
    """Records of the greatest length: only as many as fit."""
    logs = PluginLogs(None, Clock())
    for _ in range(100):
        logs.take(say("x" * 8192))
    assert len(messages(logs)) == KEPT_CHARACTERS // 8192


def test_a_record_longer_than_all_that_is_kept_leaves_nothing() -> None:
    """Nothing is kept that the bound does not hold."""
    logs = PluginLogs(None, Clock())
    logs.take(say("x" * (KEPT_CHARACTERS + 1)))
    logs.take(say("next"))
    assert messages(logs) == ["next"]


def test_a_flood_over_many_calls_is_cut_and_said_once() -> None:
    """What is dropped reaches neither the ring nor who listens; afterwards it is counted."""
    clock = Clock()
    heard: list[LogRecord] = []
    logs = PluginLogs(heard.append, clock)
    for number in range(BURST_RECORDS + 50):
        logs.take(say(str(number)))
    assert len(heard) == BURST_RECORDS + 1
    assert heard[-1].source == "sandbox"
    assert heard[-1].message == f"more than {RECORDS_PER_S} records a second, the rest is dropped"
    clock.now_s += 1
    for _ in range(RECORDS_PER_S + 1):
        logs.take(say("again"))
    later = [record.message for record in heard[BURST_RECORDS + 1 :]]
    assert later[:2] == ["50 records were dropped", "again"]
    assert later.count("again") == RECORDS_PER_S
    assert later[-1] == f"more than {RECORDS_PER_S} records a second, the rest is dropped"


def test_silence_gives_the_burst_back_and_no_more() -> None:
    """An hour of silence is worth one burst."""
    clock = Clock()
    heard: list[LogRecord] = []
    logs = PluginLogs(heard.append, clock)
    logs.take(say("first"))
    clock.now_s += 3600
    for _ in range(BURST_RECORDS * 2):
        logs.take(say("more"))
    assert [record.message for record in heard].count("more") == BURST_RECORDS


def test_threads_lose_nothing() -> None:
    """Several calls log at once: each record is there once."""
    logs = PluginLogs(None, Clock())

    def talk() -> None:
        for _ in range(200):
            logs.take(say("x"))

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages(logs)) == 800
