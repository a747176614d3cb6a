"""Anything that may happen to an installation, in any order; and what must hold all the while."""

import contextlib
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import registry
from agent.context import LOCK_TIMEOUT_S, Context, Options
from agent.doctor.examination import examine
from agent.errors import AgentError, LedgerError, NotFoundError
from agent.files import Files
from agent.host import PluginHost
from agent.ledger.memory import Held, Memory
from agent.model import Generation, Kind, Outcome, Stop
from agent.pipeline.dropins import DropIns
from agent.pipeline.requirement import parse_version
from agent.pipeline.settling import settle
from agent.pipeline.update import Pipeline
from agent.pipeline.wish import Wish
from agent.telemetry import Telemetry
from agent.tree.pruning import prune
from agent.tree.remembering import decisions_on, recall
from agent.verbs.deciding import decide, decision
from agent.verbs.disabling import disable, enable
from agent.verbs.holding import hold, unhold
from agent.verbs.inventory import is_whole
from agent.verbs.removal import remove
from agent.verbs.rollback import roll_back
from registry import BuiltArtifact
from sandbox.errors import CallError
from support.agent import NOW, Crash, DyingFiles, DyingLedger, Fuse
from support.system import PLUGIN_ID, STEM, Machine, Publisher, opened, push_by_hand

_CODE = """(module
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "health") (result i32) (i32.const {health}))
  (func (export "run") (param i32 i32) (result i64) {run}))"""
CODES = {
    "good": _CODE.format(health=0, run="(i64.const 0)"),
    "unhealthy": _CODE.format(health=1, run="(i64.const 0)"),
    "trapping": _CODE.format(health=0, run="(unreachable)"),
}
KEYS = ("lasting", "fleeting")
PASSING = ("clock", "drop-ins")
"""What the doctor may find that is no fault of the tree's."""
DEATHS = st.one_of(st.none(), st.none(), st.integers(0, 15), st.integers(0, 60))
"""How many effects a process lives to see; None = all of them."""
_PROBATION_S = 600
"""As the machine's config says."""
_REASONED = (Kind.REFUSED, Kind.FAILED, Kind.PENDING, Kind.ROLLED_BACK)


def is_lower(version: str, than: str) -> bool:
    """Whether a version is lower than another; said here once more, beside the rules."""
    return parse_version(version) < parse_version(than)


def _ends(held: Held) -> float:
    return math.inf if held.until is None else held.until


def _files_of(artifact: BuiltArtifact) -> dict[str, bytes]:
    """The flat files of an artifact."""
    found = {}
    for layer in artifact.layers:
        source = artifact.sources[layer.digest]
        name = layer.annotations["org.opencontainers.image.title"]
        found[name.rpartition(".")[2]] = (
            source if isinstance(source, bytes) else source.read_bytes()
        )
    return found


