"""What an operator decided outlives the ledger: one that is lost, and an older one put back."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.context import Context, Options
from agent.errors import UnhealthyError
from agent.host import PluginHost
from agent.ledger.memory import decode
from agent.model import Event, Samples, Stop
from agent.pipeline.staging import Stage
from sandbox import CapabilityDenied
from support.system import PLUGIN_ID, STEM, Machine, Publisher, taken

OTHER = "org.example.other"


@pytest.fixture
def published(tmp_path: Path) -> Publisher:
    """Who published two versions in the embedded registry of a host that took both."""
    return taken(tmp_path, "0.1.0", "0.2.0")


@pytest.fixture
def offline(published: Publisher) -> Machine:
    """That host; 0.2.0 serves."""
    return published.machine


def lose(machine: Machine, _kept: bytes = b"") -> None:
    """Remove the ledger as ``rm state.db*`` does."""
    for path in (machine.home / "state").glob("state.db*"):
        path.unlink()


def put_back(machine: Machine, kept: bytes) -> None:
    """An older copy of the ledger lies there again, as after a restored backup."""
    lose(machine)
    (machine.home / "state" / "state.db").write_bytes(kept)


def kept_of(machine: Machine) -> bytes:
    """A backup of the ledger."""
    return (machine.home / "state" / "state.db").read_bytes()


def fixed(machine: Machine) -> list[str]:
    """Let the doctor mend; all that it told."""
    found = machine.json("doctor", "--fix", expect=None).document["findings"]
    assert [one for one in found if not one["ok"]] == []
    return [line for one in found for line in one.get("told", ())]


def decided(machine: Machine) -> dict[str, str]:
    """Who decided on each capability."""
    rows = machine.json("grants", PLUGIN_ID).document["grants"]
    return {row["capability"]: row["by"] for row in rows}


Gone = Callable[[Machine, bytes], None]
both = pytest.mark.parametrize("gone", [lose, put_back])


# -- stops


@both
def test_a_disabled_plugin_stays_disabled(offline: Machine, gone: Gone) -> None:
    """It serves nobody, is told to be disabled, and comes back by ``enable`` alone."""
    kept = kept_of(offline)
    offline.run("disable", PLUGIN_ID)
    gone(offline, kept)
    told = fixed(offline)
    assert any("it is disabled; agent enable brings back 0.2.0" in line for line in told)
    assert offline.json("list").row["state"] == "disabled"
    assert offline.json("update").row["outcome"] == "pending"
    assert not list(offline.plugins.glob(f"{STEM}.*"))
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    offline.run("rollback", PLUGIN_ID, expect=8)
    assert offline.json("disable", PLUGIN_ID).row["outcome"] == "current"
    assert offline.json("enable", PLUGIN_ID).row["to"] == "0.2.0"
    assert offline.run("call", PLUGIN_ID, "run", "Jane").out == "Hello again, Jane"
    offline.run("rollback", PLUGIN_ID)
    assert offline.version() == "0.1.0"


@both
def test_what_was_gone_back_to_is_what_comes_back(
    offline: Machine, published: Publisher, gone: Gone
) -> None:
    """Not the release that was committed last: the one that the operator chose."""
    published.release("0.4.0")
    offline.run("pull", PLUGIN_ID)
    offline.run("rollback", PLUGIN_ID, "--to", "0.1.0")
    kept = kept_of(offline)
    offline.run("disable", PLUGIN_ID)
    gone(offline, kept)
    fixed(offline)
    assert offline.json("enable", PLUGIN_ID).row["to"] == "0.1.0"


def test_what_was_enabled_since_is_enabled_again_by_a_person(offline: Machine) -> None:
    """Nobody can tell the newer word from a file that somebody wrote: the stop counts."""
    offline.run("disable", PLUGIN_ID)
    kept = kept_of(offline)
    offline.run("enable", PLUGIN_ID)
    put_back(offline, kept)
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    assert any("it is disabled; agent enable" in line for line in fixed(offline))
    assert offline.json("list").row["state"] == "disabled"
    assert not list(offline.plugins.glob(f"{STEM}.*"))
    assert offline.json("enable", PLUGIN_ID).row["to"] == "0.2.0"
    assert offline.run("call", PLUGIN_ID, "run", "Jane").out == "Hello again, Jane"
    assert (offline.plugins / f"{STEM}.toml").exists()


@both
def test_a_drop_in_of_a_disabled_plugin_waits_on(
    offline: Machine, published: Publisher, gone: Gone
) -> None:
    """Neither taken nor removed, whatever became of the ledger."""
    kept = kept_of(offline)
    offline.run("disable", PLUGIN_ID)
    folder = published.plugin("0.5.0")
    offline.run("sign", folder, "--key", published.key)
    for part in ("wasm", "sig", "toml"):
        shutil.copy(folder / f"{STEM}.{part}", offline.plugins)
    gone(offline, kept)
    fixed(offline)
    offline.run("update", expect=None)
    assert offline.json("list").row["state"] == "disabled"
    assert len(list(offline.plugins.glob(f"{STEM}.*"))) == 3
    assert offline.json("enable", PLUGIN_ID).row["to"] == "0.2.0"


def test_the_systems_copy_does_not_step_in_for_a_disabled_plugin(
    offline: Machine, published: Publisher
) -> None:
    """Not even while the ledger is lost and nobody has made a new one."""
    folder = published.plugin("0.1.0")
    offline.run("sign", folder, "--key", published.key)
    shutil.copytree(folder, offline.home / "system")
    offline.run("disable", PLUGIN_ID)
    lose(offline)
    assert "is disabled" in offline.run("call", PLUGIN_ID, "run", "Jane", expect=8).err


# -- holds


@both
def test_a_held_plugin_stays_held(offline: Machine, published: Publisher, gone: Gone) -> None:
    """An update run leaves it where it is."""
    kept = kept_of(offline)
    offline.run("hold", PLUGIN_ID)
    published.release("0.4.0")
    gone(offline, kept)
    fixed(offline)
    assert offline.json("info", PLUGIN_ID).row["held_until"] == "forever"
    assert offline.json("update").row["outcome"] == "pending"
    assert offline.version() == "0.2.0"


def test_what_was_let_go_since_is_let_go_again_by_a_person(
    offline: Machine, published: Publisher
) -> None:
    """As with a stop: of the two holds the longer one counts."""
    offline.run("hold", PLUGIN_ID)
    kept = kept_of(offline)
    offline.run("hold", PLUGIN_ID, "--for", "1d")
    offline.run("unhold", PLUGIN_ID)
    published.release("0.4.0")
    put_back(offline, kept)
    fixed(offline)
    assert offline.json("info", PLUGIN_ID).row["held_until"] == "forever"
    offline.run("unhold", PLUGIN_ID)
    offline.run("update")
    assert offline.version() == "0.4.0"


# -- grants and denials


@both
def test_what_was_denied_stays_denied(offline: Machine, gone: Gone) -> None:
    """From the first load on, before anybody mends: a lost denial would open what was shut."""
    kept = kept_of(offline)
    offline.run("deny", PLUGIN_ID, "log")
    gone(offline, kept)
    with PluginHost(home=offline.home) as host:
        host.load_installed(PLUGIN_ID)
        with pytest.raises(CapabilityDenied):
            host.call_plugin("run", ["Jane"])
    assert decided(offline)["log"] == "agent deny"
    fixed(offline)
    assert decided(offline)["log"] == "agent deny"
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    offline.run("grant", PLUGIN_ID, "log")
    offline.run("call", PLUGIN_ID, "run", "Jane")


@both
def test_what_was_granted_is_told_and_granted_by_nobody(offline: Machine, gone: Gone) -> None:
    """A file beside the plugins gives no capability; the doctor names what to type."""
    kept = kept_of(offline)
    offline.run("grant", PLUGIN_ID, "fs_read")
    gone(offline, kept)
    again = f"agent grant {PLUGIN_ID} fs_read"
    assert any(again in line for line in fixed(offline))
    assert "fs_read" not in decided(offline)
    offline.run(*again.split()[1:])
    assert decided(offline)["fs_read"] == "agent grant"


def test_what_was_taken_back_since_is_not_granted_again(offline: Machine) -> None:
    """By a denial, or by a removal that took the grant with it."""
    offline.run("grant", PLUGIN_ID, "network")
    offline.run("grant", PLUGIN_ID, "llm")
    offline.run("grant", PLUGIN_ID, "fs_read")
    kept = kept_of(offline)
    offline.run("deny", PLUGIN_ID, "network")
    offline.run("remove", PLUGIN_ID)
    offline.run("pull", PLUGIN_ID)
    offline.run("grant", PLUGIN_ID, "llm")
    put_back(offline, kept)
    fixed(offline)
    by = decided(offline)
    assert (by["network"], by["llm"], by.get("fs_read")) == ("agent deny", "agent grant", None)


@both
def test_a_denial_of_what_was_never_installed_is_kept(offline: Machine, gone: Gone) -> None:
    """It is there when the plugin comes; and the plugin is installed no more than before."""
    kept = kept_of(offline)
    offline.run("deny", OTHER, "network")
    gone(offline, kept)
    fixed(offline)
    rows = offline.json("grants", OTHER).document["grants"]
    assert {row["capability"]: row["by"] for row in rows}["network"] == "agent deny"
    offline.run("remove", OTHER, expect=3)


# -- rejections


def link(machine: Machine, version: str) -> None:
    """Let ``current`` name a sealed release, as ``ln -s`` does."""
    (release,) = home_of(machine).glob(f"{version}-*")
    (home_of(machine) / "current").unlink()
    (home_of(machine) / "current").symlink_to(release.name)


@both
def test_what_was_rejected_does_not_serve_though_somebody_links_it(
    offline: Machine, gone: Gone
) -> None:
    """Before anybody mends: what is loaded stays, and the good release is what others load."""
    kept = kept_of(offline)
    offline.run("rollback", PLUGIN_ID)
    with PluginHost(home=offline.home) as host, pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.serving.served._LOOK_EVERY_S", 0)
        host.load_installed(PLUGIN_ID)
        gone(offline, kept)
        link(offline, "0.2.0")
        for _ in range(2):
            assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
    assert offline.run("call", PLUGIN_ID, "run", "Jane").out == "Hello, Jane"
    fixed(offline)
    assert offline.version() == "0.1.0"


def test_only_what_is_good_or_on_trial_serves_whatever_is_linked(
    offline: Machine, published: Publisher
) -> None:
    """Neither an open host goes below the floor because of a link, nor to what nobody probed."""
    with PluginHost(home=offline.home) as host, pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.serving.served._LOOK_EVERY_S", 0)
        host.load_installed(PLUGIN_ID)
        with opened(offline) as context, context.tree.lock(timeout_s=0):
            link(offline, "0.1.0")
            assert host.call_plugin("run", ["Jane"]) == "Hello again, Jane"
        patch.setattr("agent.serving.recorder._FLUSH_EVERY_S", 0)
        assert host.call_plugin("run", ["Jane"]) == "Hello again, Jane"
        assert offline.version() == "0.2.0"
        take_on_trial(offline, published)
        host._loaded.find(PLUGIN_ID).follow(now=True)
        assert host._loaded.find(PLUGIN_ID).slot.current.manifest.version == "0.4.0"


def test_where_nothing_good_is_left_what_was_rejected_serves_nobody(offline: Machine) -> None:
    """Not even the release that only an older ledger calls good."""
    kept = kept_of(offline)
    offline.run("rollback", PLUGIN_ID)
    put_back(offline, kept)
    link(offline, "0.2.0")
    (good,) = home_of(offline).glob("0.1.0-*")
    good.rename(offline.home / "away")
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=3)


def test_an_open_host_leaves_what_a_run_rejected_that_died_right_then(offline: Machine) -> None:
    """It serves the good release at once, and flips back in the dead run's stead."""
    with PluginHost(home=offline.home) as host, pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.serving.served._LOOK_EVERY_S", 0)
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("run", ["Jane"]) == "Hello again, Jane"
        with opened(offline) as context:
            leaving = context.activation.live(PLUGIN_ID)
            target = next(g for g in context.ledger.generations(PLUGIN_ID) if g != leaving)
            assert leaving is not None
            context.ledger.turn_back(leaving, target=target.release, reason="bad", at=1.0)
        with context.tree.lock(timeout_s=0):
            assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
        assert context.tree.current(PLUGIN_ID) == leaving.folder_name
        patch.setattr("agent.serving.recorder._FLUSH_EVERY_S", 0)
        assert host.call_plugin("run", ["Jane"]) == "Hello, Jane"
        assert context.tree.current(PLUGIN_ID) == target.folder_name


