"""The second place: what is remembered in the tree, how it is read, and when it changes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import LedgerError
from agent.ledger.ledger import Ledger
from agent.ledger.memory import Committed, Decided, Held, Memory, decode, narrowed, narrower
from agent.model import Event, Rejection, Stop
from agent.tree.ownership import Owner, owner_of
from agent.tree.remembering import recall, remember
from support.agent import NOW, PLUGIN_ID, World, generation

WHOLE = Memory(
    ledger="ab" * 16,
    number=7,
    floor="0.2.0",
    repository="oci:/srv/registry/org.example.hello",
    channel=None,
    good="ef" * 32,
    stop=Stop.DISABLED,
    hold=Held(NOW + 60, NOW),
    decisions=(
        Decided("fs_read", granted=True, at=NOW),
        Decided("llm", granted=False, at=NOW),
        Decided(
            "plan", granted=True, at=NOW, until=NOW + 5, max_calls=9, calls_left=8, serial="ab"
        ),
    ),
    rejected=(Rejection("cd" * 32, "0.3.0", "bad", NOW),),
    committed=(Committed("ef" * 32, "0.2.0", None, None, NOW, NOW + 1),),
)


def home_of(world: World) -> Path:
    """Where the plugin's releases lie."""
    return world.tree.root / ".store" / PLUGIN_ID


def test_what_is_written_is_read() -> None:
    """Every field."""
    assert decode(WHOLE.encode()) == WHOLE


def test_of_a_plugin_that_is_not_known_nothing_is_remembered() -> None:
    """It is written and read like any other, and says nothing that another would narrow."""
    nothing = Memory.nothing(WHOLE.ledger)
    assert decode(nothing.encode()) == nothing
    assert not nothing.is_of_installed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        WHOLE.encode()[:-20],
        WHOLE.encode().replace(b'"schema": 1', b'"schema": 2'),
        WHOLE.encode().replace(b'"floor": "0.2.0"', b'"floor": "no version"'),
        WHOLE.encode().replace(b'"floor": "0.2.0"', b'"floor": 2'),
        WHOLE.encode().replace(b'"number": 7', b'"number": true'),
        WHOLE.encode().replace(b'"number": 7', b'"number": 7.5'),
        WHOLE.encode().replace(b'"number": 7', b'"number": 99999999999999999999'),
        WHOLE.encode().replace(b'"number": 7', b'"more": 1, "number": 7'),
        WHOLE.encode().replace(b'"at": 1800000000.0', b'"at": NaN'),
        WHOLE.encode().replace(b'"at": 1800000000.0', b'"at": 1' + b"0" * 400),
        WHOLE.encode().replace(b'"at": 1800000000.0', b'"at": -1'),
        WHOLE.encode().replace(b'"until": 1800000060.0', b'"until": 1e300'),
        WHOLE.encode().replace(b'"until": 1800000060.0', b'"until": "forever"'),
        WHOLE.encode().replace(b'"stop": "disabled"', b'"stop": "else"'),
        WHOLE.encode().replace(b'"stop": "disabled"', b'"stop": ["disabled"]'),
        WHOLE.encode().replace(b'"stop": "disabled",', b""),
        WHOLE.encode().replace(b'"granted": true', b'"granted": 1'),
        WHOLE.encode().replace(b'"capability": "llm"', b'"capability": "../llm"'),
        WHOLE.encode().replace(b'"capability": "llm"', b'"capability": null'),
        WHOLE.encode().replace(b'"calls_left": 8', b'"calls_left": -1'),
        WHOLE.encode().replace(b'"calls_left": 8', b'"calls_left": 0.5'),
        WHOLE.encode().replace(b'"max_calls": 9', b'"max_calls": true'),
        WHOLE.encode().replace(b'"max_calls": 9', b'"max_calls": 9007199254740992'),
        WHOLE.encode().replace(b'"serial": "ab"', b'"serial": 7'),
        WHOLE.encode().replace(b'"decisions": [', b'"decisions": [[], '),
        WHOLE.encode().replace(b'"hold": {', b'"hold": {"more": 1, '),
        WHOLE.encode().replace(b'"reason": "bad"', b'"reason": null'),
        WHOLE.encode().replace(b'"rejected": [', b'"rejected": [1, '),
    ],
)
def test_what_is_none_of_ours_is_not_read(data: bytes) -> None:
    """Whatever lies there: no error, and nothing half understood."""
    assert data != WHOLE.encode()
    assert decode(data) is None


def test_a_hold_may_have_no_end() -> None:
    """And a plugin neither stop nor hold."""
    for other in (replace(WHOLE, hold=Held(None, NOW)), replace(WHOLE, hold=None, stop=None)):
        assert decode(other.encode()) == other


