"""An agent that is killed at moments nobody chose, again and again in one installation."""

import contextlib
import math
import random
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wasmtime import wat2wasm

from agent.context import Context, Options
from agent.model import Generation, Stop
from support.system import (
    PLUGIN_ID,
    PROCESS_WAIT_S,
    STEM,
    Machine,
    Publisher,
    counted_registry,
    marked,
)
from trust import Subject

_CLOSE_S = 0.004
_LOOK_S = 0.0002
_UNLIMITED = 1_000
_MOST_TRIES = 10
VERBS = (
    *("update", "rollback", "pull", "prune", "disable", "enable", "remove", "drop-in"),
    "doctor",
)
_CODE = """(module
  (memory (export "memory") 1)
  (data (i32.const 64) "{version}")
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "health") (result i32) (i32.const 0))
  (func (export "run") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const {length}))))"""


def speaking(version: str) -> bytes:
    """Code that answers with its version."""
    return bytes(wat2wasm(_CODE.format(version=version, length=len(version))))


def await_commits(
    path: Path, process: subprocess.Popen[str], commits: int, *, until_s: float = math.inf
) -> int:
    """Look until a ledger was written so often, the process has ended, or the time has come.

    Args:
        path: The ledger.
        process: Who writes.
        commits: How often at most.
        until_s: Of the monotonic clock.

    Returns:
        How often it was written.
    """
    found = 0
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        last = ledger.execute("PRAGMA data_version").fetchone()
        while found < commits and process.poll() is None and time.monotonic() < until_s:
            now = ledger.execute("PRAGMA data_version").fetchone()
            found, last = found + (now != last), now
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LOOK_S)
    return found