# -- a memory that another ledger wrote, or somebody else


@pytest.fixture
def strange(offline: Machine) -> Path:
    """The plugin's folder as an earlier ledger left it; that was lost, and made anew."""
    kept = offline.home / "kept"
    shutil.copytree(home_of(offline), kept, symlinks=True)
    lose(offline)
    fixed(offline)
    return kept


def home_of(machine: Machine) -> Path:
    """Where the plugin's releases lie."""
    return machine.plugins / ".store" / PLUGIN_ID


def replace_home(machine: Machine, kept: Path) -> None:
    """Put an older copy of the plugin's folder in its place."""
    home_of(machine).rename(machine.home / "away")
    kept.rename(home_of(machine))


def signed(publisher: Publisher, version: str, plugin_id: str) -> Path:
    """A plugin's folder, signed."""
    folder = publisher.plugin(version, plugin_id=plugin_id, stem="other")
    publisher.machine.run("sign", folder, "--key", publisher.key)
    return folder


def take_on_trial(machine: Machine, publisher: Publisher) -> None:
    """0.4.0 serves, and nobody has judged it."""
    publisher.release("0.4.0")
    machine.configure(probation="10m")
    machine.run("pull", PLUGIN_ID)
    assert machine.json("list").row["state"] == "trial"


def opened(machine: Machine) -> contextlib.closing[Context]:
    """The machine's installation."""
    return contextlib.closing(Context(Options(home=machine.home), environ={}))