class Template:
    """A home that believes two publishers; copied for each story.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Machine(folder / "home", f"oci:{folder / 'unused'}")
        self.publishers = {name: Publisher(self.machine, folder / name, name=name) for name in KEYS}
        for publisher in self.publishers.values():
            publisher.trusted_by(self.machine)
        self.forger = Publisher(self.machine, folder / "forger", name="forger")


class Installation(RuleBasedStateMachine):
    """One plugin's life; a subclass sets ``template``."""

    template: Template

    @initialize()
    def begin(self) -> None:
        """Copy the template; publish and install a first release."""
        self.folder = Path(tempfile.mkdtemp(dir=self.template.folder))
        self.home = self.folder / "home"
        shutil.copytree(self.template.machine.home, self.home)
        self.offers = f"oci:{self.folder / 'offers'}/{PLUGIN_ID}"
        self.machine = Machine(self.home, f"oci:{self.folder / 'offers'}")
        self.now = NOW
        self.minor = 0
        self.published: dict[str, str] = {}
        self.sets: dict[str, dict[str, bytes]] = {}
        self.put: dict[str, bytes] = {}
        self.seen_live: set[str] = set()
        self.asked_for: set[str] = set()
        self.last: Generation | None = None
        self.left: set[str] = set()
        self.floor: str | None = None
        self.is_revoked = False
        self.may_serve = True
        self.before_revocation: set[str] = set()
        self.folders: dict[str, Path] = {}
        self.is_held: bool | None = False
        self.decided: dict[str, bool] = {}
        self.backup: Path | None = None
        self.publish("good", "lasting")
        self.update(named=False, dies=None)

    def teardown(self) -> None:
        """Whatever happened, a good new release is taken, and serves."""
        if not hasattr(self, "folder"):
            return
        try:
            self._bring_back()
            self.publish("good", "lasting")
            outcome = self._update(named=True, dies=None)
            assert outcome is not None
            assert outcome.kind in (Kind.TRIAL, Kind.COMMITTED), outcome
            assert outcome.after == f"0.{self.minor}.0"
            self.what_serves_may()
        finally:
            Files().remove_tree(self.folder)

    def _bring_back(self) -> None:
        """A disabled plugin is enabled; drop-ins and what can't serve any more make room."""
        for part in self.put:
            (self.home / "plugins" / f"{STEM}.{part}").unlink(missing_ok=True)

        def act(context: Context) -> Outcome | None:
            settle(context, Telemetry(""), PLUGIN_ID)
            context.ledger.unhold(PLUGIN_ID)
            with contextlib.suppress(NotFoundError):
                outcome = enable(context, Telemetry(""), PLUGIN_ID, dry_run=False)
                if outcome.error is not None:
                    return remove(context, Telemetry(""), PLUGIN_ID, dry_run=False)
            return None

        self._act(act, None)
        with self._looking() as context:
            if not context.ledger.generations(PLUGIN_ID):
                # Files that nobody installed hold the stem, and are moved by hand.
                for flat in context.tree.root.glob(f"{STEM}.*"):
                    flat.unlink()
        self.may_serve = True
        self.last = None
        self.is_held = False

    # -- what publishers do

    @rule(
        kind=st.sampled_from(["good", "good", "unhealthy", "trapping", "forged", "lower", "pre"]),
        key=st.sampled_from(KEYS),
    )
    def publish(self, kind: str, key: str) -> None:
        """Offer a release: higher than all before, but for ``lower``."""
        version, artifact = self._make(kind, key)
        push_by_hand(opened(self.offers, self.folder), artifact, tag=version)

    def _make(self, kind: str, key: str) -> tuple[str, BuiltArtifact]:
        self.minor += 1
        version = {"lower": f"0.0.{self.minor}", "pre": f"0.{self.minor}.0-rc.1"}.get(
            kind, f"0.{self.minor}.0"
        )
        publisher = self.template.publishers[key]
        folder = publisher.plugin(version, code=CODES.get(kind, CODES["good"]))
        signer = self.template.forger if kind == "forged" else publisher
        self.published[version], self.folders[version] = kind, folder
        artifact = signer.artifact(folder)
        self.sets[version] = _files_of(artifact)
        return version, artifact

    @rule(
        kind=st.sampled_from(["good", "good", "unhealthy", "trapping", "forged", "lower", "pre"]),
        key=st.sampled_from(KEYS),
        parts=st.sampled_from(["wasm sig toml", "wasm sig toml", "sig toml", "wasm"]),
    )
    def drop_in(self, kind: str, key: str, parts: str) -> None:
        """Somebody copies a new set into the plugin folder, or a part of it."""
        version, _ = self._make(kind, key)
        self._put(version, parts)

    @rule(data=st.data(), key=st.sampled_from(KEYS), by_hand=st.booleans())
    def sign_anew(self, data: st.DataObject, key: str, *, by_hand: bool) -> None:
        """A key is rotated: the same release with another signature, published or put there."""
        good = sorted(version for version, kind in self.published.items() if kind == "good")
        version = data.draw(st.sampled_from(good))
        artifact = self.template.publishers[key].artifact(self.folders[version])
        self.sets[version] = _files_of(artifact)
        if by_hand:
            self._put(version, "sig")
        else:
            push_by_hand(opened(self.offers, self.folder), artifact, tag=version)

    @rule(data=st.data())
    def drop_in_again(self, data: st.DataObject) -> None:
        """Somebody copies a set that there was before, wherever it came from."""
        self._put(data.draw(st.sampled_from(sorted(self.sets))), "wasm sig toml")

    def _put(self, version: str, parts: str) -> None:
        for part in parts.split():
            self.put[part] = self.sets[version][part]
            (self.home / "plugins" / f"{STEM}.{part}").write_bytes(self.put[part])
        if parse_version(version).prerelease:
            self.asked_for.add(version)

    @precondition(lambda self: not self.is_revoked)
    @rule()
    def revoke(self) -> None:
        """One of the two keys is believed no more."""
        key_id = self.template.publishers["fleeting"].key_id
        self.machine.run("trust", "revoke", key_id, "--reason", "lost")
        self.is_revoked = True
        self.before_revocation = set(self.seen_live)

    # -- what operators do

    @rule(named=st.booleans(), dies=DEATHS)
    def update(self, *, named: bool, dies: int | None) -> None:
        """An update run; installs where nothing serves."""
        self._update(named=named, dies=dies)

    def _update(self, *, named: bool, dies: int | None) -> Outcome | None:
        def act(context: Context) -> Outcome:
            pipeline = Pipeline(context, Telemetry(""))
            if context.activation.live(PLUGIN_ID) is None:
                serving.clear()
                reference = registry.parse_reference(PLUGIN_ID, context.bases())
                return pipeline.pull(Wish(reference))
            return pipeline.update(PLUGIN_ID, named=named)

        with self._looking() as context:
            serving = {g.release for g in context.ledger.generations(PLUGIN_ID)}
        outcome = self._act(act, dies)
        if self.is_held and serving:
            with self._looking() as context:
                live = context.activation.live(PLUGIN_ID)
                assert live is None or live.release in serving, "held, and yet updated"
        return outcome

    @rule(data=st.data(), dies=DEATHS)
    def pull_named(self, data: st.DataObject, dies: int | None) -> None:
        """Ask for a version, whatever it is and whatever was said of it."""
        version = data.draw(st.sampled_from(sorted(self.published)))
        self.asked_for.add(version)
        self.left.discard(version)

        def act(context: Context) -> Outcome:
            reference = registry.parse_reference(f"{PLUGIN_ID}:{version}", context.bases())
            return Pipeline(context, Telemetry("")).pull(Wish(reference, named=True))

        self._act(act, dies)
        self.last = None  # who names a lower one has said nothing against the one that served

    @rule(dies=DEATHS)
    def look(self, dies: int | None) -> None:
        """A verb that changes something looks for drop-ins first."""

        def act(context: Context) -> Outcome | None:
            outcomes = DropIns(context, Telemetry("")).adopt()
            return outcomes[0] if outcomes else None

        self._act(act, dies)
        self.last = None  # as by name

    @rule(dies=DEATHS)
    def roll_back(self, dies: int | None) -> None:
        """Go back to what was good."""

        def act(context: Context) -> Outcome | None:
            with contextlib.suppress(AgentError):
                return roll_back(context, Telemetry(""), PLUGIN_ID, to_version=None, dry_run=False)
            return None

        self._act(act, dies)

    @rule(dies=DEATHS)
    def disable(self, dies: int | None) -> None:
        """Take it out of service: whatever was open ends, and nothing serves from then on."""

        def act(context: Context) -> Outcome | None:
            with contextlib.suppress(AgentError):
                return disable(context, Telemetry(""), PLUGIN_ID, dry_run=False)
            return None

        outcome = self._act(act, dies)
        if self._is_stopped():
            self.last = None  # a trial that ends without a verdict was left by nobody's judgement
        self.may_serve = self.may_serve and outcome is None

    @rule(dies=DEATHS)
    def enable(self, dies: int | None) -> None:
        """Let it serve again, if it may."""

        def act(context: Context) -> Outcome | None:
            with contextlib.suppress(AgentError):
                return enable(context, Telemetry(""), PLUGIN_ID, dry_run=False)
            return None

        before, self.may_serve = self.may_serve, True
        outcome = self._act(act, dies)
        if outcome is not None and outcome.error is not None:
            self.may_serve = before  # it stays disabled

    @rule(dies=DEATHS)
    def remove(self, dies: int | None) -> None:
        """It goes; what it left behind binds whoever takes it again."""

        def act(context: Context) -> Outcome | None:
            with contextlib.suppress(AgentError):
                return remove(context, Telemetry(""), PLUGIN_ID, dry_run=False)
            return None

        self.may_serve = True
        if self._act(act, dies) is not None:
            with self._looking() as context:
                assert context.ledger.generations(PLUGIN_ID) == ()
                assert context.tree.current(PLUGIN_ID) is None
        if self._is_stopped():
            self.last = None
        self._look_what_was_decided()

    @rule(for_s=st.sampled_from([None, None, 10**9]), dies=DEATHS)
    def hold(self, for_s: int | None, dies: int | None) -> None:
        """Update runs leave it where it is."""
        self._hold(lambda context: hold(context, PLUGIN_ID, for_s=for_s, dry_run=False), dies)

    @rule(dies=DEATHS)
    def unhold(self, dies: int | None) -> None:
        """Update runs may change it again."""
        self._hold(lambda context: unhold(context, PLUGIN_ID, dry_run=False), dies)

    def _hold(self, verb: Callable[[Context], Outcome], dies: int | None) -> None:
        def act(context: Context) -> None:
            with contextlib.suppress(AgentError):
                verb(context)

        self._act(act, dies)
        self._look_what_was_decided()

    @rule(word=st.sampled_from(["log", "llm"]), yes=st.booleans(), dies=DEATHS)
    def decide(self, word: str, dies: int | None, *, yes: bool) -> None:
        """Grant or deny."""

        def act(context: Context) -> None:
            decide(context, PLUGIN_ID, decision(context, word, yes=yes))

        self._act(act, dies)
        self._look_what_was_decided()

    def _look_what_was_decided(self) -> None:
        """The word of the operator's that counts from now on; a run may have died before it."""
        with self._looking() as context:
            installed = context.ledger.installed(PLUGIN_ID)
            is_going = installed is not None and installed.stop is Stop.REMOVING
            # A removal that was cut short takes the hold with it when somebody finishes it.
            self.is_held = None if is_going else context.ledger.hold_of(PLUGIN_ID) is not None
            self.decided = context.ledger.decisions(PLUGIN_ID)

    def _is_stopped(self) -> bool:
        with self._looking() as context:
            installed = context.ledger.installed(PLUGIN_ID)
            return installed is None or installed.stop is not None or installed.good is None

    @rule(dies=DEATHS)
    def prune(self, dies: int | None) -> None:
        """Rejected and old releases go; what was said of them stays."""

        def act(context: Context) -> None:
            with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
                context.activation.recover()
                prune(context, PLUGIN_ID)

        self._act(act, dies)

    @rule(times=st.integers(1, 5), dies=DEATHS)
    def call(self, times: int, dies: int | None) -> None:
        """Callers call; what fails is recorded, and judged at once."""

        def act(context: Context) -> None:
            with contextlib.suppress(AgentError), PluginHost(context=context) as host:
                host.load_installed(PLUGIN_ID)
                for _ in range(times):
                    with contextlib.suppress(CallError):
                        host.call("run", ["Jane"], plugin=PLUGIN_ID)

        self._act(act, dies)

    # -- what nobody does

    @precondition(lambda self: not self.is_revoked)
    @rule()
    def lose_the_ledger(self) -> None:
        """The ledger's file is gone, and the doctor makes a new one; floor and rejections stay."""
        with self._looking() as context:
            known = context.ledger.memory(PLUGIN_ID)
            if known is None or recall(context.tree, PLUGIN_ID) != known:
                return  # a run died right then: two faults at once, and that may be lost
        self._replace_the_ledger(None)
        self._mend(known)

    @rule()
    def back_up(self) -> None:
        """Keep a copy of the ledger."""
        self.backup = self.folder / "backup"
        with (
            contextlib.closing(sqlite3.connect(self.home / "state" / "state.db")) as source,
            contextlib.closing(sqlite3.connect(self.backup)) as target,
        ):
            source.backup(target)

    @precondition(lambda self: self.backup is not None and not self.is_revoked)
    @rule()
    def put_an_older_ledger_back(self) -> None:
        """A backup takes the ledger's place; nothing is changed until the doctor has been."""
        with self._looking() as context:
            known = context.ledger.memory(PLUGIN_ID)
            if known is None or recall(context.tree, PLUGIN_ID) != known:
                return  # as above
        self._replace_the_ledger(self.backup)
        with self._looking() as context:
            current, older = context.tree.current(PLUGIN_ID), context.ledger.memory(PLUGIN_ID)
            if context.ledger.is_behind(PLUGIN_ID, known):
                with pytest.raises(LedgerError):
                    settle(context, Telemetry(""), PLUGIN_ID)
            assert context.tree.current(PLUGIN_ID) == current
        self._mend(known, older)

    def _replace_the_ledger(self, copy: Path | None) -> None:
        for file in (self.home / "state").glob("state.db*"):
            file.unlink()
        if copy is not None:
            shutil.copy(copy, self.home / "state" / "state.db")

    def _mend(self, known: Memory, older: Memory | None = None) -> None:
        """The doctor mends; what the tree knew is known, and what was decided counts.

        So does what an older ledger knows: what was let go or taken again since is held or
        rejected once more.
        """
        accounts = [known] if older is None else [known, older]
        with self._looking() as context:
            findings = list(examine(context, fix=True))
            assert [f.detail for f in findings if not f.ok and f.check not in PASSING] == []
            assert context.stranger() is None
            after = context.ledger.memory(PLUGIN_ID)
            assert after is not None
            rejected = {r.release for one in accounts for r in one.rejected}
            assert {r.release for r in after.rejected} == rejected
            assert known.floor is None or (after.floor and not is_lower(after.floor, known.floor))
            if known.stop is Stop.DISABLED:
                assert (after.stop, after.good) == (known.stop, known.good)
            if known.stop is not Stop.REMOVING:
                holds = [one.hold for one in accounts if one.hold is not None]
                assert after.hold == max(holds, key=_ends, default=None)
                self.is_held = after.hold is not None
        if known.stop is Stop.REMOVING:
            self._look_what_was_decided()
        self.last = None  # a trial that only the newer ledger knew was left by nobody's judgement

    @rule(data=st.data())
    def break_bytes(self, data: st.DataObject) -> None:
        """The disk spoils a sealed release, and the doctor looks: it serves no more."""
        with self._looking() as context:
            live, used = context.activation.live(PLUGIN_ID), context.activation.in_use(PLUGIN_ID)
            kept = [
                g
                for g in context.ledger.generations(PLUGIN_ID)
                if g == live or g.release not in used
            ]
            kept = [g for g in kept if (context.tree.folder(g) / f"{STEM}.wasm").exists()]
            if not kept:
                return
            broken = data.draw(st.sampled_from(kept))
            code = context.tree.folder(broken) / f"{STEM}.wasm"
            code.chmod(0o600)
            code.write_bytes(code.read_bytes() + b"spoilt")
            list(examine(context, fix=True))
            after = context.activation.live(PLUGIN_ID)
            assert after is None or after.release != broken.release or is_whole(context, after)
        self.last = None

    @rule(by_s=st.sampled_from([-86_400.0, -700.0, 30.0, 601.0, 86_400.0]))
    def jump(self, by_s: float) -> None:
        """The clock moves, either way."""
        self.now += by_s

    @rule(ahead_s=st.sampled_from([0.0, 86_400.0]))
    def set_the_clock_right(self, ahead_s: float) -> None:
        """A release was taken while the clock was ahead, perhaps; from now on it is right.

        A trial ends within its probation of the next look.
        """
        self.publish("good", "lasting")
        self.now += ahead_s
        self._update(named=False, dies=None)
        self.now -= ahead_s
        self._update(named=False, dies=None)
        before = self._trial_release()
        self.now += _PROBATION_S
        self._update(named=False, dies=None)
        assert before is None or self._trial_release() != before

    def _trial_release(self) -> str | None:
        with self._looking() as context:
            trial = context.ledger.trial(PLUGIN_ID)
            return trial.release if trial else None

    # -- what holds

    @invariant()
    def what_serves_may(self) -> None:
        """What is live is in the ledger, was not rejected, and no trial is below the floor."""
        if not hasattr(self, "folder"):
            return
        with self._looking() as context:
            ledger, live = context.ledger, context.activation.live(PLUGIN_ID)
            installed, trial = ledger.installed(PLUGIN_ID), ledger.trial(PLUGIN_ID)
            is_settled = not context.activation.is_unfinished(PLUGIN_ID)
            self._check_decisions(context)
            assert live is not None or context.tree.current(PLUGIN_ID) is None
            assert live is None or self.may_serve
            if live is not None:
                self.seen_live.add(live.release)
                self._check_origin(live)
                self._check_way(live)
                if is_settled:
                    assert live.release not in ledger.rejections(PLUGIN_ID)
                    self._check_copies(context, live)
            if installed is None:
                return
            if installed.stop is not None and is_settled:
                assert live is None
                assert trial is None
                for flat in context.tree.root.glob(f"{STEM}.*"):
                    assert flat.read_bytes() == self.put.get(flat.suffix[1:]), "ours, and left"
            assert installed.good is None or installed.good in self.seen_live
            if installed.floor is not None:
                assert self.floor is None or not is_lower(installed.floor, self.floor)
                self.floor = installed.floor
            if trial is not None:
                new = ledger.generation(PLUGIN_ID, trial.release)
                assert new is not None
                assert installed.floor is None or not is_lower(new.version, installed.floor)
            elif live is not None and is_settled:
                assert installed.good == live.release
                assert live.committed_at is not None

    def _check_decisions(self, context: Context) -> None:
        """What was denied is denied, what is granted was granted, and a hold holds."""
        decisions = decisions_on(context.ledger, context.tree, PLUGIN_ID)
        assert all(decisions.get(word) is False for word, yes in self.decided.items() if not yes)
        assert all(self.decided.get(word) for word, yes in decisions.items() if yes)
        is_held = context.ledger.hold_of(PLUGIN_ID) is not None
        assert self.is_held in (None, is_held)

    def _check_origin(self, live: Generation) -> None:
        assert self.published[live.version] not in ("forged", "unhealthy")
        if parse_version(live.version).prerelease:
            assert live.version in self.asked_for
        if self.is_revoked and live.key_id == self.template.publishers["fleeting"].key_id:
            assert live.release in self.before_revocation

    def _check_way(self, live: Generation) -> None:
        """What was left for a lower one never serves again unasked: remembered here, too."""
        before, self.last = self.last, live
        if before is not None and is_lower(live.version, before.version):
            self.left.add(before.version)
        assert live.version not in self.left or live.version in self.asked_for

    def _check_copies(self, context: Context, live: Generation) -> None:
        """They are copies of what serves, or what somebody put there in their place."""
        for part in ("wasm", "sig", "toml"):
            flat = context.tree.root / f"{STEM}.{part}"
            sealed = (context.tree.folder(live) / flat.name).read_bytes()
            assert flat.read_bytes() in (sealed, self.put.get(part))

    # -- how

    def _act(self, act: Callable[[Context], Outcome | None], dies: int | None) -> Outcome | None:
        """Let a process act, and die if it must; afterwards say that it had a reason."""
        fuse = Fuse(dies)
        ledger = DyingLedger(self.home / "state" / "state.db", fuse)
        with self._looking(DyingFiles(fuse)) as context:
            context._ledger = ledger
            try:
                outcome = act(context)
            except Crash:
                return None
        if outcome is not None:
            self._check_reason(outcome)
        return outcome

    def _check_reason(self, outcome: Outcome) -> None:
        with self._looking() as context:
            # Files that say of no plugin whose they are go by their stem.
            decision = context.ledger.decision(outcome.plugin_id)
        assert decision is not None
        assert (decision.outcome, decision.at) == (outcome.kind.value, self.now)
        assert decision.detail
        assert decision.reason or outcome.kind not in _REASONED or outcome.error is None

    def _looking(self, files: Files | None = None) -> contextlib.closing[Context]:
        options, now = Options(home=self.home), self.now
        context = Context(options, environ={}, files=files or Files(), clock=lambda: now)
        return contextlib.closing(context)