def test_of_two_accounts_the_narrower_holds() -> None:
    """Denied is what either denies, granted what both grant, whichever of them is the older."""

    def account(**words: bool) -> tuple[Decided, ...]:
        return tuple(Decided(word, granted, NOW) for word, granted in words.items())

    one = account(log=True, llm=True, plan=False, fs_read=True)
    other = account(log=True, llm=False, plan=True, network=True, retrieval=False)
    wanted = account(llm=False, log=True, plan=False, retrieval=False)
    assert narrowed(one, other) == narrowed(other, one) == wanted


def test_of_two_bounds_the_narrower_holds() -> None:
    """The earlier end and the fewer calls, of whichever account; a bound beats none."""
    endless = Decided("llm", granted=True, at=NOW)
    older = replace(endless, until=NOW + 9, max_calls=7, calls_left=3, serial="a")
    newer = replace(endless, until=NOW + 5, max_calls=8, calls_left=4, serial="b")
    assert narrowed([older], [newer]) == (
        replace(endless, until=NOW + 5, max_calls=7, calls_left=3, serial="b"),
    )
    assert narrowed([endless], [newer]) == narrowed([newer], [endless]) == (newer,)


def test_when_a_grant_is_in_force() -> None:
    """From the moment it was given until its end, and while calls are left."""
    boxed = Decided("llm", granted=True, at=NOW, until=NOW + 5)
    assert [boxed.is_in_force(NOW + s) for s in (-1, 0, 4, 5)] == [False, True, True, False]
    counted = Decided("llm", granted=True, at=NOW, max_calls=2, calls_left=1, serial="a")
    assert counted.is_in_force(NOW - 1)
    assert not replace(counted, calls_left=0).is_in_force(NOW)
    assert Decided("llm", granted=False, at=NOW).is_in_force(NOW - 1)


def test_neither_account_lifts_what_the_other_says() -> None:
    """Stops, holds, rejections, denials, floors: the same whichever of the two is the older."""
    other = Rejection("ee" * 32, "0.4.0", "worse", NOW)
    one = replace(WHOLE, floor=None, stop=None, rejected=(other,), decisions=(), hold=None)
    wanted = replace(
        WHOLE,
        decisions=tuple(d for d in WHOLE.decisions if not d.granted),
        rejected=(*WHOLE.rejected, other),
    )
    for mine, written in ((one, WHOLE), (WHOLE, one)):
        held = narrower(mine, written)
        assert sorted(held.rejected, key=lambda r: r.version) == list(wanted.rejected)
        assert replace(held, rejected=wanted.rejected) == wanted


@pytest.mark.parametrize("is_turned", [False, True])
def test_the_longer_hold_and_the_higher_floor_count(*, is_turned: bool) -> None:
    """A hold without an end is the longest; 0.10.0 is higher than 0.9.0."""
    accounts = [
        replace(WHOLE, hold=Held(None, NOW), floor="0.9.0", stop=Stop.REMOVING),
        replace(WHOLE, floor="0.10.0"),
    ]
    held = narrower(*reversed(accounts) if is_turned else accounts)
    assert (held.hold, held.floor, held.stop) == (Held(None, NOW), "0.10.0", Stop.DISABLED)
    nothing = [replace(one, hold=None, floor=None, stop=None) for one in accounts]
    none = narrower(*nothing)
    assert (none.hold, none.floor, none.stop) == (None, None, None)


def test_every_change_that_must_outlive_the_ledger_is_counted(tmp_path: Path) -> None:
    """What becomes of releases, and what an operator decides: each makes the tree's copy old."""
    event = Event(NOW, PLUGIN_ID, "disabled", None, None, "")
    with World(tmp_path / "world") as world:
        numbers = [0]

        def moved() -> bool:
            memory = world.ledger.memory(PLUGIN_ID)
            numbers.append(memory.number if memory else 0)
            return numbers[-1] > numbers[-2]

        first = world.install("0.1.0")
        assert moved()
        world.install("0.2.0")
        assert moved()
        world.ledger.reject(PLUGIN_ID, "ff", "0.3.0", reason="bad", at=NOW)
        assert moved()
        world.ledger._run("DELETE FROM rejected WHERE release = 'ff'")
        assert moved()
        world.ledger._run("UPDATE plugins SET repository = 'elsewhere'")
        assert moved()
        world.ledger.forget_generation(PLUGIN_ID, first.release)
        assert moved()
        world.ledger.stop(PLUGIN_ID, Stop.DISABLED, event)
        assert moved()
        world.ledger.start(PLUGIN_ID, event)
        assert moved()
        for until in (None, NOW):
            world.ledger.hold(PLUGIN_ID, until=until, at=NOW)
            assert moved()
        world.ledger.unhold(PLUGIN_ID)
        assert moved()
        for granted in (True, False, True):
            world.ledger.decide(PLUGIN_ID, "llm", granted=granted, at=NOW)
            assert moved()
        world.ledger.decide(PLUGIN_ID, "llm", granted=True, at=NOW, max_calls=9)
        assert moved()
        serial = world.ledger.decided(PLUGIN_ID)[0].serial or ""
        assert world.ledger.set_aside(PLUGIN_ID, "llm", serial, most=64) == 2
        assert moved()
        world.ledger.give_back(PLUGIN_ID, "llm", serial, 1)
        assert moved()
        assert world.ledger.set_aside(PLUGIN_ID, "llm", "another", most=64) == 0
        assert not moved()
        world.ledger._run("DELETE FROM grants")
        assert moved()
        world.ledger.serve_instead(PLUGIN_ID, None)
        assert moved()
        world.ledger.stopped(PLUGIN_ID)
        world.ledger.projected(PLUGIN_ID, first.release)
        world.ledger.add_generation(generation("0.4.0"))
        assert not moved()