def edit(machine: Machine) -> None:
    """Write a memory by hand that says what the ledger has never said."""
    path = home_of(machine) / ".memory"
    fields = json.loads(path.read_text())
    fields |= {"number": fields["number"] + 1, "stop": None, "hold": None, "rejected": []}
    fields |= {"floor": "0.1.0", "decisions": [], "good": fields["committed"][-1]["release"]}
    path.write_text(json.dumps(fields))
    (home_of(machine) / "current").unlink(missing_ok=True)
    (newest,) = home_of(machine).glob("0.2.0-*")
    (home_of(machine) / "current").symlink_to(newest.name)


def test_the_memory_of_another_ledger_lifts_no_stop(offline: Machine, strange: Path) -> None:
    """Hosts heed the ledger in use, and so does the doctor."""
    offline.run("disable", PLUGIN_ID)
    replace_home(offline, strange)
    assert "is disabled" in offline.run("call", PLUGIN_ID, "run", "Jane", expect=8).err
    fixed(offline)
    assert offline.json("list").row["state"] == "disabled"
    assert not (home_of(offline) / "current").is_symlink()
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)


def test_the_memory_of_another_ledger_brings_nothing_back(offline: Machine, strange: Path) -> None:
    """Neither a release that was rejected since, nor what was denied, nor a lower floor."""
    offline.run("rollback", PLUGIN_ID)
    offline.run("deny", PLUGIN_ID, "log")
    offline.run("hold", PLUGIN_ID)
    before = offline.json("info", PLUGIN_ID).row
    replace_home(offline, strange)
    assert any("0.2.0 serves no more: it had been rejected" in line for line in fixed(offline))
    after = offline.json("info", PLUGIN_ID).row
    for name in ("version", "floor", "rejected", "held_until", "state"):
        assert after[name] == before[name], name
    assert after["version"] == "0.1.0"
    assert decided(offline)["log"] == "agent deny"


