"""Probation by the service: trials end by themselves, whoever began them, whatever restarts."""

from pathlib import Path

from support.registry import docker_registry
from support.service import EAGER, Frail, Running, happened, ledger_of, service, serving
from support.system import PLUGIN_ID, STEM, Machine, Publisher


def configure(machine: Machine, probation: str) -> None:
    """Set how long a trial lasts."""
    machine.configure(Frail.section(), probation=probation, update=EAGER)


def await_armed(running: Running, release: str) -> None:
    """Wait until the service has written down that it runs a release on trial."""

    def is_armed() -> bool | None:
        with ledger_of(running.machine) as ledger:
            asked = "SELECT 1 FROM watched_trials WHERE release = ? AND is_armed"
            return bool(ledger._run(asked, (release,))) or None

    running.until(is_armed, "arming")


def test_a_trial_that_a_command_began_is_ended_by_the_service(
    machine: Machine, frail: Frail
) -> None:
    """Committed where it is healthy; where it is not, left for good, without a single call.

    Its log says both.
    """
    frail.release("0.2.0")
    machine.run("update")
    with service(machine) as running:
        running.await_event("committed", "0.2.0")
        running.log.wait_for(f"INFO {PLUGIN_ID}: committed 0.2.0: floor 0.2.0")
        configure(machine, "30s")
        running.log.wait_for("the config was read again")
        frail.release("0.3.0")
        running.await_event("activated", "0.3.0")
        frail.fall_ill()
        left = running.await_event("rolled back", "0.3.0")
        assert left.detail == "1 health calls failed"
        running.log.wait_for(f"WARNING {PLUGIN_ID}: rolled back 0.3.0: 1 health calls failed")
        frail.recover()
        why = running.await_why("0.3.0: rejected here")
        assert "health calls failed" in why
    assert serving(machine)[0].version == "0.2.0"


def test_a_trial_outlives_the_service(machine: Machine, frail: Frail) -> None:
    """The next one ends it: by what was recorded, or by asking anew."""
    configure(machine, "10m")
    with service(machine) as running:
        release = frail.release("0.2.0")["release"]
        running.notes.wait_for("1 on trial")
        await_armed(running, release)
    frail.fall_ill()
    with service(machine) as running:
        running.await_event("rolled back", "0.2.0")
        frail.recover()
        configure(machine, "2s")
        running.log.wait_for("the config was read again")
        frail.release("0.3.0")
        running.await_event("activated", "0.3.0")
        running.kill()
    with service(machine) as running:
        running.await_event("committed", "0.3.0")
    assert serving(machine)[0].version == "0.3.0"


def test_it_goes_back_without_a_registry(tmp_path: Path) -> None:
    """Ill, or spoilt on the disk: the release before serves again, and nothing is fetched."""
    storage = tmp_path / "registry"
    storage.mkdir()
    with docker_registry(storage) as host:
        machine = Machine(tmp_path / "host", host)
        someone = Publisher(Machine(tmp_path / "author", host), tmp_path / "publisher")
        someone.trusted_by(machine)
        configure(machine, "30s")
        frail = Frail(someone, machine)
        for version in ("0.1.0", "0.2.0"):
            frail.release(version)
            machine.run("pull", PLUGIN_ID)
        spare = frail.plugin("0.3.0")
    spoilt = machine.plugins / ".store" / PLUGIN_ID / "current" / f"{STEM}.wasm"
    spoilt.chmod(0o600)
    spoilt.write_bytes(b"spoilt")
    with service(machine) as running:
        assert "cannot be loaded" in running.await_event("rolled back", "0.2.0").detail
        running.log.wait_for("failed at check: cannot reach")
        for part in ("wasm", "sig", "toml"):
            (machine.plugins / f"{STEM}.{part}").write_bytes(
                (spare / f"{STEM}.{part}").read_bytes()
            )
        running.await_event("activated", "0.3.0")
        frail.fall_ill()
        running.await_event("rolled back", "0.3.0")
    assert serving(machine)[0].version == "0.1.0"


def test_a_release_that_takes_the_service_down_twice_is_left(
    machine: Machine, frail: Frail
) -> None:
    """The third start serves the release before, and takes that one no more."""
    configure(machine, "10m")
    with service(machine) as running:
        release = frail.release("0.2.0")["release"]
        running.await_event("activated", "0.2.0")
        await_armed(running, release)
        running.kill()
    with service(machine) as running:
        running.log.wait_for("a service died while it ran org.example.hello on trial")
        assert serving(machine)[0].version == "0.2.0"
    with service(machine) as running:  # after an end in good order
        assert serving(machine)[0].version == "0.2.0"
        running.kill()
    with service(machine) as running:
        running.log.wait_for("rolled back, the service died 2 times while it was on trial")
        assert serving(machine)[0].version == "0.1.0"
        running.await_why("0.2.0: rejected here: the service died 2 times")


def test_only_deaths_in_a_trial_count(machine: Machine, frail: Frail) -> None:
    """Not those before or after it, nor one in the trial of another release."""
    for _ in range(2):
        with service(machine) as running:
            running.kill()
    configure(machine, "10m")
    for version in ("0.2.0", "0.3.0"):
        with service(machine) as running:
            release = frail.release(version)["release"]
            machine.run("update", PLUGIN_ID)  # named: it takes an open trial's place
            await_armed(running, release)
            running.kill()
    with service(machine) as running:
        running.await_why("on trial until probation ends")
        assert serving(machine)[0].version == "0.3.0"
    assert happened(machine, "rolled back") is None


def test_a_start_that_the_config_prevents_is_no_death(machine: Machine, frail: Frail) -> None:
    """However often it is tried, whatever is on trial stays: nothing of it was at fault."""
    configure(machine, "10m")
    release = frail.release("0.2.0")["release"]
    machine.run("update")
    socket = machine.home / "run" / "agent.sock"
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    socket.write_text("in its way", encoding="utf-8")
    for _ in range(3):
        assert "cannot listen at" in machine.process("run", expect=2).err
    socket.unlink()
    with service(machine) as running:
        await_armed(running, release)
        assert serving(machine)[0].version == "0.2.0"
    assert "died" not in "".join(running.log.lines)