def test_both_places_say_the_same_after_each_step(tmp_path: Path) -> None:
    """Installed, on trial, committed, left."""
    with World(tmp_path / "world") as world:
        world.install("0.1.0")
        assert recall(world.tree, PLUGIN_ID) == world.ledger.memory(PLUGIN_ID)
        world.install("0.2.0", probation_s=60)
        assert recall(world.tree, PLUGIN_ID) == world.ledger.memory(PLUGIN_ID)
        world.fail_calls("0.2.0", 5)
        world.activation.judge(PLUGIN_ID)
        memory = recall(world.tree, PLUGIN_ID)
        assert memory == world.ledger.memory(PLUGIN_ID)
        assert memory is not None
        assert [rejection.version for rejection in memory.rejected] == ["0.2.0"]
        assert memory.floor == "0.1.0"


def test_pruning_and_listing_pass_it_over(tmp_path: Path) -> None:
    """It is no release, and goes with none."""
    with World(tmp_path / "world") as world:
        world.install("0.1.0")
        new = world.install("0.2.0")
        world.tree.prune(PLUGIN_ID, frozenset({new.folder_name}))
        assert recall(world.tree, PLUGIN_ID) is not None
        assert world.tree.generations(PLUGIN_ID) == (new.folder_name,)
        assert world.tree.plugin_ids() == (PLUGIN_ID,)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _long(path: Path) -> None:
    path.write_bytes(WHOLE.encode() + b" " * (1 << 20))


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [_fifo, _link, _long, _folder])
def test_what_somebody_put_in_its_place_is_not_read(tmp_path: Path, put: object) -> None:
    """A pipe, a link, a file without end: nothing is waited for, and nothing believed."""
    with World(tmp_path / "world") as world:
        world.install("0.1.0")
        path = home_of(world) / ".memory"
        path.unlink()
        assert callable(put)
        put(path)
        assert recall(world.tree, PLUGIN_ID) is None
        remember(world.ledger, world.tree, PLUGIN_ID)


def test_a_copy_that_knows_more_is_not_written_over(tmp_path: Path) -> None:
    """An older ledger was put back: nothing is changed, and the next step is told."""
    with World(tmp_path / "world") as world:
        world.install("0.1.0")
        known = world.ledger.memory(PLUGIN_ID)
        assert known is not None
        newer = replace(known, number=known.number + 1, floor="0.9.0")
        world.tree.write_memory(PLUGIN_ID, newer.encode())
        with pytest.raises(LedgerError, match="an older copy was put back") as caught:
            world.activation.recover()
        assert caught.value.hint is not None
        assert "agent doctor --fix" in caught.value.hint
        assert recall(world.tree, PLUGIN_ID) == newer


def test_a_ledgers_id_is_its_own(tmp_path: Path) -> None:
    """Made once, at random; kept when it is opened again."""
    ids = []
    for name in ("one.db", "two.db", "one.db"):
        ledger = Ledger(tmp_path / name)
        ids.append(ledger.ledger_id)
        ledger.close()
    assert ids[0] == ids[2] != ids[1]
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"ledger": 1, "state": "/x", "inode": 1}',
        b'{"ledger": "a", "state": "relative", "inode": 1}',
        b'{"ledger": "a", "state": "/nul\\u0000", "inode": 1}',
        b'{"ledger": "a", "state": "/x"}',
    ],
)
def test_an_owner_that_cannot_be_read_is_none(tmp_path: Path, data: bytes) -> None:
    """Then the ledger must know the tree's plugins, as before there were owners."""
    with World(tmp_path / "world") as world:
        world.install("0.1.0")
        world.tree.write_owner(data)
        assert owner_of(world.tree) is None
        good = {"ledger": "a", "state": "/x", "inode": 1}
        world.tree.write_owner(json.dumps(good).encode())
        assert owner_of(world.tree) == Owner("a", Path("/x"), 1)