def test_the_memory_of_another_ledger_takes_back_no_commit(
    offline: Machine, published: Publisher, strange: Path
) -> None:
    """Of the good releases of two ledgers the higher one serves, if it is there."""
    published.release("0.4.0")
    offline.run("pull", PLUGIN_ID)
    for name in home_of(offline).glob("0.4.0-*"):
        shutil.copytree(name, strange / name.name)
    replace_home(offline, strange)
    fixed(offline)
    assert (offline.version(), offline.json("info", PLUGIN_ID).row["floor"]) == ("0.4.0", "0.4.0")


def test_a_memory_that_was_edited_gives_nothing(offline: Machine) -> None:
    """A higher number, no stop, nothing rejected or denied: the ledger's word stays."""
    offline.run("rollback", PLUGIN_ID)
    offline.run("deny", PLUGIN_ID, "log")
    offline.run("hold", PLUGIN_ID)
    before = offline.json("info", PLUGIN_ID).row
    edit(offline)
    fixed(offline)
    after = offline.json("info", PLUGIN_ID).row
    for name in ("version", "floor", "rejected", "held_until", "state"):
        assert after[name] == before[name], name
    assert decided(offline)["log"] == "agent deny"
    offline.run("disable", PLUGIN_ID)
    edit(offline)
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    fixed(offline)
    assert offline.json("list").row["state"] == "disabled"
    assert offline.json("enable", PLUGIN_ID).row["to"] == "0.1.0"


