"""What the service notices by itself: files put into folders, and what the operator takes back."""

import os
import shutil
from pathlib import Path

import pytest

from agent import PluginHost
from agent.errors import TrustError
from support.service import Frail, happened, looking, service, serving
from support.system import PLUGIN_ID, PROCESS_WAIT_S, STEM, Machine, Publisher


def drop(machine: Machine, folder: Path, *parts: str) -> None:
    """Put files of a set into the plugin folder, each whole from its first moment there."""
    for part in parts or ("wasm", "sig", "toml"):
        beside = machine.home / f"{STEM}.{part}"
        shutil.copy(folder / beside.name, beside)
        beside.rename(machine.plugins / beside.name)


def test_what_is_put_into_the_folder_is_taken_or_refused(
    machine: Machine, frail: Frail, tmp_path: Path
) -> None:
    """Good, half-copied and then whole, forged: the old one serves until a good one is there."""
    machine.configure(Frail.section(), probation="0s", update='mode = "manual"')
    forger = Publisher(Machine(tmp_path / "elsewhere"), tmp_path / "forger", name="forger")
    forged = Frail(forger, Machine(tmp_path / "nowhere")).plugin("0.9.0")
    with service(machine) as running:
        drop(machine, frail.plugin("0.2.0"))
        running.await_event("committed", "0.2.0")
        half = frail.plugin("0.3.0")
        drop(machine, half, "wasm", "sig")
        running.log.wait_for("cannot trust")
        assert serving(machine)[0].version == "0.2.0"
        drop(machine, half, "toml")
        running.await_event("committed", "0.3.0")
        drop(machine, forged)
        running.log.wait_for("cannot trust org.example.hello 0.9.0")
        running.hang_up()  # all is looked at again
        running.log.wait_for("the config was read again")
        drop(machine, frail.plugin("0.4.0"))
        running.await_event("committed", "0.4.0")
    # Looked at while it was being copied, it had no signature yet: that is another thing to say.
    said = [line.partition("cannot trust")[2] for line in running.log.lines if "0.9.0" in line]
    assert said
    assert len(said) == len(set(said)), "".join(running.log.lines)
    lines = machine.json("audit", "show").document["lines"]
    refused = [line["reason"] for line in lines if line["outcome"] == "refused"]
    assert any("0.9.0" in reason for reason in refused)
    assert len(refused) == len(set(refused))


def test_what_is_taken_back_serves_no_longer(machine: Machine, frail: Frail) -> None:
    """Denied: the release before serves at once; a revoked key: calls are refused with 7."""
    machine.configure(Frail.section(), probation="0s")
    second = frail.release("0.2.0")["release"]
    machine.run("pull", PLUGIN_ID)
    store = machine.home / "config" / "trusted_keys.toml"
    with service(machine) as running:
        text = store.read_text(encoding="utf-8")
        store.write_text(f'{text}\n[[deny]]\nrelease = "{second}"\nreason = "it spies"\n')
        left = running.await_event("rolled back", "0.2.0")
        assert "it spies" in left.detail
        assert serving(machine)[0].version == "0.1.0"
        (key,) = machine.json("trust", "list").document["keys"]
        machine.run("trust", "revoke", key["id"], "--reason", "lost")
        running.await_event("out of service", "0.1.0")
        machine.run("call", PLUGIN_ID, "run", "Jane", expect=7)
        with PluginHost(home=machine.home) as host, pytest.raises(TrustError):
            host.load_installed(PLUGIN_ID)
        # Said once, though each change of the store is looked at.
        store.write_text(store.read_text(encoding="utf-8") + "\n# reviewed\n")
        running.hang_up()
        running.log.wait_for("the config was read again")
    with service(machine) as running:
        pass
    events = [e["event"] for e in machine.json("history", PLUGIN_ID).document["events"]]
    assert events.count("out of service") == 1
    assert happened(machine, "rolled back", "0.1.0") is None


def test_what_is_taken_back_waits_for_a_tree_that_is_busy(machine: Machine, frail: Frail) -> None:
    """Whoever holds it for long puts it off, which is said once: it is not forgotten."""
    machine.configure(Frail.section(), probation="0s")
    second = frail.release("0.2.0")["release"]
    machine.run("pull", PLUGIN_ID)
    store = machine.home / "config" / "trusted_keys.toml"
    with service(machine) as running:
        with looking(machine) as context, context.tree.lock(timeout_s=PROCESS_WAIT_S):
            text = store.read_text(encoding="utf-8")
            store.write_text(f'{text}\n[[deny]]\nrelease = "{second}"\nreason = "it spies"\n')
            running.log.wait_for("cannot go back from what serves")
            machine.run("call", PLUGIN_ID, "run", "Jane", expect=7)
        running.await_event("rolled back", "0.2.0")
        assert serving(machine)[0].version == "0.1.0"
    said = [line for line in running.log.lines if "cannot go back from what serves" in line]
    assert len(said) == 1, said


