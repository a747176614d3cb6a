"""A service that is killed at moments nobody chose, again and again in one installation."""

import random
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from support.kills import await_commits, speaking
from support.registry import docker_registry
from support.service import EAGER, Running, happened, looking, service, serving
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher

_CLOSE_S = 0.004
_SIDE_BY_SIDE = 4
_MOST = {"update": (12, 3.0), "adoption": (12, 3.0), "rollback": (4, 1.2)}
"""About as often as the ledger is written for each kind of work, and as long as it takes."""
WORK = ("update", "rollback", "adoption", "rollback")


End = tuple[str, str]
"""What the history tells once a piece of work is done, and of which version."""


@dataclass
class ServiceVictim:
    """An installation whose service is killed while it works.

    Attributes:
        machine: The host.
        publisher: Whom it believes; it publishes from a machine of its own.
        seed: Of the moments.
        seen: How often a kill came while each kind of work was not over, or left the tree torn.
    """

    machine: Machine
    publisher: Publisher
    seed: int
    seen: Counter[str] = field(default_factory=Counter)
    _minor: int = 1

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - a reproducible choice, no secret
        self.publisher.trusted_by(self.machine)
        self.machine.configure(probation="1s", update=f"keep = 1\n{EAGER}")
        self._publish()
        self.machine.run("pull", PLUGIN_ID)

    def kill(self, times: int) -> None:
        """Kill so many services, each while it works, and see that the next one ends the work.

        Each goes on from what the one before it left; the last one ends in good order.
        """
        ends = ("committed", "0.1.0")
        told = f"seed {self.seed}, the first"
        for number in range(times):
            with service(self.machine) as running:
                self._see_that_it_serves(running, told)
                self._await_end(running, ends, told)
                self._see_that_it_is_whole(told)
                work = WORK[number % len(WORK)]
                ends, told = self._kill_one(running, work)
        with service(self.machine) as running:
            self._see_that_it_serves(running, told)
            self._await_end(running, ends, told)
        self._see_that_it_is_whole(told)

    def _kill_one(self, running: Running, work: str) -> tuple[End, str]:
        """Give it work and kill it in the middle; how that work is to end."""
        # Half of the moments lie just after the ledger was written: a narrow part of the whole.
        most_commits, most_s = _MOST[work]
        commits = self._rng.choice([0, self._rng.randint(1, most_commits)])
        delay_s = self._rng.uniform(0, _CLOSE_S if commits else most_s)
        told = f"seed {self.seed}, {work} {delay_s * 1000:.1f} ms after {commits} commits"
        ends = self._begin(work)
        ledger = self.machine.home / "state" / "state.db"
        until_s = time.monotonic() + most_s
        await_commits(ledger, running.process, commits, until_s=until_s)
        await_commits(ledger, running.process, 10**9, until_s=time.monotonic() + delay_s)
        running.process.kill()
        running.process.wait(timeout=PROCESS_WAIT_S)
        with looking(self.machine) as context:
            self.seen["torn"] += context.activation.is_unfinished(PLUGIN_ID)
        self.seen[work] += not self._is_over(ends)
        return ends, told

    def _await_end(self, running: Running, ends: End, told: str) -> None:
        running.until(lambda: self._is_over(ends) or None, f"end: {told}")

    def _is_over(self, ends: End) -> bool:
        return happened(self.machine, *ends) is not None

    def _begin(self, work: str) -> End:
        if work == "rollback":
            return self._deny()
        self._minor += 1
        version = f"0.{self._minor}.0"
        if work == "update":
            self._publish()
        else:
            self._put(version)
        return "committed", version

    def _publish(self) -> None:
        version = f"0.{self._minor}.0"
        self.publisher.release(version, code=speaking(version))

    def _put(self, version: str) -> None:
        """Copy a release into the plugin folder."""
        folder = self.publisher.plugin(version, code=speaking(version))
        self.publisher.machine.run("sign", folder, "--key", self.publisher.key)
        for part in ("wasm", "sig", "toml"):
            shutil.copy(folder / f"{STEM}.{part}", self.machine.plugins)

    def _deny(self) -> End:
        """Take back what serves."""
        live, _trial = serving(self.machine)
        store = self.machine.home / "config" / "trusted_keys.toml"
        with store.open("a", encoding="utf-8") as file:
            file.write(f'\n[[deny]]\nrelease = "{live.release}"\nreason = "no good"\n')
        return "rolled back", live.version

    def _see_that_it_serves(self, running: Running, told: str) -> None:
        """The release that the ledger names is the one that answers, whatever goes on."""

        def answer() -> tuple[str, str] | None:
            before, _trial = serving(self.machine)
            said = self.machine.run("call", PLUGIN_ID, "run", "Jane").out
            after, _trial = serving(self.machine)
            return (before.version, said) if before.release == after.release else None

        version, said = running.until(answer, f"answer: {told}")
        assert version == said, told

    def _see_that_it_is_whole(self, told: str) -> None:
        live, _trial = serving(self.machine)  # after whoever is at it has ended
        doctor = self.machine.run("doctor", expect=None)
        assert doctor.code == 0, f"{told}: {doctor}"
        for part in ("wasm", "sig", "toml"):
            flat = self.machine.plugins / f"{STEM}.{part}"
            sealed = self.machine.plugins / ".store" / PLUGIN_ID / live.folder_name / flat.name
            assert flat.read_bytes() == sealed.read_bytes(), told
        self.machine.run("audit", "verify")


def kill_services(folder: Path, seed: int, kills: int) -> Counter[str]:
    """Kill so many services in a few installations side by side, over a registry of their own.

    Returns:
        How often each kind of work was not over, and the tree torn.
    """
    storage = folder / "storage"
    storage.mkdir()
    seen = Counter[str]()
    with docker_registry(storage) as host, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:

        def kill(number: int) -> Counter[str]:
            base, own = f"{host}/n{number}", folder / f"n{number}"
            publisher = Publisher(Machine(own / "author", base), own / "publisher")
            victim = ServiceVictim(Machine(own / "host", base), publisher, seed + number)
            victim.kill(kills // _SIDE_BY_SIDE)
            return victim.seen

        for one in pool.map(kill, range(_SIDE_BY_SIDE)):
            seen += one
    return seen