@pytest.mark.parametrize("number", [(1 << 53) - 1, (1 << 52) + 1])
def test_no_number_switches_the_second_place_off(offline: Machine, number: int) -> None:
    """However high it is: what the doctor writes is read again, and goes on counting."""
    path = home_of(offline) / ".memory"
    for _ in range(2):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"number": number}))
        fixed(offline)
        assert decode(path.read_bytes()) is not None
        offline.run("deny", PLUGIN_ID, "log")
        offline.run("grant", PLUGIN_ID, "log")
        offline.run("deny", PLUGIN_ID, "log")
    offline.run("doctor")
    lose(offline)
    fixed(offline)
    assert decided(offline)["log"] == "agent deny"


# -- nothing is changed meanwhile


VERBS = (
    ("hold", PLUGIN_ID),
    ("unhold", PLUGIN_ID),
    ("grant", PLUGIN_ID, "llm"),
    ("enable", PLUGIN_ID),
    ("remove", PLUGIN_ID),
    ("pull", PLUGIN_ID),
)
STOPS = (("disable", PLUGIN_ID), ("disable", "--all"), ("deny", PLUGIN_ID, "log"))


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_with_an_older_ledger_nothing_is_decided(
    offline: Machine, arguments: tuple[str, ...]
) -> None:
    """Each verb says that the ledger is an older copy; what the tree knows is not written over."""
    if arguments[0] == "unhold":
        offline.run("hold", PLUGIN_ID)
    if arguments[0] == "enable":
        offline.run("disable", PLUGIN_ID)
    kept = kept_of(offline)
    offline.run("deny", PLUGIN_ID, "network")
    put_back(offline, kept)
    memory = offline.plugins / ".store" / PLUGIN_ID / ".memory"
    before = memory.read_bytes()
    for _ in range(2):
        ran = offline.run(*arguments, expect=1)
        assert "an older copy was put back" in ran.err
        assert "agent doctor --fix" in ran.err
        assert memory.read_bytes() == before
    fixed(offline)
    assert decided(offline)["network"] == "agent deny"
    assert "llm" not in decided(offline)


@pytest.mark.parametrize("arguments", STOPS, ids=" ".join)
def test_with_an_older_ledger_stops_and_denials_hold(
    offline: Machine, arguments: tuple[str, ...]
) -> None:
    """They are said beside it, which is told (1); nothing that the tree knew is lost by that."""
    kept = kept_of(offline)
    offline.run("deny", PLUGIN_ID, "network")
    put_back(offline, kept)
    for _ in range(2):
        ran = offline.run(*arguments, expect=1)
        assert "an older copy was put back" in ran.err
        assert "all the same" in ran.err
        offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    fixed(offline)
    offline.run("call", PLUGIN_ID, "run", "Jane", expect=8)
    said = offline.json("audit", "show").document["lines"]
    assert said[-1]["by"] == "doctor"
    assert decided(offline)["network"] == "agent deny"


FORESEEING = (
    *((*arguments, "--dry-run") for arguments in (*VERBS, *STOPS)),
    ("update", "--dry-run"),
    ("update",),
    ("rollback", PLUGIN_ID, "--dry-run"),
    ("check",),
    ("check", PLUGIN_ID),
    ("prune", "--dry-run"),
    ("prune", PLUGIN_ID, "--format", "json"),
)


@pytest.mark.parametrize("arguments", FORESEEING, ids=" ".join)
def test_with_an_older_ledger_nothing_is_foreseen(
    offline: Machine, arguments: tuple[str, ...]
) -> None:
    """A dry run ends as the real one; our own copies are not taken for a drop-in."""
    kept = kept_of(offline)
    offline.run("rollback", PLUGIN_ID)
    put_back(offline, kept)
    offline.json("list")
    before = offline.snapshot()
    ran = offline.run(*arguments, expect=1)
    assert "an older copy was put back" in ran.err + ran.out
    assert "agent doctor --fix" in ran.err
    assert "put there as files" not in ran.out + ran.err
    assert offline.snapshot() == before


