"""disable, enable and remove by the command line, and what running hosts make of them."""

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import PluginHost
from agent.context import Context, Options
from agent.errors import NotFoundError, PolicyError
from agent.files import Files
from agent.model import Samples, Stop
from agent.pipeline import settling, taking
from agent.pipeline.update import Pipeline
from agent.telemetry import Telemetry
from agent.verbs import disabling, removal
from support.system import PLUGIN_ID, STEM, Machine, Publisher

OTHER_ID = "org.example.other"
OTHER_STEM = "other-plugin"
LOGS = """(module
  (import "stack_composer_v1" "host_log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "done")
  (func (export "health") (result i32) (i32.const 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "run") (param i32 i32) (result i64)
    (call $log (i32.const 2) (i32.const 64) (i32.const 4))
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const 4))))"""


def let_a_trial_fail(machine: Machine, publisher: Publisher) -> None:
    """Take 0.2.0 on trial, and let every call of it fail; nobody has judged it yet."""
    publisher.release("0.2.0")
    machine.run("update")
    with opened(machine) as context:
        trial = context.ledger.trial(PLUGIN_ID)
        assert trial is not None
        context.ledger.add_samples([(PLUGIN_ID, trial.release, 1, Samples(9, 9))])


def disable_an_update(machine: Machine, publisher: Publisher) -> None:
    """0.2.0 is good, beside 0.1.0, and disabled."""
    publisher.release("0.2.0")
    machine.configure(probation="0s")
    machine.run("update")
    machine.run("disable", PLUGIN_ID)


def releases_of(machine: Machine) -> list[Path]:
    """The sealed folders of the plugin."""
    home = machine.plugins / ".store" / PLUGIN_ID
    return [path for path in home.iterdir() if path.is_dir()]


def opened(machine: Machine) -> contextlib.closing[Context]:
    """The machine's installation."""
    return contextlib.closing(Context(Options(home=machine.home), environ={}))


def flat(machine: Machine, stem: str = STEM) -> list[str]:
    """The copies that other hosts read."""
    return sorted(path.name for path in machine.plugins.glob(f"{stem}.*"))


def with_other(machine: Machine, publisher: Publisher) -> Machine:
    """A second plugin beside the first."""
    publisher.release("0.1.0", plugin_id=OTHER_ID, stem=OTHER_STEM)
    machine.run("pull", OTHER_ID)
    return machine


# -- disable and enable


def test_a_disabled_plugin_serves_nowhere_until_it_is_enabled(
    installed: Machine, publisher: Publisher
) -> None:
    """No call, no flat copy; update runs pass it over, who asks for more is told how to go on."""
    publisher.release("0.2.0")
    before = installed.json("list").row
    row = installed.json("disable", PLUGIN_ID).row
    assert (row["from"], row["to"], row["outcome"], row["step"]) == (
        "0.1.0",
        None,
        "committed",
        "disable",
    )
    assert row["detail"] == "disabled; agent enable brings back 0.1.0"
    assert installed.json("list").row == {**before, "state": "disabled"}
    info = installed.json("info", PLUGIN_ID).row
    assert (info["state"], info["version"]) == ("disabled", "0.1.0")
    assert flat(installed) == []
    assert installed.json("grants", PLUGIN_ID).document["grants"][0]["requested"]
    for verb in (
        ("call", PLUGIN_ID, "run", "Jane"),
        ("pull", PLUGIN_ID),
        ("pull", f"{PLUGIN_ID}:0.2.0"),
        ("pull", PLUGIN_ID, "--dry-run"),
        ("rollback", PLUGIN_ID),
        ("update", PLUGIN_ID),
    ):
        ran = installed.run(*verb, expect=8)
        assert "it is disabled" in ran.err
        assert f"agent enable {PLUGIN_ID}" in ran.err
    passed_over = installed.json("update").row
    assert (passed_over["outcome"], passed_over["to"]) == ("pending", None)
    planned = installed.json("check").row
    assert (planned["action"], planned["reason"]) == (
        "skip",
        "disabled: passed over until agent enable",
    )
    why = installed.json("why", PLUGIN_ID).document
    assert (why["disabled"], why["last"]["reason"]) == (True, "disabled")
    for dry in ((), ("--dry-run",)):
        again = installed.json("disable", PLUGIN_ID, *dry).row
        assert (again["outcome"], again["from"]) == ("current", None)

    back = installed.json("enable", PLUGIN_ID).row
    assert (back["from"], back["to"], back["outcome"]) == (None, "0.1.0", "committed")
    assert back["release"] == before["release"]
    assert installed.json("list").row == before
    assert len(flat(installed)) == 3
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    assert installed.json("enable", PLUGIN_ID).row["outcome"] == "current"
    assert installed.json("update").row["outcome"] == "trial"
    events = [e["event"] for e in installed.json("history", PLUGIN_ID).document["events"]]
    assert events == ["activated", "committed", "disabled", "enabled", "activated"]
    lines = installed.json("audit", "show", PLUGIN_ID).document["lines"]
    assert {"disabled", "enabled"} < {line["outcome"] for line in lines}
    installed.run("audit", "verify")


