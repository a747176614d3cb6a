"""Counted and time-boxed grants: whatever hosts, crashes, clocks and operators do, never more."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.context import Context, Options
from agent.errors import LedgerError
from agent.serving.grants import bounds_of
from agent.serving.spending import Purse
from agent.tree.remembering import recall
from agent.verbs.deciding import decide, decision
from sandbox.allowance import Allowance
from sandbox.token import Token
from support.agent import NOW, PLUGIN_ID

WORD = "network"
MOST = 20
LONG_S = 100


@dataclass
class Host:
    """A process that has the plugin loaded: its own ledger, its own purse.

    Attributes:
        serial: Of the grant that it was loaded under.
    """

    context: Context
    purse: Purse
    allowance: Allowance
    serial: str | None


@dataclass
class Machine:
    """Hosts beside each other, one tree, a clock, and what was used under each grant."""

    home: Path
    now: float = NOW
    passed: float = 0.0
    hosts: list[Host] = field(default_factory=list)
    used: dict[str | None, int] = field(default_factory=dict)
    grants: int = 0

    def context(self) -> Context:
        """What a process of its own would wire."""
        return Context(Options(home=self.home), environ={}, clock=lambda: self.now)

    def grant(self, number: int) -> None:
        """Grant anew: the count begins again, under another serial."""
        with contextlib.closing(self.context()) as context, contextlib.suppress(LedgerError):
            again = decision(context, WORD, yes=True, for_s=LONG_S, max_calls=number % MOST + 1)
            decide(context, PLUGIN_ID, again)

    def deny(self, _: int) -> None:
        """Take it back."""
        with contextlib.closing(self.context()) as context, contextlib.suppress(LedgerError):
            decide(context, PLUGIN_ID, decision(context, WORD, yes=False))

    def open(self, _: int) -> None:
        """Load the plugin in another process."""
        context = self.context()
        decided = {one.capability: one for one in context.ledger.decided(PLUGIN_ID)}
        bounds = bounds_of(context.config, PLUGIN_ID, decided.values())
        if not bounds or decided[WORD].is_over(self.now):
            context.close()
            return
        purse = Purse(context, PLUGIN_ID, decided)
        token = Token(PLUGIN_ID, "", frozenset({WORD}), bounds=bounds)
        allowance = Allowance(token, purse, lambda: self.now, lambda: self.passed)
        self.hosts.append(Host(context, purse, allowance, decided[WORD].serial))

    def use(self, number: int) -> None:
        """Some calls through one host, each of which uses it twice."""
        if not self.hosts:
            return
        host = self.hosts[number % len(self.hosts)]
        for _ in range(number % 7 + 1):
            counted: set[str] = set()
            first, again = (host.allowance.refusal(WORD, counted) for _ in range(2))
            assert first == again or first is not None
            if first is None:
                with contextlib.closing(self.context()) as context:
                    found = context.ledger.decided(PLUGIN_ID)
                assert not [
                    d for d in found if d.serial == host.serial and self.now >= (d.until or 0)
                ]
                self.used[host.serial] = self.used.get(host.serial, 0) + 1

    def close(self, number: int) -> None:
        """One host lets go of the plugin, and ends."""
        if self.hosts:
            host = self.hosts.pop(number % len(self.hosts))
            host.purse.close()
            host.context.close()

    def crash(self, number: int) -> None:
        """One host dies."""
        if self.hosts:
            self.hosts.pop(number % len(self.hosts)).context.close()

    def wait(self, number: int) -> None:
        """Time passes."""
        self.now += number
        self.passed += number

    def set_clock(self, number: int) -> None:
        """The clock alone is moved, to either side."""
        self.now += number - 50

    def copy(self, _: int) -> None:
        """Keep a copy of the ledger."""
        kept = self.home / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        if (self.home / "state").exists():
            shutil.copytree(self.home / "state", kept)

    def put_back(self, _: int) -> None:
        """Every process ends; an older copy of the ledger is put back."""
        while self.hosts:
            self.crash(0)
        if (self.home / "kept").exists():
            shutil.rmtree(self.home / "state")
            shutil.copytree(self.home / "kept", self.home / "state")

    def take_up(self, _: int) -> None:
        """What the doctor does where the tree knows more than the ledger."""
        with contextlib.closing(self.context()) as context:
            known = recall(context.tree, PLUGIN_ID)
            if known is not None and context.ledger.is_behind(PLUGIN_ID, known):
                context.ledger.take_in_decisions(PLUGIN_ID, known)


STEPS: tuple[Callable[[Machine, int], None], ...] = (
    Machine.use,
    Machine.use,
    Machine.use,
    Machine.open,
    Machine.open,
    Machine.close,
    Machine.crash,
    Machine.wait,
    Machine.set_clock,
    Machine.grant,
    Machine.deny,
    Machine.copy,
    Machine.put_back,
    Machine.take_up,
)


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """A fresh one, gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        one = Machine(Path(folder) / "home")
        try:
            yield one
        finally:
            while one.hosts:
                one.crash(0)


@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.integers(1, MOST),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 120)), max_size=30),
)
def test_never_more_and_never_after_its_end(
    first: int, steps: list[tuple[Callable[[Machine, int], None], int]]
) -> None:
    """Hosts, crashes and closes in any order use each grant as often as it says, at most.

    Also where the clock is moved to either side, the grant is given anew or taken back, or an
    older copy of the ledger is put back.
    """
    with machine() as one:
        one.grant(first - 1)
        most: dict[str | None, int] = {}
        for step, number in itertools.chain([(Machine.open, 0)], steps):
            step(one, number)
            with contextlib.closing(one.context()) as context:
                for decided in context.ledger.decided(PLUGIN_ID):
                    if decided.max_calls is not None:
                        most.setdefault(decided.serial, decided.max_calls)
            assert all(count <= most[serial] for serial, count in one.used.items())


@settings(max_examples=10, derandomize=True, database=None, deadline=None)
@given(st.integers(1, MOST), st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_without_crashes_none_is_lost(first: int, turns: list[int]) -> None:
    """However many hosts come and go in an orderly way: all calls can be used, and no more."""
    with machine() as one:
        one.grant(first - 1)
        for uses in turns:
            one.open(0)
            for _ in range(uses):
                one.use(0)
            one.close(0)
        one.open(0)
        for _ in range(first):
            one.use(6)
        assert sum(one.used.values()) == first