@pytest.mark.parametrize("is_known", [True, False])
def test_with_an_older_ledger_reading_verbs_say_so(
    offline: Machine, published: Publisher, *, is_known: bool
) -> None:
    """What hosts refuse is not told to be active, the system's copy neither."""
    shutil.copytree(signed(published, "0.1.0", OTHER), offline.home / "system")
    published.release("0.4.0", plugin_id=OTHER, stem="other")
    if is_known:
        offline.run("pull", OTHER)
    kept = kept_of(offline)
    if not is_known:
        offline.run("pull", OTHER)
    offline.run("disable", OTHER)
    put_back(offline, kept)
    offline.run("call", OTHER, "run", "Jane", expect=8)
    ran = offline.json("list")
    states = {row["id"]: row["state"] for row in ran.document["plugins"]}
    assert states == {PLUGIN_ID: "active"} | ({OTHER: "disabled"} if is_known else {})
    assert f"cannot change {OTHER}: the plugin tree knows more" in ran.err
    assert "agent doctor --fix" in ran.err
    for verb in ("info", "why", "history", "grants"):
        told = offline.run(verb, OTHER, expect=None)
        assert f"cannot change {OTHER}: the plugin tree knows more" in told.err
        assert told.code == (0 if is_known else 1)
    fixed(offline)
    assert "the plugin tree knows more" not in offline.json("list").err


@pytest.mark.parametrize("verb", ["disable", "remove"])
def test_with_an_older_ledger_no_verdict_is_kept(
    offline: Machine, published: Publisher, verb: str
) -> None:
    """What failed its trial is not rejected there: that would count as the tree's last change."""
    take_on_trial(offline, published)
    with opened(offline) as context:
        trial = context.ledger.trial(PLUGIN_ID)
        assert trial is not None
        context.ledger.add_samples([(PLUGIN_ID, trial.release, 1, Samples(9, 9))])
    kept = kept_of(offline)
    offline.run("deny", PLUGIN_ID, "log")
    put_back(offline, kept)
    for _ in range(2):
        assert "an older copy was put back" in offline.run(verb, PLUGIN_ID, expect=1).err
        with opened(offline) as context:
            assert context.ledger.rejections(PLUGIN_ID) == {}
    fixed(offline)
    assert decided(offline)["log"] == "agent deny"


