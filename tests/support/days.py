"""Days of a service's schedule in seconds: its turns over a real installation, on a set clock.

What happens to it is drawn: releases, holds, outages, configs, clocks that are set; and after each
tick what was done is held against what may be done, said here once more in other words.
"""

import contextlib
import datetime as dt
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.context import Context, Options
from agent.model import Decision, Kind
from agent.pipeline.requirement import is_newer, parse_requirement
from agent.pipeline.update import Pipeline
from agent.pipeline.wish import Wish
from agent.service.clock import Clock
from agent.service.reign import Reign
from agent.service.rounds import Rounds
from agent.service.trials import Trials
from agent.service.workers import Workers
from agent.settings.windows import next_opening
from agent.telemetry import Telemetry, log_record
from agent.verbs.holding import hold, unhold
from registry import parse_reference
from sandbox import Slot
from support.agent import NOW
from support.states import CODES
from support.system import Machine, Publisher, opened, push_by_hand

HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S
RETRY_S = 30.0
STEP_S = 2 * HOUR_S
"""The longest time between two ticks."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
Span = tuple[int, int, int]
"""A window: its day, the hour it opens, and how many hours it is open; in UTC."""


class AtOnce(Workers):
    """Does the work when it is offered, and remembers for whom."""

    def __init__(self) -> None:
        super().__init__("none", 0)
        self.done: list[str] = []

    def offer(self, key: str, work: Callable[[], None], *, lane: str | None = None) -> bool:  # noqa: ARG002
        """Do it now."""
        self.done.append(key)
        work()
        return True


@dataclass
class Plugin:
    """What the operator and the publisher said of one plugin, and what was seen of it.

    Attributes:
        offers: Version → whether it is any good.
        held_until: Wall time; infinity = until somebody takes it back.
        ran_s: When it had its last turn; None = none counts.
        may_soon_after_s: How long it must wait for the next turn at least.
        ready_s: Since when only a window keeps it from taking something; None = it doesn't.
    """

    plugin_id: str
    mode: str = "auto"
    constraint: str | None = None
    held_until: float = 0.0
    is_down: bool = False
    serves: str = "0.1.0"
    offers: dict[str, bool] = field(default_factory=lambda: {"0.1.0": True})
    ran_s: float | None = None
    due_after_s: float = 0.0
    ready_s: float | None = None


class Days:
    """See the module.

    Args:
        folder: Where all of it lies.
        seed: Which story.
        plugins: How many.
    """

    def __init__(self, folder: Path, seed: int, *, plugins: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.offers = folder / "offers"
        self.machine = Machine(folder / "home", f"oci:{self.offers}")
        self.publisher = Publisher(self.machine, folder / "publisher")
        self.publisher.trusted_by(self.machine)
        self.passed_s = self.set_s = 0.0
        self.windows: list[Span] = []
        self.interval_s = self.jitter_s = self.cooldown_s = 0.0
        self.plugins = {
            name: Plugin(name) for name in (f"org.example.p{number}" for number in range(plugins))
        }
        self.minor = 1
        self.taken: list[str] = []
        self.counts = dict.fromkeys(("turns", "waits", "failures", "trials", "refused"), 0)

    @property
    def wall_s(self) -> float:
        """What the machine's clock shows."""
        return NOW + self.passed_s + self.set_s

    # -- one story

    def live(self, days: int) -> None:
        """Install all plugins, and let so many days pass."""
        with self._service():
            for plugin in self.plugins.values():
                self._publish(plugin, "0.1.0", is_good=True)
                where = parse_reference(plugin.plugin_id, self.context.bases())
                outcome = Pipeline(self.context, self.reign.telemetry).pull(Wish(where))
                assert outcome.kind is Kind.COMMITTED, outcome
            events = self._events()
            next_event_s = 0.0
            while self.passed_s < days * DAY_S:
                self._tick()
                if self.passed_s >= next_event_s:
                    next(events)()
                    next_event_s = self.passed_s + self.random.expovariate(1 / (2 * HOUR_S))
                    self.passed_s += 1
                else:
                    self._pass(next_event_s)
            assert all(self._serving(name) == one.serves for name, one in self.plugins.items())

    @contextlib.contextmanager
    def _service(self) -> Iterator[None]:
        self._draw_config()
        self.reigns = Slot(self._begin())
        self.turns = AtOnce()
        clock = Clock(lambda: self.wall_s, lambda: self.passed_s)
        self.rounds = Rounds(self.reigns, self.turns, clock, self.random.random, self._moved)
        self.trials = Trials(self.reigns, AtOnce(), clock)
        try:
            yield
        finally:
            self.reign.close()

    @property
    def reign(self) -> Reign:
        """The config in force, and what goes by it."""
        return self.reigns.current

    @property
    def context(self) -> Context:
        """The installation."""
        return self.reign.context

    def _begin(self) -> Reign:
        context = Context(Options(home=self.machine.home), {}, clock=lambda: self.wall_s)
        return Reign.begin(context, Telemetry(""), on_load=str, on_log=log_record)

    def _moved(self, plugin_id: str) -> None:
        self.reign.host.load_installed(plugin_id)

    def _trial_ended(self, plugin_id: str) -> None:
        self.counts["trials"] += 1
        self.plugins[plugin_id].due_after_s = 0.0
        self.rounds.hasten(plugin_id)

    # -- what happens

    def _events(self) -> Iterator[Callable[[], None]]:
        kinds = (
            (self._offer, 10),
            (self._toggle_hold, 3),
            (self._toggle_outage, 4),
            (self._set_clock, 1),
            (self._reload, 1),
        )
        some = [event for event, weight in kinds for _ in range(weight)]
        return (self.random.choice(some) for _ in itertools.count())

    def _any(self) -> Plugin:
        return self.random.choice(list(self.plugins.values()))

    def _offer(self) -> None:
        """A release, mostly good, of a plugin whose registry is there."""
        plugin = self._any()
        if not plugin.is_down:
            self.minor += 1
            tail = self.random.choice(("", "", "", "-rc.1"))
            major = self.random.choice((0, 0, 0, 1))
            is_good = self.random.random() < 0.8
            self._publish(plugin, f"{major}.{self.minor}.0{tail}", is_good=is_good)

    def _publish(self, plugin: Plugin, version: str, *, is_good: bool) -> None:
        plugin.offers[version] = is_good
        folder = self.publisher.plugin(
            version,
            plugin_id=plugin.plugin_id,
            stem=plugin.plugin_id.rpartition(".")[2],
            code=CODES["good" if is_good else "unhealthy"],
        )
        where = f"oci:{self.offers}/{plugin.plugin_id}"
        push_by_hand(opened(where, folder), self.publisher.artifact(folder), tag=version)

    def _toggle_hold(self) -> None:
        plugin = self._any()
        if plugin.held_until > self.wall_s:
            plugin.held_until = 0.0
            unhold(self.context, plugin.plugin_id, dry_run=False)
        else:
            for_s = self.random.choice((None, 3_600, 100_000))
            plugin.held_until = float("inf") if for_s is None else int(self.wall_s) + for_s
            hold(self.context, plugin.plugin_id, for_s=for_s, dry_run=False)

    def _toggle_outage(self) -> None:
        """A registry can't be read, or all are back: of one plugin, or of each."""
        down = [plugin for plugin in self.plugins.values() if plugin.is_down]
        some = self.random.choice((*[[self._any()]] * 5, list(self.plugins.values())))
        for plugin in down or some:
            there, aside = self.offers / plugin.plugin_id, self.offers / f"{plugin.plugin_id}-aside"
            if plugin.is_down:
                there.unlink()
                aside.rename(there)
            else:
                there.rename(aside)
                there.symlink_to(there.name)  # a loop: it is there, and can't be read
            plugin.is_down = not plugin.is_down

    def _set_clock(self) -> None:
        """Somebody sets the machine's clock, back or forth."""
        self.set_s += self.random.uniform(-1, 1) * self.random.choice((60, HOUR_S, 3 * DAY_S))

    def _reload(self) -> None:
        """Another config: everybody is looked at anew."""
        self._draw_config()
        old = self.reigns.swap(self._begin())
        assert self.reigns.drain(old, 0)
        old.close()
        self.rounds.start_over()
        for plugin in self.plugins.values():
            plugin.ready_s = plugin.ran_s = None

    def _draw_config(self) -> None:
        draw = self.random
        self.interval_s = draw.choice((3, 6, 12)) * HOUR_S
        self.jitter_s = draw.choice((0, 1)) * HOUR_S
        self.cooldown_s = draw.choice((0, 0, 1)) * DAY_S
        self.windows = [
            (draw.randrange(7), draw.randrange(24), draw.randint(1, 20))
            for _ in range(draw.choice((0, 3, 7)))
        ]
        spelled = [
            f'"{WEEKDAYS[day]} {hour:02}:00-{(hour + hours) % 24:02}:00 UTC"'
            for day, hour, hours in self.windows
        ]
        tables = ""
        for plugin in self.plugins.values():
            plugin.mode = draw.choice(("auto", "auto", "auto", "notify", "manual"))
            plugin.constraint = draw.choice((None, None, "<1", "*"))
            bound = f'constraint = "{plugin.constraint}"\n' if plugin.constraint else ""
            tables += f'[plugins."{plugin.plugin_id}"]\nmode = "{plugin.mode}"\n{bound}'
        self.machine.configure(
            tables,
            probation=draw.choice(("0s", "10m", "5h")),
            update=f'interval = "{self.interval_s:.0f}s"\njitter = "{self.jitter_s:.0f}s"\n'
            f'cooldown = "{self.cooldown_s:.0f}s"\nwindows = [{", ".join(spelled)}]\n',
        )

    # -- time

    def _pass(self, next_event_s: float) -> None:
        """Go on to what is next: a turn, an opening window, an event, or the longest step."""
        stops = [next_event_s, self.passed_s + self.random.choice((1, STEP_S, STEP_S))]
        stops += [self.passed_s + left_s for left_s in self.rounds.due().values()]
        now = dt.datetime.fromtimestamp(self.wall_s, dt.UTC)
        opens = next_opening(self.reign.windows, now)
        if opens is not None:
            stops.append(self.passed_s + (opens - now).total_seconds())
        self.passed_s = math.ceil(min(stop for stop in stops if stop > self.passed_s))

    def _tick(self) -> None:
        began = self._on_trial()
        self.trials.tick()
        on_trial, is_open = self._on_trial(), self._is_open()
        for name in began - on_trial:
            self._trial_ended(name)
        self.turns.done.clear()
        self.rounds.tick()
        assert len(self.turns.done) == len(set(self.turns.done))
        for name in self.turns.done:
            plugin = self.plugins[name]
            self._check_turn(plugin)
            version = self._serving(name)
            if version != plugin.serves:
                assert is_open
                assert name not in on_trial
                self._check_taken(plugin, version)
        self._check_none_is_late(self._on_trial())

    # -- what must hold

    def _is_open(self) -> bool:
        """Whether a window is open, counted in hours of the week."""
        now = dt.datetime.fromtimestamp(self.wall_s, dt.UTC)
        hour = now.weekday() * 24 + now.hour
        return not self.windows or any(
            (hour - day * 24 - opens) % 168 < hours for day, opens, hours in self.windows
        )

    def _on_trial(self) -> set[str]:
        return {trial.plugin_id for trial in self.context.ledger.trials()}

    def _serving(self, plugin_id: str) -> str:
        live = self.context.activation.live(plugin_id)
        assert live is not None
        return live.version

    def _is_admitted(self, plugin: Plugin, version: str) -> bool:
        if plugin.constraint is None:
            return "-" not in version
        return parse_requirement(plugin.constraint).admits(version)

    def _has_cooled(self, plugin: Plugin, version: str) -> bool:
        seen = self.context.ledger.seen(f"oci:{self.offers}/{plugin.plugin_id}")
        return version in seen and self.wall_s - seen[version].at >= self.cooldown_s

    def _check_turn(self, plugin: Plugin) -> None:
        """It was time, and what decided was written down."""
        assert plugin.mode != "manual"
        self.counts["turns"] += 1
        decision = self.context.ledger.decision(plugin.plugin_id)
        assert decision is not None
        assert decision.at == self.wall_s
        assert decision.detail
        assert decision.reason or decision.outcome in ("current", "trial", "committed")
        if plugin.ran_s is not None:
            assert self.passed_s - plugin.ran_s >= plugin.due_after_s, (plugin, decision)
        plugin.ran_s = self.passed_s
        assert (decision.outcome == "failed") <= plugin.is_down, decision
        plugin.due_after_s = self._at_least_s(decision)

    def _at_least_s(self, decision: Decision) -> float:
        if decision.outcome == "failed":
            self.counts["failures"] += 1
            return RETRY_S
        if decision.reason == "window":
            self.counts["waits"] += 1
            assert not self._is_open()
            return 0.0
        self.counts["refused"] += decision.outcome == "refused"
        return self.interval_s

    def _check_taken(self, plugin: Plugin, version: str) -> None:
        """It might be taken."""
        assert plugin.mode == "auto"
        assert plugin.held_until <= self.wall_s
        assert plugin.offers[version], "it is not healthy"
        assert is_newer(version, plugin.serves)
        assert self._is_admitted(plugin, version)
        assert self._has_cooled(plugin, version)
        plugin.serves = version
        self.taken.append(version)

    def _check_none_is_late(self, on_trial: set[str]) -> None:
        """Whoever has waited for no more than its turn has had it."""
        for plugin in self.plugins.values():
            if plugin.mode == "manual":
                continue
            assert plugin.ran_s is not None, "its first turn, of this config, comes at once"
            assert self.passed_s - plugin.ran_s <= self.interval_s + self.jitter_s + 1, plugin
            if plugin.plugin_id in on_trial or not self._has_something_to_take(plugin):
                plugin.ready_s = None
            elif plugin.ready_s is None:
                plugin.ready_s = self.passed_s
            if plugin.ready_s is not None and self._is_open():
                waited_s = self.passed_s - plugin.ready_s
                assert waited_s <= self.interval_s + self.jitter_s + 1, plugin

    def _has_something_to_take(self, plugin: Plugin) -> bool:
        """Whether nothing but a window and its turn keeps it from being updated."""
        if plugin.mode != "auto" or plugin.is_down or plugin.held_until > self.wall_s:
            return False
        return any(
            is_good
            and is_newer(version, plugin.serves)
            and self._is_admitted(plugin, version)
            and self._has_cooled(plugin, version)
            for version, is_good in plugin.offers.items()
        )