def test_a_running_host_refuses_and_comes_back(machine: Machine, publisher: Publisher) -> None:
    """Disabled during a call, that call ends well; the next is refused; enabled, it is served."""
    machine.configure("[limits]\nwall_timeout_ms = 60000\n")
    publisher.release("0.1.0", code=LOGS)
    machine.run("pull", PLUGIN_ID)
    said: list[str] = []

    def disable_once(record: object) -> None:
        if not said:
            said.append(str(record))
            machine.process("disable", PLUGIN_ID)

    with PluginHost(home=machine.home, on_log=disable_once) as host:
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == "done"
        served = host._loaded.find(PLUGIN_ID)
        served.follow(now=True)
        with pytest.raises(PolicyError, match="it is disabled") as caught:
            host.call_plugin("run", ["Jane"])
        assert (caught.value.reason, caught.value.hint) == ("disabled", f"agent enable {PLUGIN_ID}")
        for load in (host.load_installed, host.load_plugin):
            with pytest.raises(PolicyError):
                load(PLUGIN_ID if load == host.load_installed else f"{STEM}.wasm")
        machine.process("enable", PLUGIN_ID)
        served.follow(now=True)
        assert host.call_plugin("run", ["Jane"]) == "done"
    with PluginHost(home=machine.home) as host:
        machine.process("disable", PLUGIN_ID)
        for load in (host.load_installed, host.load_plugin):
            with pytest.raises(PolicyError, match="it is disabled"):
                load(PLUGIN_ID if load == host.load_installed else f"{STEM}.wasm")
        assert host.discover() == ()


def test_what_others_put_in_place_of_the_copies_is_left_and_told(
    installed: Machine, tmp_path: Path
) -> None:
    """Whole files, links or parts of a set: only copies go, those that are stale or torn too."""
    foreign = installed.plugins / f"{STEM}.wasm"
    foreign.write_bytes(b"only copy")
    row = installed.json("disable", PLUGIN_ID).row
    assert flat(installed) == [foreign.name]
    assert foreign.read_bytes() == b"only copy"
    told = f"left in {installed.plugins}, because they are no copies of the agent's: {foreign.name}"
    assert row["detail"].endswith(told)
    installed.run("enable", PLUGIN_ID)
    assert len(flat(installed)) == 3
    for path in installed.plugins.glob(f"{STEM}.*"):
        path.rename(tmp_path / path.name)
        shutil.copy(tmp_path / path.name, path)
    (installed.plugins / f"{STEM}.sig").unlink()
    (installed.plugins / f"{STEM}.sig").symlink_to(tmp_path / "elsewhere")
    installed.run("disable", PLUGIN_ID)
    assert flat(installed) == [f"{STEM}.sig"]


def test_copies_go_though_the_release_is_broken(installed: Machine) -> None:
    """What looks as the agent left it is its own, whatever became of the sealed bytes."""
    for path in releases_of(installed)[0].iterdir():
        path.chmod(0o644)
        path.write_bytes(b"broken")
    installed.run("disable", PLUGIN_ID)
    assert flat(installed) == []


