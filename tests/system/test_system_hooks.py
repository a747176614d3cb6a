"""What the service runs and calls when something happened: at least once, in order, bounded."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.context import Context, Options
from agent.model import Event
from agent.service.feed import Feed
from agent.service.hooks import Hooks
from support.agent import NOW, PLUGIN_ID
from support.hooks import Called, called, keeping, kept, script
from support.system import Machine, Publisher

WAIT_S = 20
HOOKS = ("post_commit", "on_rollback", "on_approval_needed")
SERVICE = """
import os, sys
from pathlib import Path
from agent.context import Context, Options
from agent.service.feed import Feed
from agent.service.hooks import Hooks
context = Context(Options(home=Path(sys.argv[1])))
feed = Feed(lambda: context)
hooks = Hooks(lambda: context, feed)
hooks.start()
print("up", flush=True)
sys.stdin.read()
hooks.close(20)
context.close()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where everything of the installation lies."""
    return tmp_path / "home"


def configure(home: Path, **hooks: object) -> None:
    """Write ``[hooks]``; lists and texts are the same in JSON."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in hooks.items()]
    file = home / "config" / "plugin-host.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["[hooks]", *lines, ""]), encoding="utf-8")


def opened(home: Path, environ: Mapping[str, str] = os.environ) -> "contextlib.closing[Context]":
    """The installation."""
    return contextlib.closing(Context(Options(home=home), environ=environ))


def record(context: Context, *kinds: str, version: str = "0.2.0", detail: str = "") -> None:
    """Have something happen."""
    for kind in kinds:
        context.ledger.record(Event(NOW, PLUGIN_ID, kind, version, "ab" * 32, detail, "0.1.0"))


def waits(is_so: Callable[[], bool]) -> None:
    """Look again until it is so."""
    until_s, rest = time.monotonic() + WAIT_S, threading.Event()
    while not is_so():
        assert time.monotonic() < until_s
        rest.wait(0.01)


class Run:
    """Hooks at work.

    Attributes:
        context: The installation.
    """

    def __init__(self, context: Context, *, attempts: int = 3) -> None:
        self.context = context
        self.feed = Feed(lambda: self.context)
        pauses = (0.0,) * (attempts - 1)
        self.hooks = Hooks(
            lambda: self.context, self.feed, command_pauses_s=pauses, webhook_pauses_s=pauses
        )

    def catch_up(self, reader: str = "hooks") -> None:
        """Wait until a reader has come to the end."""
        newest = self.context.ledger.newest_number()
        self.feed.poll()
        waits(lambda: self.context.ledger.cursor(reader) == newest)


@contextlib.contextmanager
def running(home: Path, *, attempts: int = 3, timeout_s: float = WAIT_S) -> Iterator[Run]:
    """The hooks of an installation, until the block ends."""
    with opened(home) as context:
        run = Run(context, attempts=attempts)
        run.hooks.start()
        try:
            yield run
        finally:
            run.hooks.close(timeout_s)


@pytest.fixture
def receiver() -> Iterator[Called]:
    """Who is called."""
    with called() as server:
        yield server


# -- commands


def test_each_hook_is_run_for_what_it_is_named_after(home: Path, tmp_path: Path) -> None:
    """And for nothing else; ``from`` and ``to`` are what served, on the way back too."""
    configure(home, **{name: [keeping(tmp_path, name)] for name in HOOKS})
    with running(home) as run:
        record(run.context, "activated", "committed", "held", "approval needed")
        record(run.context, "rolled back", "rollback", "rollback failed", detail="\x1b why")
        run.catch_up()
    seen = {name: [event["event"] for event in kept(tmp_path, name)] for name in HOOKS}
    assert seen == {
        "post_commit": ["committed"],
        "on_rollback": ["rolled back", "rollback", "rollback failed"],
        "on_approval_needed": ["approval needed"],
    }
    assert kept(tmp_path, "post_commit") == [
        {
            "schemaVersion": 1,
            "event": "committed",
            "id": PLUGIN_ID,
            "version": "0.2.0",
            "release": "ab" * 32,
            "from": "0.1.0",
            "to": "0.2.0",
            "reason": "",
            "at": "2027-01-15T08:00:00+00:00",
        }
    ]
    left = kept(tmp_path, "on_rollback")[0]
    assert (left["version"], left["from"], left["to"]) == ("0.2.0", "0.2.0", "0.1.0")
    assert left["reason"] == "\x1b why"


