"""``make demo``: the service at its job, narrated, on the embedded registry (an OCI image layout).

Everything lives in a temporary folder; each line after ``$`` is a real command, what follows
is its real output. ``agent run`` is a real process; while a publisher pushes versions, callers in
this one have it answer calls in a loop, over its socket.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.control.client import Client, reach
from agent.errors import AgentError

PLUGIN = "org.example.hello"
SAMPLES = Path(__file__).parent.parent / "sdk" / "samples" / "hello"
PROBATION_S = 3
WAIT_S = 30.0
CALLERS = 2
CALLS = 500
COMMAND_TIMEOUT_S = 60
AGENT = Path(sys.executable).with_name("agent")


class Stage:
    """The folder the demo plays in, and the commands that are typed there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        config = self.home / "config" / "plugin-host.toml"
        config.parent.mkdir(parents=True, mode=0o700)
        config.write_text(
            f'[update]\ninterval = "1s"\njitter = "0s"\nprobation = "{PROBATION_S}s"\n'
        )

    @property
    def environ(self) -> dict[str, str]:
        """What every command finds."""
        return {**os.environ, "STACK_COMPOSER_HOME": str(self.home), "NO_COLOR": "1"}

    def agent(self, *arguments: str, expect: int = 0) -> None:
        """Type a command, show its output, insist on its exit code."""
        say(f"$ agent {' '.join(arguments)}")
        done = subprocess.run(
            [AGENT, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
            say(f"  {line.replace(str(self.folder), '~demo')}")
        if done.returncode != expect:
            raise SystemExit(f"the demo failed: exit {done.returncode}, expected {expect}")
        if expect:
            say(f"  (exit {expect})")

    def asked(self, *arguments: str) -> dict[str, Any]:
        """What a command says as JSON; asked by command, like anyone would, and not shown."""
        done = subprocess.run(
            [AGENT, *arguments, "--format", "json"],
            env=self.environ,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def has_happened(self, event: str, version: str) -> bool:
        """Whether the service has done this to a version."""
        events = self.asked("history", PLUGIN)["events"]
        return any((e["event"], e["version"]) == (event, version) for e in events)

    def is_refused(self, version: str) -> bool:
        """Whether the service has refused a version: its last run says so."""
        last = self.asked("why", PLUGIN)["last"]
        return version in {last["candidate"], last["detail"].partition(": ")[0]}

    @contextlib.contextmanager
    def service(self) -> Iterator[Client]:
        """``agent run`` for the length of the block."""
        say("$ agent run &")
        with (self.folder / "service.log").open("w") as log:
            running = subprocess.Popen([AGENT, "run"], env=self.environ, stderr=log)
        try:
            yield self._connected()
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(timeout=COMMAND_TIMEOUT_S)

    def _connected(self) -> Client:
        found: list[Client] = []

        def is_there() -> bool:
            client = reach(self.home / "run" / "agent.sock")
            if client is not None:
                found.append(client)
            return client is not None

        wait_until(is_there, "the service")
        return found[0]

    def sample(self, version: str, *, copied_from: str | None = None) -> str:
        """Put a version's folder in place; one that we do not ship is made from another."""
        source = copied_from or version
        shutil.copytree(SAMPLES / source, self.folder / version)
        manifest = self.folder / version / "hello-plugin.toml"
        text = manifest.read_text().replace(f'"{source}"', f'"{version}"')
        manifest.write_text(text)
        return f"./{version}"


class Callers:
    """Threads that call the plugin without a pause, and what became of the calls."""

    def __init__(self, service: Client) -> None:
        self._service = service
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._loop) for _ in range(CALLERS)]

    def start(self) -> None:
        """Begin to call."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop calling; waits for the calls that run."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._service.call(PLUGIN, "run", ["Jane"])["result"]
                with self._lock:
                    self.answers[str(answer)] += 1
            except AgentError as error:
                with self._lock:
                    self.failures[error.code] += 1
            # A breath, so that the commands beside it get the processor too.
            time.sleep(0.002)

    def since(self, answers: Counter[str], failures: Counter[str]) -> tuple[int, int]:
        """How many calls were answered and failed since two earlier counts."""
        with self._lock:
            return (self.answers - answers).total(), (self.failures - failures).total()

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Copies of the counts so far."""
        with self._lock:
            return Counter(self.answers), Counter(self.failures)

    def wait_for(self, answer: str, more_than: int = 0) -> None:
        """Wait until an answer has come more often than that."""
        wait_until(lambda: self.counts()[0][answer] > more_than, f"the answer {answer!r}")


def say(text: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def chapter(title: str) -> None:
    """Begin a new part of the story."""
    say(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n# {title}")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread or process does; give up loudly."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"the demo failed: no sign of {what} after {WAIT_S:.0f} s")
        time.sleep(0.02)


@contextlib.contextmanager
def calling(service: Client) -> Iterator[Callers]:
    """Callers that have the service answer calls in a loop."""
    callers = Callers(service)
    callers.start()
    try:
        yield callers
    finally:
        callers.stop()


def play(folder: Path) -> list[tuple[str, str, str]]:
    """Play the story; returns the rows of the closing table."""
    stage = Stage(folder)
    table = []

    chapter("A publisher makes a key; the operator believes it for org.example.*")
    stage.agent("keygen", "publisher.pem")
    stage.agent("trust", "add", "publisher.pem.pub", "--owner", "acme", "--scope", "org.example.*")

    chapter("0.1.0 is signed and pushed; the operator pulls it, and starts the service")
    stage.agent("push", stage.sample("0.1.0"), "--key", "publisher.pem")
    stage.agent("pull", f"{PLUGIN}:0.1.0")
    table.append(("0.1.0", "installed", "first install commits at once"))

    with stage.service() as service, calling(service) as callers:
        callers.wait_for("Hello, Jane")
        stage.agent("call", PLUGIN, "run", "Jane", "--stats")

        chapter("0.2.0 is pushed by its publisher; nobody does anything here")
        answers, failures = callers.counts()
        stage.agent("push", stage.sample("0.2.0"), "--key", "publisher.pem")
        callers.wait_for("Hello again, Jane", more_than=CALLS)
        answered, failed = callers.since(answers, failures)
        say(f"  the service meanwhile: {answered} calls answered, {failed} failed")
        if failed:
            raise SystemExit("the demo failed: an update cost calls")
        say(f"  (waiting for its probation of {PROBATION_S} s to end)")
        wait_until(lambda: stage.has_happened("committed", "0.2.0"), "the commit of 0.2.0")
        stage.agent("history", PLUGIN)
        table.append(("0.2.0", "committed", f"{answered} calls during the swap, {failed} failed"))

        chapter("0.3.0 says of itself that it is not well: refused at the probe")
        stage.agent("push", stage.sample("0.3.0"), "--key", "publisher.pem")
        wait_until(lambda: stage.is_refused("0.3.0"), "the refusal of 0.3.0")
        table.append(("0.3.0", "refused", "its health function failed in the probe"))

        chapter("0.4.0 passes its probe, then traps once it is live: rolled back in probation")
        before, failures = callers.counts()
        stage.agent("push", stage.sample("0.4.0"), "--key", "publisher.pem")
        wait_until(lambda: stage.has_happened("rolled back", "0.4.0"), "the rollback of 0.4.0")
        callers.wait_for("Hello again, Jane", more_than=before["Hello again, Jane"] + CALLS)
        trapped = (callers.counts()[1] - failures).total()
        say(f"  the service meanwhile: {trapped} calls trapped, then 0.2.0 answered again")
        table.append(("0.4.0", "rolled back", f"{trapped} calls trapped; not taken again"))

        chapter("0.5.0 is forged: somebody else's key")
        stage.agent("keygen", "mallory.pem")
        forged = stage.sample("0.5.0", copied_from="0.2.0")
        stage.agent("push", forged, "--key", "mallory.pem")
        wait_until(lambda: stage.is_refused("0.5.0"), "the refusal of 0.5.0")
        stage.agent("call", PLUGIN, "run", "Jane")
        table.append(("0.5.0", "refused", "not signed by a key that is believed"))

        chapter("How it is, and why it is where it is")
        stage.agent("status")
        stage.agent("why", PLUGIN)
    return table


def main() -> int:
    """Play, then print the table; Ctrl-C ends it with nothing left behind."""
    started = time.monotonic()
    # The story has a home of its own: what this shell sets for other agents is not for it.
    for name in [name for name in os.environ if name.startswith(("STACK_COMPOSER_", "OTEL_"))]:
        del os.environ[name]
    try:
        with tempfile.TemporaryDirectory(prefix="stack-composer-demo-") as name:
            table = play(Path(name))
    except KeyboardInterrupt:
        say("\ninterrupted")
        return 130
    chapter("What happened")
    for version, outcome, reason in table:
        say(f"  {version}  {outcome:<12} {reason}")
    say(f"\n  {time.monotonic() - started:.0f} s, nothing left behind")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