def test_the_word_alone_stops_a_running_host(installed: Machine) -> None:
    """Written, and nothing taken away yet: a host refuses all the same."""

    class Stuck(Files):
        def remove(self, path: Path) -> None:
            raise OSError(5, "Input/output error", str(path))

    with PluginHost(home=installed.home) as host:
        host.load_installed(PLUGIN_ID)
        with (
            contextlib.closing(
                Context(Options(home=installed.home), environ={}, files=Stuck())
            ) as context,
            context.tree.lock(timeout_s=0),
            pytest.raises(OSError, match="Input/output"),
        ):
            context.activation.disable(PLUGIN_ID)
        with opened(installed) as context:
            assert context.tree.current(PLUGIN_ID) is not None
        host._loaded.find(PLUGIN_ID).follow(now=True)
        with pytest.raises(PolicyError, match="it is disabled"):
            host.call_plugin("run", ["Jane"])
    # Whoever comes next takes away what is left.
    installed.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    with opened(installed) as context:
        assert context.tree.current(PLUGIN_ID) is None
    assert flat(installed) == []


def test_a_stop_that_holds_says_so_where_nothing_can_be_removed(
    installed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, because copies lie there still; but nobody thinks that it was not stopped."""

    def refuse(_files: Files, path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Files, "remove", refuse)
        ran = installed.run("disable", PLUGIN_ID, expect=1)
    assert f"cannot write to {installed.plugins}" in ran.err
    assert "Read-only file system" in ran.err
    assert "it is disabled all the same, and hosts refuse its calls" in ran.err
    assert "agent doctor" in ran.err
    installed.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    installed.run("disable", PLUGIN_ID)
    assert flat(installed) == []


def test_a_failing_trial_is_judged_before_it_is_disabled(
    installed: Machine, publisher: Publisher
) -> None:
    """Its release is rejected; enabled, the one before serves."""
    let_a_trial_fail(installed, publisher)
    row = installed.json("disable", PLUGIN_ID).row
    assert "without a verdict" not in row["detail"]
    assert installed.json("enable", PLUGIN_ID).row["to"] == "0.1.0"
    assert installed.json("info", PLUGIN_ID).row["rejected"]


def test_an_open_trial_ends_without_a_verdict(installed: Machine, publisher: Publisher) -> None:
    """Enabled, the last good release serves; the other is not rejected, and is taken again."""
    publisher.release("0.2.0")
    installed.run("update")
    row = installed.json("disable", PLUGIN_ID).row
    assert row["detail"] == (
        "disabled; agent enable brings back 0.1.0; its trial ended without a verdict"
    )
    assert installed.json("list").row["version"] == "0.1.0"
    assert installed.json("enable", PLUGIN_ID).row["to"] == "0.1.0"
    assert installed.json("info", PLUGIN_ID).row["rejected"] == []
    assert installed.json("update").row["outcome"] == "trial"


def test_the_systems_copy_does_not_step_in(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """A disabled copy of the user's shadows the system's: no load, no call, no row of its own."""
    folder = publisher.plugin("0.1.0")
    publisher.push(folder, "--to", f"oci:{tmp_path / 'aside'}/{PLUGIN_ID}")
    shutil.copytree(folder, installed.home / "system")
    installed.run("disable", PLUGIN_ID)
    row = installed.json("list").row
    assert (row["state"], row["shadows"]) == ("disabled", str(installed.home / "system"))
    installed.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    with PluginHost(home=installed.home) as host:
        assert host.discover() == ()
        with pytest.raises(PolicyError):
            host.load_plugin(f"{STEM}.wasm")
        with pytest.raises(PolicyError):
            host.load_plugin(installed.home / "system" / f"{STEM}.wasm")
        # Nor under another stem.
        aside = publisher.plugin("0.1.0", stem=OTHER_STEM)
        installed.run("sign", aside, "--key", publisher.key)
        shutil.copytree(aside, installed.home / "system", dirs_exist_ok=True)
        with pytest.raises(PolicyError):
            host.load_plugin(f"{OTHER_STEM}.wasm")
    # Removed, the user's shadows it no longer.
    removed = installed.json("remove", PLUGIN_ID).row
    assert removed["detail"].endswith("the system's copy is served instead")
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


def test_a_host_of_the_systems_copy_heeds_the_users_word(
    machine: Machine, publisher: Publisher
) -> None:
    """The user's copy came after it was loaded, and was disabled: it refuses, until enabled."""
    folder = publisher.plugin("0.1.0")
    publisher.push(folder)
    shutil.copytree(folder, machine.home / "system")
    with PluginHost(home=machine.home) as host:
        assert host.discover() == (PLUGIN_ID,)
        served = host._loaded.find(PLUGIN_ID)
        machine.process("pull", PLUGIN_ID)
        machine.process("disable", PLUGIN_ID)
        served.follow(now=True)
        with pytest.raises(PolicyError, match="it is disabled"):
            host.call_plugin("run", ["Jane"])
        machine.process("enable", PLUGIN_ID)
        served.follow(now=True)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
    # Calls of the system's copy are not recorded.
    assert machine.json("info", PLUGIN_ID).row["calls"] == 0


@pytest.mark.parametrize("verb", ["disable", "enable", "remove", "hold", "unhold"])
def test_what_is_the_systems_is_left_to_its_administrator(
    machine: Machine, publisher: Publisher, tmp_path: Path, verb: str
) -> None:
    """8 and the command that would; a plugin that is nowhere: 3."""
    folder = publisher.plugin("0.1.0")
    publisher.push(folder, "--to", f"oci:{tmp_path / 'aside'}/{PLUGIN_ID}")
    shutil.copytree(folder, machine.home / "system")
    ran = machine.run(verb, PLUGIN_ID, expect=8)
    assert f"agent --system {verb} {PLUGIN_ID}" in ran.err
    machine.run(verb, OTHER_ID, expect=3)
    assert machine.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


def test_an_update_that_was_planned_before_the_stop_does_not_go_live(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a run nor a pull: the stop is asked again under the tree's lock."""
    publisher.release("0.2.0")
    with opened(installed) as context:
        pipeline = Pipeline(context, Telemetry(""))
        incoming = taking.incoming

        def disable_meanwhile(where: Context) -> contextlib.AbstractContextManager[Path]:
            disabling.disable(where, Telemetry(""), PLUGIN_ID, dry_run=False)
            return incoming(where)

        monkeypatch.setattr(taking, "incoming", disable_meanwhile)
        outcome = pipeline.update(PLUGIN_ID, named=False)
        assert isinstance(outcome.error, PolicyError)
        assert outcome.error.reason == "disabled"
        assert context.tree.current(PLUGIN_ID) is None


# -- the emergency stop


def _break_trust(machine: Machine) -> None:
    (machine.home / "config" / "trusted_keys.toml").write_text("schema = ", encoding="utf-8")


def _break_config(machine: Machine) -> None:
    machine.configure(f'[plugins."{PLUGIN_ID}"]\nconstraint = "no such thing"\nwhat = 1\n')


def _break_bytes(machine: Machine, version: str = "*") -> None:
    for path in (machine.plugins / ".store" / PLUGIN_ID).glob(f"{version}-*/*.wasm"):
        path.unlink()


def _lose_rows(machine: Machine) -> None:
    with opened(machine) as context:
        context.ledger.forget(PLUGIN_ID)
        context.ledger._run("DELETE FROM plugins WHERE plugin_id = ?", (PLUGIN_ID,))


def _close_registry(machine: Machine) -> None:
    machine.registry = "127.0.0.1:1/gone"
    machine.configure()


@pytest.mark.parametrize(
    "trouble", [_break_trust, _break_config, _break_bytes, _lose_rows, _close_registry]
)
def test_the_emergency_stop_works_in_trouble(
    installed: Machine, publisher: Publisher, trouble: Callable[[Machine], None]
) -> None:
    """All of the user's plugins are stopped, whatever is broken beside them; a trial is open."""
    with_other(installed, publisher)
    publisher.release("0.2.0")
    installed.run("update", PLUGIN_ID)
    trouble(installed)
    rows = installed.json("disable", "--all").document["plugins"]
    assert [(row["id"], row["outcome"]) for row in rows] == [
        (PLUGIN_ID, "committed"),
        (OTHER_ID, "committed"),
    ]
    assert flat(installed) == flat(installed, OTHER_STEM) == []
    again = installed.json("disable", "--all").document["plugins"]
    assert {row["outcome"] for row in again} == {"current"}
    with opened(installed) if trouble is not _break_config else contextlib.nullcontext() as context:
        assert context is None or context.tree.plugin_ids() == ()


def test_a_failing_trial_is_rejected_though_nobody_can_be_believed(
    installed: Machine, publisher: Publisher
) -> None:
    """Without a trust store there is no way back; stopped, what failed does not come again."""
    let_a_trial_fail(installed, publisher)
    store = installed.home / "config" / "trusted_keys.toml"
    text = store.read_bytes()
    _break_trust(installed)
    row = installed.json("disable", PLUGIN_ID).row
    assert "could not be settled" in row["detail"]
    store.write_bytes(text)
    assert installed.json("enable", PLUGIN_ID).row["to"] == "0.1.0"
    assert installed.json("info", PLUGIN_ID).row["rejected"] == [
        "0.2.0: 9 of 9 calls failed, no record before"
    ]
    assert installed.json("update").row["outcome"] == "current"


def test_one_that_can_not_be_stopped_keeps_no_other(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row says why, the others are stopped: 12; when the fault is gone, it is finished."""
    with_other(installed, publisher)
    really = Files.remove

    def refuse(files: Files, path: Path) -> None:
        if path == installed.plugins / f"{STEM}.toml":
            raise OSError(errno.EIO, "Input/output error", str(path))
        really(files, path)

    with monkeypatch.context() as patch:
        patch.setattr(Files, "remove", refuse)
        rows = installed.json("disable", "--all", expect=12).document["plugins"]
        # What can be taken away is, though another part can't.
        with opened(installed) as context:
            assert context.tree.plugin_ids() == ()
        installed.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    assert [row["outcome"] for row in rows] == ["failed", "committed"]
    rows = installed.json("disable", "--all").document["plugins"]
    assert [row["outcome"] for row in rows] == ["committed", "current"]
    assert flat(installed) == []


def test_who_stops_all_is_told_what_is_not_theirs(
    installed: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    """The system's plugins go on, and the message names them and the command."""
    folder = publisher.plugin("0.1.0", plugin_id=OTHER_ID, stem=OTHER_STEM)
    publisher.push(folder, "--to", f"oci:{tmp_path / 'aside'}/{OTHER_ID}")
    shutil.copytree(folder, installed.home / "system")
    ran = installed.json("disable", "--all")
    assert [row["id"] for row in ran.document["plugins"]] == [PLUGIN_ID]
    assert f"still served from {installed.home / 'system'}: {OTHER_ID}" in ran.err
    assert "agent --system disable --all" in ran.err
    assert installed.run("call", OTHER_ID, "run", "Jane").out == "Hello, Jane"


def test_disable_wants_one_or_all(installed: Machine) -> None:
    """Neither and both are usage errors; all of nothing is nothing."""
    installed.run("disable", expect=2)
    installed.run("disable", PLUGIN_ID, "--all", expect=2)
    installed.run("remove", PLUGIN_ID)
    assert installed.json("disable", "--all").document["plugins"] == []


# -- enable says no


def test_what_is_no_longer_believed_stays_disabled(
    installed: Machine, publisher: Publisher
) -> None:
    """A key that was revoked meanwhile: 7; nothing changes."""
    installed.run("disable", PLUGIN_ID)
    installed.run("trust", "revoke", publisher.key_id, "--reason", "stolen")
    before = installed.snapshot()
    ran = installed.json("enable", PLUGIN_ID, expect=7)
    assert ran.row["outcome"] == "refused"
    assert "it stays disabled" in ran.err
    installed.json("enable", PLUGIN_ID, "--dry-run", expect=7)
    assert installed.snapshot() == before
    assert installed.json("list").row["state"] == "disabled"


def test_what_can_not_be_run_any_more_stays_disabled(installed: Machine) -> None:
    """Its bytes are gone: 10; removed, it can be taken anew."""
    installed.run("disable", PLUGIN_ID)
    _break_bytes(installed)
    before = installed.snapshot()
    ran = installed.json("enable", PLUGIN_ID, expect=10)
    assert ran.row["outcome"] == "failed"
    assert f"agent doctor --fix forgets it, then agent enable {PLUGIN_ID}" in ran.err
    assert f"agent remove {PLUGIN_ID}" in ran.err
    assert "trust" not in ran.err
    assert installed.snapshot() == before
    installed.run("remove", PLUGIN_ID)
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "committed"


def test_the_doctor_finds_what_else_enabling_brings_back(
    installed: Machine, publisher: Publisher
) -> None:
    """The release that was good is broken: a kept one that was committed comes in its place."""
    disable_an_update(installed, publisher)
    _break_bytes(installed, "0.2.0")
    mine = installed.plugins / f"{STEM}.toml"
    mine.write_text("somebody else's")
    (told,) = _mended(installed, "releases")
    assert mine.read_text() == "somebody else's"
    assert told == f"{PLUGIN_ID}: 0.1.0 is what agent enable {PLUGIN_ID} brings back"
    detail = installed.json("disable", PLUGIN_ID).row["detail"]
    assert detail == "already disabled; agent enable brings back 0.1.0"
    assert installed.json("enable", PLUGIN_ID).row["to"] == "0.1.0"
    assert installed.version() == "0.1.0"


def test_where_nothing_good_is_left_the_way_in_is_told(installed: Machine) -> None:
    """By the doctor, by ``disable`` and by ``enable``, which ends with 3: nothing serves."""
    installed.run("disable", PLUGIN_ID)
    _break_bytes(installed)
    (told,) = _mended(installed, "releases")
    assert told.endswith(f": agent enable {PLUGIN_ID}, then agent pull {PLUGIN_ID}")
    detail = installed.json("disable", PLUGIN_ID).row["detail"]
    assert "no good release of it is kept" in detail
    ran = installed.json("enable", PLUGIN_ID, expect=3)
    assert (ran.row["outcome"], ran.row["to"]) == ("committed", None)
    assert f"try: agent pull {PLUGIN_ID}" in ran.err
    lines = installed.json("audit", "show").document["lines"]
    assert "not-found" not in {line["outcome"] for line in lines[-3:]}
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "committed"


def test_the_doctor_says_how_a_plugin_comes_back_of_which_nothing_serves(
    installed: Machine,
) -> None:
    """What served is broken, and there is no way back: its hint is said again after mending."""
    _break_bytes(installed)
    (told,) = _mended(installed, "serving")
    assert told == f"{PLUGIN_ID}: nothing serves now: agent pull {PLUGIN_ID}"
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "committed"


def _mended(machine: Machine, check: str) -> list[str]:
    """What the doctor says once it has mended what a check found."""
    found = machine.json("doctor", "--fix", expect=None).document["findings"]
    (told,) = (row["told"] for row in found if row["check"] == check and row.get("mended"))
    assert isinstance(told, list)
    return told


def test_other_bytes_under_the_same_name_stay_disabled(
    installed: Machine, publisher: Publisher
) -> None:
    """Another genuine release in the folder of the one that was good: 10."""
    disable_an_update(installed, publisher)
    with opened(installed) as context:
        new, old = context.ledger.generations(PLUGIN_ID)
        place, genuine = context.tree.folder(new), context.tree.folder(old)
    Files().remove_tree(place)
    shutil.copytree(genuine, place)
    ran = installed.run("enable", PLUGIN_ID, expect=10)
    assert "expected " in ran.err


def test_a_plugin_that_was_never_good_is_enabled_to_be_pulled(
    installed: Machine, publisher: Publisher
) -> None:
    """The ledger lost it, and it was disabled all the same: nothing comes back, but the way in."""
    _lose_rows(installed)
    installed.run("disable", PLUGIN_ID)
    folder = publisher.plugin("0.1.0")
    installed.run("sign", folder, "--key", publisher.key)
    folder.rename(installed.home / "system")
    for verb in ("list", "check"):
        assert installed.json(verb).document["plugins"] == []
    shutil.rmtree(installed.home / "system")
    installed.run("pull", PLUGIN_ID, expect=8)
    assert installed.json("enable", PLUGIN_ID, "--dry-run", expect=3).row["outcome"] == "planned"
    row = installed.json("enable", PLUGIN_ID, expect=3).row
    assert (row["outcome"], row["to"]) == ("committed", None)
    assert row["detail"] == "enabled: no good release of it is kept"
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "committed"


def test_what_was_removed_meanwhile_is_not_enabled(
    installed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is checked again under the tree's lock: 11."""
    installed.run("disable", PLUGIN_ID)

    def remove_meanwhile(context: Context, _generation: object) -> None:
        removal.remove(context, Telemetry(""), PLUGIN_ID, dry_run=False)

    monkeypatch.setattr(disabling, "require_loadable", remove_meanwhile)
    ran = installed.run("enable", PLUGIN_ID, expect=11)
    assert "another agent changed it just now" in ran.err
    assert installed.json("list").document["plugins"] == []


# -- remove


def test_a_removed_plugin_leaves_its_data_its_floor_and_its_denials(
    installed: Machine, publisher: Publisher
) -> None:
    """Gone from tree and list; pulled again it is a first install, not below its floor unasked."""
    installed.configure(probation="0s")
    publisher.release("0.2.0")
    installed.run("update")
    installed.run("rollback", PLUGIN_ID)
    installed.run("grant", PLUGIN_ID, "fs_read")
    installed.run("deny", PLUGIN_ID, "network")
    installed.run("hold", PLUGIN_ID)
    data = installed.home / "data" / PLUGIN_ID
    data.mkdir(parents=True)
    (data / "kept").touch()
    row = installed.json("remove", PLUGIN_ID).row
    assert (row["from"], row["to"], row["outcome"], row["step"]) == (
        "0.1.0",
        None,
        "committed",
        "remove",
    )
    assert row["data"] == str(data)
    assert row["detail"] == f"removed; its data stays in {data}"
    assert (data / "kept").exists()
    assert installed.json("list").document["plugins"] == []
    assert flat(installed) == []
    assert not releases_of(installed)
    assert installed.json("remove", PLUGIN_ID).row["outcome"] == "current"
    for verb in ("call", "update", "rollback", "disable", "enable", "hold", "info"):
        installed.run(verb, PLUGIN_ID, expect=3)
    document = installed.json("grants", PLUGIN_ID).document
    decided = {one["capability"]: one["by"] for one in document["grants"]}
    assert decided == {"log": "config: capabilities.grant", "network": "agent deny"}
    events = [e["event"] for e in installed.json("history", PLUGIN_ID).document["events"]]
    assert events[-1] == "removed"
    assert "removed" in {
        line["outcome"] for line in installed.json("audit", "show").document["lines"]
    }
    assert installed.json("why", PLUGIN_ID).document["bounds"]["floor"] == "0.2.0"

    installed.run("pull", f"{PLUGIN_ID}:0.1.0", expect=8)
    # 0.2.0 was rejected by the rollback, and still is.
    refused = installed.run("pull", PLUGIN_ID, expect=8)
    assert "rejected here" in refused.err
    publisher.release("0.3.0", sample="0.2.0")
    first = installed.json("pull", PLUGIN_ID).row
    assert (first["from"], first["to"], first["outcome"]) == (None, "0.3.0", "committed")
    info = installed.json("info", PLUGIN_ID).row
    assert (info["held_until"], info["kept"]) == (None, ["0.3.0"])
    installed.run("remove", PLUGIN_ID)
    lower = installed.json("pull", f"{PLUGIN_ID}:0.1.0", "--allow-downgrade").row
    assert lower["outcome"] == "committed"
    assert installed.json("info", PLUGIN_ID).row["floor"] == "0.3.0"


def test_a_running_host_says_that_a_plugin_was_removed(installed: Machine) -> None:
    """``NotFoundError`` and the command that brings it back; pulled again, it is served."""
    with PluginHost(home=installed.home) as host:
        host.load_installed(PLUGIN_ID)
        installed.process("remove", PLUGIN_ID)
        served = host._loaded.find(PLUGIN_ID)
        served.follow(now=True)
        with pytest.raises(NotFoundError, match="it was removed") as caught:
            host.call_plugin("run", ["Jane"])
        assert caught.value.hint == f"agent pull {PLUGIN_ID}"
        installed.process("pull", PLUGIN_ID)
        served.follow(now=True)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"


def test_a_disabled_plugin_can_be_removed(installed: Machine) -> None:
    """And pulled again, enabled."""
    installed.run("disable", PLUGIN_ID)
    row = installed.json("remove", PLUGIN_ID).row
    assert (row["from"], row["outcome"]) == ("0.1.0", "committed")
    assert installed.json("pull", PLUGIN_ID).row["outcome"] == "committed"
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"


def test_its_stem_is_free_once_a_plugin_is_removed(
    installed: Machine, publisher: Publisher
) -> None:
    """Another id may take it then, and not before."""
    publisher.release("0.1.0", plugin_id=OTHER_ID, stem=STEM)
    installed.run("disable", PLUGIN_ID)
    installed.run("pull", OTHER_ID, expect=8)
    installed.run("remove", PLUGIN_ID)
    installed.run("pull", OTHER_ID)


# -- all of them


@pytest.mark.parametrize("verb", ["disable", "enable", "remove"])
def test_a_dry_run_changes_nothing(installed: Machine, publisher: Publisher, verb: str) -> None:
    """It says what would be done, trial or not."""
    publisher.release("0.2.0")
    installed.run("update")
    if verb == "enable":
        installed.run("disable", PLUGIN_ID)
    before = installed.snapshot()
    history = installed.json("history", PLUGIN_ID).out
    row = installed.json(verb, PLUGIN_ID, "--dry-run").row
    assert row["outcome"] == "planned"
    assert row["detail"].startswith("would be ")
    assert installed.snapshot() == before
    assert installed.json("history", PLUGIN_ID).out == history


@pytest.mark.parametrize("verb", ["disable", "enable", "remove"])
def test_they_wait_for_the_tree(
    installed: Machine, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Where another agent keeps it: 11, and nothing changes."""
    with_other(installed, publisher)
    if verb == "enable":
        installed.run("disable", PLUGIN_ID)
    before = installed.snapshot()
    for module in (disabling, removal, settling):
        monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.0)
    with (installed.plugins / ".store" / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed.run(verb, PLUGIN_ID, expect=11)
        if verb == "disable":
            rows = installed.json("disable", "--all", expect=11).document["plugins"]
            assert [(row["id"], row["outcome"]) for row in rows] == [
                (PLUGIN_ID, "failed"),
                (OTHER_ID, "failed"),
            ]
    assert installed.snapshot() == before


@pytest.mark.parametrize(
    ("verb", "code"),
    [("update", 0), ("rollback", 3), ("disable", 3), ("call", 3), ("remove", 0)],
)
def test_a_removal_that_was_cut_short_is_finished_and_nothing_is_installed(
    installed: Machine, verb: str, code: int
) -> None:
    """Whoever finds one finishes it; an update does not take the plugin anew."""
    with opened(installed) as context:
        live = context.activation.live(PLUGIN_ID)
        assert live is not None
        event = context.activation._event(PLUGIN_ID, live, "removed", "")
        context.ledger.stop(PLUGIN_ID, Stop.REMOVING, event)
    installed.run(verb, PLUGIN_ID, expect=code)
    assert installed.json("list").document["plugins"] == []
    assert not releases_of(installed)


def test_a_word_on_what_has_no_good_release_is_a_line_too(installed: Machine) -> None:
    """Forgotten by the doctor, enabled or removed: nothing is lifted or goes without a line."""
    for verb, code in (("enable", 3), ("remove", 0)):
        installed.run("pull", PLUGIN_ID)
        installed.run("disable", PLUGIN_ID)
        (release,) = releases_of(installed)
        for path in release.iterdir():
            path.chmod(0o644)
            path.write_bytes(b"other")
        installed.run("doctor", "--fix", expect=None)
        before = len(installed.json("audit", "show", PLUGIN_ID).document["lines"])
        installed.run(verb, PLUGIN_ID, expect=code)
        lines = installed.json("audit", "show", PLUGIN_ID).document["lines"]
        forgotten, *_ = [line for line in lines[:before] if line["outcome"] == "forgotten"][-1:]
        assert forgotten["version"] == "0.1.0"
        assert "nothing of it is good now" in forgotten["reason"]
        told = [line for line in lines[before:] if line["outcome"] == f"{verb}d"]
        assert [line["reason"] for line in told] == ["no good release of it is kept"]
    installed.run("audit", "verify")
