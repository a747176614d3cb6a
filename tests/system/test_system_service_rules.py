"""What the service leaves alone, until when, and that ``agent why`` tells the criterion."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from support.hooks import script
from support.service import EAGER, Running, ledger_of, service
from support.system import PLUGIN_ID, Machine, Publisher

NAMES = ("free", "notified", "manual", "held", "asking")
_HOUR = dt.timedelta(hours=1)


def id_of(name: str) -> str:
    """The plugin of that name."""
    return f"org.example.{name}"


def release(publisher: Publisher, name: str, version: str, *, more: str = "") -> None:
    """Publish a release, one that asks for more where that is said."""
    edit: Mapping[str, str] = {'["log"]': f'["log", "{more}"]'} if more else {}
    publisher.release(version, plugin_id=id_of(name), stem=name, edit=edit, sample="0.1.0")


def why(machine: Machine, name: str = "free") -> str:
    """What ``agent why`` prints."""
    return machine.run("why", id_of(name)).out


def window(opens: dt.timedelta, closes: dt.timedelta) -> str:
    """A window so far from now."""
    now = dt.datetime.now(dt.UTC)
    times = ((now + one).strftime("%H:%M") for one in (opens, closes))
    return f'windows = ["Mon-Sun {"-".join(times)} UTC"]\n'


def await_version(running: Running, name: str, version: str) -> None:
    """Wait until a release is committed."""
    running.await_event("committed", version, plugin_id=id_of(name))


def test_modes_holds_and_consent_bind_each_plugin(machine: Machine, publisher: Publisher) -> None:
    """The free one is updated; the others wait, each for its own reason, until that has gone."""
    modes = {"notified": "notify", "manual": "manual"}
    sections = "".join(f'[plugins."{id_of(n)}"]\nmode = "{m}"\n' for n, m in modes.items())
    machine.configure(sections, probation="0s", update=EAGER)
    for name in NAMES:
        release(publisher, name, "0.1.0")
        machine.run("pull", id_of(name))
    machine.run("hold", id_of("held"), "--for", "7d")
    for name in NAMES:
        release(publisher, name, "0.2.0", more="fs_read" if name == "asking" else "")
    with service(machine) as running:
        await_version(running, "free", "0.2.0")
        told = {"notified": "0.2.0 waits: mode is notify", "held": "0.2.0: held until"}
        told["asking"] = "newly requests fs_read"
        for name, text in told.items():
            running.await_why(text, plugin_id=id_of(name))
            assert text in why(machine, name)
        # By now it would have had its turn, if it had one.
        with ledger_of(machine) as ledger:
            decision = ledger.decision(id_of("manual"))
        assert decision is not None
        assert (decision.outcome, decision.candidate) == ("committed", "0.1.0")
        assert all(machine.version(id_of(name)) == "0.1.0" for name in NAMES if name != "free")

        machine.run("unhold", id_of("held"))
        machine.run("grant", id_of("asking"), "fs_read")
        for name in modes:
            machine.run("update", id_of(name))
        for name in NAMES:
            await_version(running, name, "0.2.0")


def test_a_config_that_changes_during_an_update_binds_it(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """What was fetched by rules that are over by now is looked at again by those in force."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    hook = script(tmp_path / "hook", f"touch {begun}; until [ -e {end} ]; do sleep 0.1; done")
    hooks = f'[hooks]\npre_activate = ["{hook}"]\n'
    machine.configure(probation="0s", update=EAGER)
    release(publisher, "free", "0.1.0")
    machine.run("pull", id_of("free"))
    machine.configure(hooks, probation="0s", update=EAGER)
    release(publisher, "free", "0.2.0")
    with service(machine) as running:
        running.until(lambda: begun.exists() or None, "the hook")
        held = f'[plugins."{id_of("free")}"]\nhold_until = "forever"\n'
        machine.configure(hooks + held, probation="0s", update=EAGER)
        running.log.wait_for("the config was read again")
        end.touch()
        running.await_why("0.2.0: held", plugin_id=id_of("free"))
        assert machine.version(id_of("free")) == "0.1.0"


def test_windows_and_cooldown_bind_all(machine: Machine, publisher: Publisher) -> None:
    """Nothing is taken while a window is closed or a release is too new; then it is."""

    def configure(update: str) -> None:
        machine.configure("", probation="0s", update=f"{EAGER}\n{update}")

    configure(window(2 * _HOUR, 3 * _HOUR))
    release(publisher, "free", "0.1.0")
    machine.run("pull", id_of("free"))
    release(publisher, "free", "0.2.0")
    with service(machine) as running:
        running.await_why("0.2.0 waits: window opens", plugin_id=id_of("free"))
        assert "0.2.0 waits: window opens" in why(machine)
        assert machine.version(id_of("free")) == "0.1.0"
        configure(window(-_HOUR, _HOUR))
        await_version(running, "free", "0.2.0")
        place = len(running.log.lines)
        configure('cooldown = "2d"')
        running.log.wait_for("the config was read again", since=place)
        release(publisher, "free", "0.3.0")
        running.await_why("0.3.0: cooldown, 1d", plugin_id=id_of("free"))
        assert "0.3.0: cooldown, 1d" in why(machine)
        assert machine.version(id_of("free")) == "0.2.0"
        configure("")
        await_version(running, "free", "0.3.0")


def test_a_person_goes_by_neither_mode_nor_window(installed: Machine, publisher: Publisher) -> None:
    """``agent update`` takes beside the service what that one leaves waiting."""
    update = f'{EAGER}\nmode = "notify"\n{window(2 * _HOUR, 3 * _HOUR)}'
    installed.configure(probation="1s", update=update)
    publisher.release("0.2.0")
    with service(installed) as running:
        running.await_why("0.2.0 waits: mode is notify")
        assert installed.json("update").row["outcome"] == "trial"
        running.await_event("committed", "0.2.0", plugin_id=PLUGIN_ID)