@dataclass
class Victim:
    """An installation, its publisher, and a seeded choice of moments.

    Attributes:
        machine: Where verbs are killed; its registry is a real one.
        publisher: Whom it believes.
        folder: For what the checks write.
        seed: Of the moments.
        seen: How often a kill came in time, by verb, and how often it left work to recover.
    """

    machine: Machine
    publisher: Publisher
    folder: Path
    seed: int
    seen: Counter[str] = field(default_factory=Counter)
    _minor: int = 0
    _told: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - a reproducible choice, no secret
        self._publish()
        self.machine.run("pull", PLUGIN_ID)
        self._length_s: dict[str, float] = {}
        self._commits: dict[str, int] = {}
        for verb in VERBS:
            self._measure(verb)

    @property
    def _ledger(self) -> Path:
        return self.machine.home / "state" / "state.db"

    def kill_each(self) -> None:
        """Go on with the verbs that were over before each of their kills so far."""
        for verb in VERBS:
            for _ in range(_MOST_TRIES):
                if self.seen[verb]:
                    break
                self.kill_one(verb)
            assert self.seen[verb], verb

    def kill_one(self, verb: str | None = None) -> str:
        """Kill a verb, else the next, at a moment of its own, check what is left, and update."""
        if verb is None:
            verb = VERBS[self._told % len(VERBS)]
            self._told += 1
        # Half of the moments lie just after the ledger was written: a narrow part of the whole.
        commits = self._rng.choice([0, self._rng.randint(1, max(1, self._commits[verb]))])
        delay_s = self._rng.uniform(0, _CLOSE_S if commits else 1.05 * self._length_s[verb])
        told = f"seed {self.seed}, {verb} {delay_s * 1000:.1f} ms after {commits} commits"
        with self.machine.popen(*self._prepare(verb)) as process:
            await_commits(self._ledger, process, commits)
            try:
                process.communicate(timeout=delay_s)
            except subprocess.TimeoutExpired:
                process.kill()
                self.seen[verb] += 1
            process.communicate(timeout=PROCESS_WAIT_S)
        if verb == "doctor":
            # Nothing that serves moves meanwhile, and the next doctor ends what this one began.
            self.machine.process("call", PLUGIN_ID, "run", "Jane")
            self.machine.run("doctor", "--fix")
        self._check_left(told)
        return told

    def _prepare(self, verb: str) -> tuple[str, ...]:
        """Bring about that the verb has something to do; its command line."""
        probation = self._rng.choice(["0s", "10m"])
        keep = 1 if verb == "prune" else 8
        self.machine.configure(probation=probation, update=f"keep = {keep}")
        if verb in ("update", "pull"):
            self._publish()
        if verb == "enable":
            self.machine.run("disable", PLUGIN_ID)
        if verb == "doctor":
            self._lose_or_age_the_ledger()
            return ("doctor", "--fix")
        if verb == "drop-in":
            self._put()
            return ("update", PLUGIN_ID)
        return (verb,) if verb == "prune" else (verb, PLUGIN_ID)

    def _lose_or_age_the_ledger(self) -> None:
        """It is gone, and a look has made an empty one; or an older copy lies there."""
        path = self._ledger
        kept = path.read_bytes()
        self.machine.run("hold", PLUGIN_ID)
        self.machine.run("unhold", PLUGIN_ID)
        for file in path.parent.glob("state.db*"):
            file.unlink()
        if self._rng.choice([True, False]):
            path.write_bytes(kept)
        self.machine.run("list")

    def _publish(self) -> None:
        self._minor += 1
        version = f"0.{self._minor}.0"
        self.publisher.release(version, code=marked(speaking(version)))

    def _put(self) -> None:
        """Copy the next release into the plugin folder instead of publishing it."""
        self._minor += 1
        version = f"0.{self._minor}.0"
        folder = self.publisher.plugin(version, code=marked(speaking(version)))
        self.machine.run("sign", folder, "--key", self.publisher.key)
        for part in ("wasm", "sig", "toml"):
            shutil.copy(folder / f"{STEM}.{part}", self.machine.plugins)

    def _measure(self, verb: str) -> None:
        """How long an undisturbed run takes, and how often it writes the ledger."""
        arguments = self._prepare(verb)
        started = time.monotonic()
        with self.machine.popen(*arguments) as process:
            self._commits[verb] = await_commits(self._ledger, process, _UNLIMITED)
            process.communicate(timeout=PROCESS_WAIT_S)
        self._length_s[verb] = time.monotonic() - started
        assert process.returncode == 0, verb
        self._bring_back(f"undisturbed {verb}")

    def _check_left(self, told: str) -> None:
        self.machine.run("list")
        with self._looking() as context:
            self.seen["unfinished"] += context.activation.is_unfinished(PLUGIN_ID)
        self._bring_back(told)
        answer = self.machine.process("call", PLUGIN_ID, "run", "Jane").out
        serving = self._check_ledger(told)
        assert answer == serving.version, told
        # As good as the undisturbed: a verb that changes things takes the newest there is.
        self._publish()
        self.machine.configure(update="keep = 8")
        row = self.machine.json("update", PLUGIN_ID).row
        assert row["outcome"] == "trial", told
        serving = self._check_ledger(told)
        assert serving.version == f"0.{self._minor}.0", told
        self._check_flat_set(serving, told)

    def _bring_back(self, told: str) -> None:
        """What was disabled or removed answers nobody, and serves again when somebody asks."""
        with self._looking() as context:
            installed = context.ledger.installed(PLUGIN_ID)
        assert installed is not None, told
        if installed.stop is None and installed.good is not None:
            return
        is_disabled = installed.stop is Stop.DISABLED
        self.machine.process("call", PLUGIN_ID, "run", "Jane", expect=8 if is_disabled else 3)
        assert not list(self.machine.plugins.glob(f"{STEM}.*")), told
        with self._looking() as context:
            assert context.tree.current(PLUGIN_ID) is None, told
            assert not context.activation.is_unfinished(PLUGIN_ID), told
        self.machine.run("enable" if is_disabled else "pull", PLUGIN_ID)

    def _check_ledger(self, told: str) -> Generation:
        """What serves is what the ledger names, and nothing that was rejected."""
        with self._looking() as context:
            live = context.activation.live(PLUGIN_ID)
            installed, trial = context.ledger.installed(PLUGIN_ID), context.ledger.trial(PLUGIN_ID)
            assert live is not None, told
            assert installed is not None, told
            assert live.release == (trial.release if trial else installed.good), told
            assert live.release not in context.ledger.rejections(PLUGIN_ID), told
            assert context.ledger.generation(PLUGIN_ID, str(installed.good)) is not None, told
        return live

    def _check_flat_set(self, serving: Generation, told: str) -> None:
        """The copies for other hosts verify with openssl alone, against the statement."""
        flat = {part: self.machine.plugins / f"{STEM}.{part}" for part in ("wasm", "sig", "toml")}
        sealed = self.machine.plugins / ".store" / PLUGIN_ID / serving.folder_name
        for path in flat.values():
            assert path.read_bytes() == (sealed / path.name).read_bytes(), told
        subject = Subject(PLUGIN_ID, serving.version, _sha256(flat["toml"]), _sha256(flat["wasm"]))
        statement, raw = self.folder / "statement", self.folder / "raw"
        statement.write_bytes(subject.statement)
        raw.write_bytes(bytes.fromhex(flat["sig"].read_text(encoding="ascii")))
        verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(self.publisher.public)]
        checked = subprocess.run(
            [*verify, "-rawin", "-in", str(statement), "-sigfile", str(raw)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_WAIT_S,
        )
        assert checked.returncode == 0, f"{told}: {checked.stderr}"
        assert subject.release == serving.release, told

    def _looking(self) -> contextlib.closing[Context]:
        return contextlib.closing(Context(Options(home=self.machine.home), environ={}))


@contextlib.contextmanager
def killed(folder: Path, seed: int) -> Iterator[Victim]:
    """An installation with a registry of its own, ready to be killed."""
    storage = folder / "storage"
    storage.mkdir()
    with counted_registry(storage) as registry:
        machine = Machine(folder / "host", f"{registry.host}/kills")
        publisher = Publisher(machine, folder / "publisher")
        publisher.trusted_by(machine)
        yield Victim(machine, publisher, folder, seed)


def _sha256(path: Path) -> str:
    done = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]