def test_what_happened_before_the_first_start_is_not_told(home: Path, tmp_path: Path) -> None:
    """A month of history would call everybody."""
    configure(home, post_commit=[keeping(tmp_path, "hook")])
    with opened(home) as context:
        record(context, "committed", version="0.1.0")
    with running(home) as run:
        record(run.context, "committed")
        run.catch_up()
    assert [event["version"] for event in kept(tmp_path, "hook")] == ["0.2.0"]


def test_what_happened_while_nothing_ran_is_told_later(home: Path, tmp_path: Path) -> None:
    """Once each, in order."""
    configure(home, post_commit=[keeping(tmp_path, "hook")])
    with running(home):
        pass
    with opened(home) as context:
        for version in ("0.2.0", "0.3.0"):
            record(context, "committed", version=version)
    with running(home) as run:
        run.catch_up()
    with running(home) as run:
        run.catch_up()
    assert [event["version"] for event in kept(tmp_path, "hook")] == ["0.2.0", "0.3.0"]


def test_a_hook_that_is_killed_with_the_service_is_run_again(home: Path, tmp_path: Path) -> None:
    """The service dies after the command's work, before it could note that: at least once."""
    log, once = tmp_path / "hook.log", tmp_path / "once"
    hook = script(
        tmp_path / "hook", f"cat >> '{log}'\n[ -e '{once}' ] || {{ : > '{once}'; kill -9 $PPID; }}"
    )
    configure(home, post_commit=[hook])
    with running(home):
        pass
    command = [sys.executable, "-c", SERVICE, str(home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with opened(home) as context:
        for version in ("0.2.0", "0.3.0"):
            record(context, "committed", version=version)
        with subprocess.Popen(command, **pipes) as service:  # type: ignore[call-overload]
            assert service.wait(WAIT_S) == -9
        assert [event["version"] for event in kept(tmp_path, "hook")] == ["0.2.0"]
    with running(home) as run:
        run.catch_up()
    versions = [event["version"] for event in kept(tmp_path, "hook")]
    assert versions == ["0.2.0", "0.2.0", "0.3.0"]


def test_a_hook_that_always_fails_blocks_nobody(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried three times, then passed over, which is said; what follows is run."""
    caplog.set_level(logging.INFO)
    configure(
        home,
        post_commit=[keeping(tmp_path, "bad", code=7)],
        on_rollback=["sh", "-c", "cat > /dev/null; echo 'page \033[2J sent'; echo careful >&2"],
    )
    with running(home) as run:
        record(run.context, "committed", "rollback")
        run.catch_up()
    assert len(kept(tmp_path, "bad")) == 3
    said = [record.message for record in caplog.records]
    assert said.count(f"the hook post_commit failed for {PLUGIN_ID}: it ended with 7") == 3
    assert said.count(f"hooks: passed over 'committed' of {PLUGIN_ID}") == 1
    assert f"on_rollback of {PLUGIN_ID}: page \\x1b[2J sent" in said
    assert f"on_rollback of {PLUGIN_ID}: careful" in said


def test_a_hook_that_fails_once_is_run_again(home: Path, tmp_path: Path) -> None:
    """And is done then."""
    log, once = tmp_path / "hook.log", tmp_path / "once"
    hook = script(
        tmp_path / "hook", f"cat >> '{log}'\n[ -e '{once}' ] || {{ : > '{once}'; exit 1; }}"
    )
    configure(home, post_commit=[hook])
    with running(home) as run:
        record(run.context, "committed")
        run.catch_up()
    assert len(kept(tmp_path, "hook")) == 2


def test_a_hook_that_hangs_is_ended_in_time(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what it started; the next ones have their turn."""
    configure(
        home,
        post_commit=["sh", "-c", "trap '' TERM; sleep 600 & sleep 600"],
        on_rollback=[keeping(tmp_path, "next")],
        timeout="1s",
    )
    with running(home, attempts=1) as run:
        record(run.context, "committed", "rollback")
        run.catch_up()
    assert "no end within 1 s" in caplog.text
    assert len(kept(tmp_path, "next")) == 1


def test_closing_ends_what_is_under_way_and_it_is_run_again(home: Path, tmp_path: Path) -> None:
    """A stop of the service waits no longer than it may."""
    log, up = tmp_path / "hook.log", tmp_path / "up"
    os.mkfifo(up)
    hook = script(tmp_path / "hook", f"cat >> '{log}'\n: > '{up}'\nexec sleep 600")
    configure(home, post_commit=[hook], timeout="10m")
    with running(home, attempts=1, timeout_s=0) as run:
        record(run.context, "committed")
        run.feed.poll()
        up.read_text(encoding="utf-8")
    configure(home, post_commit=[keeping(tmp_path, "hook")])
    with running(home) as run:
        run.catch_up()
    assert len(kept(tmp_path, "hook")) == 2


def test_a_config_that_was_changed_counts_from_then_on(home: Path, tmp_path: Path) -> None:
    """The hooks are those of the config in force when their turn comes."""
    configure(home, post_commit=[keeping(tmp_path, "old")])
    with running(home) as run:
        record(run.context, "committed")
        run.catch_up()
        configure(home, post_commit=[keeping(tmp_path, "new")])
        with opened(home) as other:
            run.context, before = other, run.context
            record(other, "committed")
            run.catch_up()
            run.context = before
    assert (len(kept(tmp_path, "old")), len(kept(tmp_path, "new"))) == (1, 1)


def test_a_ledger_that_cannot_be_written_stops_no_hook(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody holds it: said once; what the hook came to is noted with what comes next."""
    go_on = tmp_path / "go-on"
    os.mkfifo(go_on)
    log = tmp_path / "hook.log"
    configure(home, post_commit=[script(tmp_path / "hook", f"cat >> '{log}'; read x < '{go_on}'")])
    with running(home) as run, opened(home) as other:
        record(run.context, "committed")
        run.feed.poll()
        with go_on.open("w", encoding="utf-8") as file, other.ledger.transaction():
            file.write("go\n")
            file.flush()
            waits(lambda: "cannot keep how far it came" in caplog.text)
        record(run.context, "held")
        run.catch_up()
    assert len(kept(tmp_path, "hook")) == 1


# -- consent


def test_approval_is_asked_for_once(machine: Machine, publisher: Publisher, tmp_path: Path) -> None:
    """A release that newly waits for consent: by whichever run, once for each."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    configure_hook = f'[hooks]\non_approval_needed = ["{keeping(tmp_path, "ask")}"]\n'
    machine.configure(configure_hook)
    with running(machine.home) as run:
        asks = {'"log"]': '"log", "network"]'}
        pushed = publisher.release("0.2.0", edit=asks)
        machine.run("check")
        for _ in range(2):
            assert machine.json("update").row["outcome"] == "pending"
        machine.run("pull", PLUGIN_ID, expect=8)
        run.catch_up()
        (event,) = kept(tmp_path, "ask")
        assert event["event"] == "approval needed"
        assert (event["from"], event["to"]) == ("0.1.0", "0.2.0")
        assert (event["release"], event["reason"]) == (pushed["release"], "newly requests network")
        publisher.release("0.3.0", edit=asks, sample="0.2.0")
        machine.run("update")
        run.catch_up()
    assert [event["to"] for event in kept(tmp_path, "ask")] == ["0.2.0", "0.3.0"]


def test_an_update_and_a_rollback_are_told_with_both_versions(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """As commands of another process make them."""
    machine.configure(
        f'[hooks]\npost_commit = ["{keeping(tmp_path, "commit")}"]\n'
        f'on_rollback = ["{keeping(tmp_path, "back")}"]\n',
        probation="0s",
    )
    with running(machine.home) as run:
        for version in ("0.1.0", "0.2.0"):
            publisher.release(version)
            machine.run("pull", PLUGIN_ID)
        machine.run("rollback", PLUGIN_ID)
        run.catch_up()
    changes = [(event["from"], event["to"]) for event in kept(tmp_path, "commit")]
    assert changes == [(None, "0.1.0"), ("0.1.0", "0.2.0")]
    assert [(e["from"], e["to"]) for e in kept(tmp_path, "back")] == [("0.2.0", "0.1.0")]


# -- the webhook


def test_the_webhook_gets_everything(home: Path, receiver: Called) -> None:
    """The same JSON, of every kind, in order, also of what no hook is for."""
    configure(home, webhook=receiver.url)
    with running(home) as run:
        record(run.context, "activated", "held", "rollback")
        run.catch_up("webhook")
    assert [event["event"] for event in receiver.events()] == ["activated", "held", "rollback"]
    path, headers, _ = receiver.posted[0]
    assert path == "/in/s3cr3t?key=k3y"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("answers", "count", "passed_over"),
    [
        ([500, 429], 3, 0),
        ([503] * 3, 3, 1),
        ([400], 1, 1),
        ([302], 1, 1),
    ],
)
def test_what_may_pass_is_tried_again(
    home: Path,
    receiver: Called,
    caplog: pytest.LogCaptureFixture,
    answers: list[int],
    count: int,
    passed_over: int,
) -> None:
    """A bounded number of times; a redirect is not followed; the address's secrets are not told."""
    receiver.answers = list(answers)
    configure(home, webhook=receiver.url)
    with running(home) as run:
        record(run.context, "held")
        run.catch_up("webhook")
        assert len(receiver.posted) == count
        record(run.context, "unheld")
        run.catch_up("webhook")
    assert [event["event"] for event in receiver.events()][-1] == "unheld"
    assert caplog.text.count("webhook: passed over") == passed_over
    assert f"http://127.0.0.1:{receiver.server_port}/*** answered {answers[0]}" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "k3y" not in caplog.text


def test_a_webhook_that_is_gone_keeps_no_hook_waiting(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens there: said without the secrets, passed over after the last attempt."""
    with Called() as gone:
        url = gone.url
    configure(home, webhook=url, post_commit=[keeping(tmp_path, "hook")])
    with running(home) as run:
        record(run.context, "committed")
        run.catch_up()
        run.catch_up("webhook")
    assert len(kept(tmp_path, "hook")) == 1
    assert "cannot reach http://127.0.0.1:" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_its_address_is_shown_without_what_may_be_secret(machine: Machine) -> None:
    """Neither user nor path nor query; beside it durations as the file has them."""
    machine.configure('[hooks]\nwebhook = "https://jane:pw@chat.example:8443/s3cr3t?key=k3y"\n')
    shown = machine.run("config", "show", "--effective").out
    rows = [line.split() for line in shown.splitlines()]
    assert ["hooks.webhook", "https://chat.example:8443/***", str(machine.config_file)] in rows
    assert ["hooks.timeout", "30s", "default"] in rows


def test_offline_nobody_is_called(home: Path, receiver: Called) -> None:
    """``network.offline`` holds for the webhook too."""
    configure(home, webhook=receiver.url)
    with (home / "config" / "plugin-host.toml").open("a") as file:
        file.write("[network]\noffline = true\n")
    with running(home) as run:
        record(run.context, "held")
        run.catch_up("webhook")
    assert receiver.posted == []


def test_a_webhook_that_never_ends_is_given_up(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte now and then is no answer: all of it has the time of one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as taken:
                while True:
                    taken.sendall(b"H")
                    threading.Event().wait(0.1)

        dripping = threading.Thread(target=drip)
        dripping.start()
        host, port = listening.getsockname()
        configure(home, webhook=f"http://{host}:{port}/", timeout="1s")
        with running(home, attempts=1) as run:
            record(run.context, "held")
            run.catch_up("webhook")
    dripping.join(WAIT_S)
    assert not dripping.is_alive()
    assert caplog.text.count("webhook: passed over") == 1