def test_what_goes_live_is_looked_at_again(machine: Machine, frail: Frail) -> None:
    """Whoever took it may have asked the trust store just before it changed."""
    machine.configure(Frail.section(), probation="0s", update='mode = "manual"')
    denied = frail.release("0.2.0")["release"]
    machine.run("pull", PLUGIN_ID)
    machine.run("rollback", PLUGIN_ID)
    store = machine.home / "config" / "trusted_keys.toml"
    text = store.read_text(encoding="utf-8")
    store.write_text(f'{text}\n[[deny]]\nrelease = "{denied}"\nreason = "it spies"\n')
    with service(machine) as running:
        with looking(machine) as context, context.tree.lock(timeout_s=PROCESS_WAIT_S):
            generation = context.ledger.generation(PLUGIN_ID, denied)
            assert generation is not None
            context.activation.activate(generation, probation_s=60, channel=None)
        running.await_event("rolled back", "0.2.0")
        assert serving(machine)[0].version == "0.1.0"


def test_what_dead_runs_left_in_the_folder_is_swept_up(installed: Machine) -> None:
    """Temporary files, as soon as they are nobody's any more; what is young may be somebody's."""
    old, young = installed.plugins / ".tmp-old", installed.plugins / ".tmp-young"
    with service(installed) as running:
        young.touch()
        old.touch()
        os.utime(old, (0, 0))
        running.until(lambda: not old.exists() or None, "sweep")
        assert young.exists()
    old.touch()
    os.utime(old, (0, 0))
    installed.run("prune")
    assert not old.exists()
    assert young.exists()


def test_a_trust_store_that_cannot_be_used_stops_nothing(machine: Machine, frail: Frail) -> None:
    """It is said; what serves stays in its place, and updates wait until it can be read."""
    store = machine.home / "config" / "trusted_keys.toml"
    good = store.read_text(encoding="utf-8")
    with service(machine) as running:
        store.write_text("[[key]\n", encoding="utf-8")
        running.log.wait_for("cannot use the trust store")
        frail.release("0.2.0")
        assert serving(machine)[0].version == "0.1.0"
        store.write_text(good, encoding="utf-8")
        running.await_event("committed", "0.2.0")


def test_a_trust_store_that_leads_nowhere_stops_nothing(machine: Machine, frail: Frail) -> None:
    """The config is read, and who watches the folders goes on once the store is back."""
    store = machine.home / "config" / "trusted_keys.toml"
    good = store.read_bytes()
    with service(machine) as running:
        store.unlink()
        store.symlink_to(store.name)
        running.log.wait_for("cannot use the trust store")
        machine.configure(Frail.section(), probation="0s", update='mode = "manual"')
        running.log.wait_for("the config was read again")
        store.unlink()
        store.write_bytes(good)
        drop(machine, frail.plugin("0.2.0"))
        running.await_event("committed", "0.2.0")


def test_a_ledger_that_was_replaced_is_gone_by_at_once(machine: Machine, frail: Frail) -> None:
    """Nothing is written into the one that is gone: that made anew knows what is done."""
    machine.configure(Frail.section(), probation="0s", update='interval = "1s"\njitter = "0s"')
    with service(machine) as running:
        running.await_why("nothing newer")
        for path in (machine.home / "state").glob("state.db*"):
            path.unlink()
        machine.run("doctor", "--fix")
        running.await_why("nothing newer")
        frail.release("0.2.0")
        running.await_event("committed", "0.2.0")
    machine.run("doctor")
    assert serving(machine)[0].version == "0.2.0"


@pytest.mark.parametrize("bound", ["max_inotify_instances", "max_inotify_watches"])
def test_a_system_that_watches_no_more_folders_is_told_once(machine: Machine, bound: str) -> None:
    """Other programs may use it up. The service begins, and sees what changes by looking."""
    without = f'echo 0 > /proc/sys/user/{bound}; exec "$@"'
    apart = ("unshare", "--map-root-user", "bash", "-euc", without, "bash")
    with service(machine, before=apart) as running:
        for interval in ("1h", "2h", "3h"):
            since = len(running.log.lines)
            machine.configure(update=f'interval = "{interval}"')
            running.log.wait_for("the config was read again", since=since)
    told = [line for line in running.log.lines if "cannot watch" in line]
    assert len(told) == len({machine.plugins, machine.home / "config"}), told