def test_with_an_older_ledger_no_probe_is_held_against_a_release(
    offline: Machine, published: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree was found to know more after the release was probed: nothing is rejected."""

    def fail(_: Stage) -> None:
        edit(offline)
        raise UnhealthyError("its probe failed")

    monkeypatch.setattr(Stage, "seal_and_probe", fail)
    published.release("0.4.0")
    assert "an older copy was put back" in offline.run("pull", PLUGIN_ID, expect=1).err
    with opened(offline) as context:
        assert context.ledger.rejections(PLUGIN_ID) == {}


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_trial_that_an_older_ledger_does_not_know_is_over_without_a_verdict(
    offline: Machine, published: Publisher, *, is_whole: bool
) -> None:
    """The good release serves again, and the floor stays; unless that can't serve any more."""
    kept = kept_of(offline)
    take_on_trial(offline, published)
    offline.run("hold", PLUGIN_ID)
    put_back(offline, kept)
    if not is_whole:
        (good,) = home_of(offline).glob(f"0.2.0-*/{STEM}.wasm")
        good.chmod(0o644)
        good.write_bytes(b"")
    found = offline.json("doctor", "--fix", expect=None).document["findings"]
    assert [one["check"] for one in found if one["check"] == "memory" and one.get("mended")]
    row = offline.json("info", PLUGIN_ID).row
    expected = "0.2.0" if is_whole else "0.4.0"
    assert (row["version"], row["state"], row["floor"]) == (expected, "active", expected)
    assert row["rejected"] == []
    offline.run("unhold", PLUGIN_ID)
    assert offline.json("update").row["to"] == "0.4.0"


@both
def test_a_plugin_that_came_since_is_known(
    offline: Machine, published: Publisher, gone: Gone
) -> None:
    """Disabled as well: neither its floor nor its stop goes, and no pull takes it meanwhile."""
    kept = kept_of(offline)
    published.release("0.4.0", plugin_id=OTHER, stem="other")
    offline.run("pull", OTHER)
    offline.run("disable", OTHER)
    gone(offline, kept)
    memory = offline.plugins / ".store" / OTHER / ".memory"
    before = memory.read_bytes()
    offline.run("pull", OTHER, expect=1)
    assert memory.read_bytes() == before
    assert not memory.with_name("current").is_symlink()
    fixed(offline)
    rows: dict[str, dict[str, Any]] = {
        row["id"]: row for row in offline.json("list").document["plugins"]
    }
    assert rows[OTHER]["state"] == "disabled"
    assert offline.json("enable", OTHER).row["to"] == "0.4.0"
    assert offline.json("info", OTHER).row["floor"] == "0.4.0"


@pytest.mark.parametrize("verb", ["grant", "deny"])
def test_without_its_ledger_nothing_is_granted_or_denied(offline: Machine, verb: str) -> None:
    """It would be lost again with the ledger that the doctor has yet to make."""
    lose(offline)
    assert "is lost or was replaced" in offline.run(verb, PLUGIN_ID, "log", expect=1).err


def test_one_plugin_of_which_the_tree_knows_more_keeps_no_other(
    offline: Machine, published: Publisher
) -> None:
    """Nothing of that one is changed; the others get their rows, and their drop-ins are taken."""
    published.release("0.1.0", plugin_id=OTHER, stem="other")
    offline.run("pull", OTHER)
    published.release("0.4.0")
    kept = kept_of(offline)
    offline.run("pull", PLUGIN_ID)
    put_back(offline, kept)
    published.release("0.2.0", plugin_id=OTHER, stem="other")
    torn = (offline.plugins / "other.wasm").read_bytes()
    (offline.plugins / "other.wasm").write_bytes(b"torn")
    with PluginHost(home=offline.home) as host:
        host.load_plugin("other.wasm")
        assert str(host.call_plugin("run", ["Jane"], plugin=OTHER))
    ran = offline.json("update", expect=12)
    rows = {row["id"]: row for row in ran.document["plugins"]}
    assert rows[PLUGIN_ID]["outcome"] == "failed"
    assert (rows[OTHER]["outcome"], rows[OTHER]["to"]) == ("committed", "0.2.0")
    assert (offline.plugins / "other.wasm").read_bytes() != torn
    assert offline.json("update", OTHER).row["outcome"] == "current"
    unknown = offline.plugins / ".store" / OTHER / "0.0.9-0123456789ab"
    for named, code in (([OTHER], 0), ([], 12)):
        unknown.mkdir()
        ran = offline.json("prune", *named, expect=code)
        assert [row["name"] for row in ran.document["removed"]] == [unknown.name]
        assert ("an older copy was put back" in ran.err) == (code == 12)
    offline.run("prune", PLUGIN_ID, expect=1)
    fixed(offline)
    assert offline.version() == "0.4.0"


# -- what a run finds half done, or linked by hand


def test_a_removal_that_was_cut_short_is_told_as_one(offline: Machine) -> None:
    """The next update run finishes it: its row says removed (0), its dry run that it would be."""
    with opened(offline) as context, context.tree.lock(timeout_s=0):
        event = Event(1.0, PLUGIN_ID, "removed", None, None, "")
        context.ledger.stop(PLUGIN_ID, Stop.REMOVING, event)
    row = offline.json("update", "--dry-run").row
    assert (row["outcome"], row["step"]) == ("planned", "remove")
    row = offline.json("update").row
    assert (row["outcome"], row["step"], row["to"]) == ("committed", "remove", None)
    assert "removed, as agent remove had begun" in row["detail"]
    assert not list(home_of(offline).glob("0.*"))
    offline.run("update", PLUGIN_ID, expect=3)


def test_a_dry_run_foresees_that_a_link_that_is_gone_comes_back(offline: Machine) -> None:
    """It says which release would serve, as the run after it does."""
    (home_of(offline) / "current").unlink()
    row = offline.json("update", "--dry-run").row
    assert (row["outcome"], row["to"]) == ("planned", "0.2.0")
    assert "would serve again" in row["detail"]
    offline.run("update")
    assert offline.version() == "0.2.0"


@pytest.mark.parametrize("is_rejected", [True, False])
def test_a_release_that_is_linked_by_hand_is_not_told_to_be_active(
    offline: Machine, *, is_rejected: bool
) -> None:
    """The listing says what hosts serve instead."""
    if is_rejected:
        offline.run("rollback", PLUGIN_ID)
    linked, good = ("0.2.0", "0.1.0") if is_rejected else ("0.1.0", "0.2.0")
    link(offline, linked)
    row = offline.json("list").row
    assert (row["version"], row["state"]) == (linked, "broken")
    why = "rejected" if is_rejected else "neither good nor on trial"
    assert f"is {why}: hosts serve {good}-" in row["problem"]
    offline.run("update")
    assert offline.json("list").row["state"] == "active"
