"""Going live and going back: activate, commit, roll back, recover.

Each is a visibly ordered list of effects. Two rules carry crash safety: the intention is
durable before the flip, the rejection is durable before flipping back. So *whatever is live is
in the ledger at every instant* and *a rejected release never goes live again unasked*, and
``recover`` can finish or undo what a crash left. All are called under the tree's lock.
"""

from agent.model import Generation, Samples, Trial
from agent.pipeline.probation import Judgement, Verdict, judge
from agent.pipeline.requirement import is_newer
from agent.tree.effects import Standing
from agent.tree.remembering import remember
from agent.tree.retirement import Retirement


class Activation(Retirement):
    """The effects that change which release serves; see ``Effects``."""

    __slots__ = ()

    def activate(self, generation: Generation, *, probation_s: int, channel: str | None) -> Trial:
        """Make a sealed generation serve, on trial; a first install commits at once.

        Returns:
            The trial; over already where ``ends_at`` equals ``started_at``.

        Raises:
            OSError, sqlite3.Error: The disk, the ledger or the audit log failed: before the
                flip nothing has changed, after it ``recover`` finishes.
        """
        now = self.clock()
        previous = self.good(generation.plugin_id)
        length_s = probation_s if previous is not None else 0
        trial = Trial(
            generation.plugin_id,
            generation.release,
            previous.release if previous else None,
            started_at=now,
            ends_at=now + length_s,
        )
        over = f"over {previous.version}" if previous else "as the first"
        self._tell("activating", generation, over, required=True)
        self.ledger.intend(generation, trial, channel=channel)
        self.tree.flip(generation)
        self._absolve(generation)
        detail = f"on trial for {length_s} s" if length_s else ""
        self._record(generation, "activated", detail, beside=previous)
        if length_s:
            self._tell("trial", generation, f"{over}, for {length_s} s")
        self._project(generation)
        if not length_s:
            self.commit(trial)
        remember(self.ledger, self.tree, generation.plugin_id)
        return trial

    def commit(self, trial: Trial) -> None:
        """The trial ended well: the release is good and the floor rises to its version."""
        generation = self._generation(trial.plugin_id, trial.release)
        installed = self.ledger.installed(trial.plugin_id)
        floor = installed.floor if installed else None
        if floor is None or is_newer(generation.version, floor):
            floor = generation.version
        self._tell("committed", generation, f"floor {floor}")
        self.ledger.commit(generation, floor=floor, at=self.clock())
        remember(self.ledger, self.tree, trial.plugin_id)

    def turn_back(
        self, leaving: Generation, target: Generation | None, *, kind: str, reason: str
    ) -> None:
        """Reject what serves and make ``target`` serve; None: nothing serves any more.

        Args:
            leaving: The generation that serves now.
            target: The generation to go back to.
            kind: The history's word: "rolled back" (unasked) or "rollback" (asked for).
            reason: Why, for people.
        """
        back = f"{target.version} serves" if target else "nothing serves"
        asked = kind == "rollback"
        self._tell("rolled_back", leaving, f"{reason}; {back}", required=asked)
        to = target.release if target else None
        self.ledger.turn_back(leaving, target=to, reason=reason, at=self.clock(), kind=kind)
        # In both places before the flip back: a ledger that is lost right then brings no
        # rejected release back.
        remember(self.ledger, self.tree, leaving.plugin_id)
        self._serve(leaving.plugin_id, target, leaving.stem)

    def judge(self, plugin_id: str) -> tuple[Trial, Judgement] | None:
        """Judge the open trial by the recorded samples, and act on the verdict.

        What a crash left is finished first: a release that never went live is not judged. One
        that began while the clock was ahead begins anew: it would not end in time.

        Returns:
            The trial and the judgement; None where no trial is open.
        """
        self.recover_one(plugin_id)
        trial = self._timed_right(plugin_id)
        if trial is None:
            return None
        judgement = self.verdict(trial)
        if judgement.verdict is Verdict.HEALTHY:
            self.commit(trial)
        elif judgement.verdict is Verdict.UNHEALTHY:
            self.fail_trial(trial, reason=judgement.detail)
        return trial, judgement

    def _timed_right(self, plugin_id: str) -> Trial | None:
        """The open trial; durably begun now where it began in what is the future by now."""
        trial, now = self.ledger.trial(plugin_id), self.clock()
        if trial is None or now >= trial.started_at:
            return trial
        self.ledger.begin_trial_anew(trial, at=now)
        return self.ledger.trial(plugin_id)

    def fail_trial(self, trial: Trial, *, reason: str) -> None:
        """The trial ended badly: reject its release and go back to a good one.

        That is the release before, unless it could not serve any more; then the latest other
        that was committed. Where there is none, nothing serves: neither what failed nor what
        is no longer believed.
        """
        leaving = self._generation(trial.plugin_id, trial.release)
        problems = []
        for target in self._ways_back(leaving, trial.previous):
            problem = self.problem(target)
            if problem is None:
                self.turn_back(leaving, target, kind="rolled back", reason=reason)
                return
            problems.append(f"{target.version}: {problem}")
        why = "; ".join((reason, *problems))
        self.turn_back(leaving, None, kind="rollback failed", reason=why)

    def leave(self, leaving: Generation, *, reason: str) -> Generation | None:
        """Go back, unasked, from what serves to a good release; reject what is left.

        Returns:
            What serves now; None where nothing could: then all stays as it is.
        """
        trial = self.ledger.trial(leaving.plugin_id)
        for target in self._ways_back(leaving, trial.previous if trial else None):
            if self.problem(target) is None:
                self.turn_back(leaving, target, kind="rolled back", reason=reason)
                return target
        return None

    def _ways_back(self, leaving: Generation, previous: str | None) -> list[Generation]:
        """The releases to go back to, the one before first."""
        rejected = self.ledger.rejections(leaving.plugin_id)
        good = [
            g
            for g in self.ledger.generations(leaving.plugin_id)
            if g.committed_at is not None and g.release not in {leaving.release, *rejected}
        ]
        return sorted(good, key=lambda g: (g.release == previous, g.committed_at), reverse=True)

    def judgement(self, trial: Trial) -> Judgement:
        """What the samples say of a trial; no effect, and no trust store is needed."""
        new = self.ledger.samples(trial.plugin_id, trial.release)
        old = Samples()
        if trial.previous is not None:
            old = self.ledger.samples(trial.plugin_id, trial.previous)
        return judge(trial, new, old, self.clock())

    def verdict(self, trial: Trial) -> Judgement:
        """What ``judge`` acts on: a release that could not serve any more is never committed.

        Where nothing else could serve either, as when the trust store is gone for a moment, the
        trial stays open: going back to nothing would outlast that.
        """
        judgement = self.judgement(trial)
        if judgement.verdict is not Verdict.HEALTHY:
            return judgement
        leaving = self._generation(trial.plugin_id, trial.release)
        problem = self.problem(leaving)
        if problem is None:
            return judgement
        why = f"it could not serve any more: {problem}"
        if any(self.problem(target) is None for target in self._ways_back(leaving, trial.previous)):
            return Judgement(Verdict.UNHEALTHY, why)
        return Judgement(Verdict.TOO_EARLY, f"{why}; nor could a release before it")

    def is_unfinished(self, plugin_id: str) -> bool:
        """Whether a crash, or an agent at work just now, left something for ``recover``."""
        return self.is_torn(self.standing(plugin_id))

    def is_torn(self, seen: Standing) -> bool:
        """``is_unfinished`` of a plugin that was looked at already."""
        installed, trial, live = seen.installed, seen.trial, seen.live
        if installed is None:
            return False
        if installed.stop is not None:
            return self._is_half_stopped(installed)
        should = trial.release if trial is not None else installed.good
        if trial is not None and (_is_uncommitted_first(trial) or self._is_rejected(trial)):
            return True
        return installed.projection_due or (live and live.release) != should

    def recover(self) -> None:
        """Finish or undo what a crash left half done; idempotent. A trial is not a crash."""
        for plugin_id in self.ledger.plugin_ids():
            self.recover_one(plugin_id)

    def recover_one(self, plugin_id: str) -> None:
        """Finish or undo what a crash left half done for one plugin; see ``recover``."""
        installed = self.ledger.installed(plugin_id)
        if installed is None:
            return
        # First, as in turning back: what was rejected may serve still.
        remember(self.ledger, self.tree, plugin_id)
        if installed.stop is not None:
            self._finish_stop(plugin_id)
            return
        trial = self.ledger.trial(plugin_id)
        live = self.live(plugin_id)
        serving = live.release if live else None
        # Void: the flip never happened. The row goes last, so that what serves until then is
        # never without one.
        is_void = trial is not None and trial.release != serving
        if (trial is None or is_void) and serving != installed.good:
            good = self.good(plugin_id)
            self.ledger.project_again(plugin_id)
            self._serve(plugin_id, good, live.stem if live else None)
        elif live is not None and self.ledger.is_due(plugin_id, is_void=is_void):
            self._project(live)
        if is_void:
            self._tell_void(trial)
            self.ledger.abandon_trial(plugin_id)
        elif trial is not None:
            self._absolve(self._generation(plugin_id, trial.release))
            if _is_uncommitted_first(trial):
                self.commit(trial)

    def _absolve(self, generation: Generation) -> None:
        """A rejected release was named, and serves again: in both places."""
        if generation.release in self.ledger.rejections(generation.plugin_id):
            self.ledger.absolve(generation)
            remember(self.ledger, self.tree, generation.plugin_id)

    def _is_rejected(self, trial: Trial) -> bool:
        """Whether its release was taken again by name, and a run died right after its flip."""
        return trial.release in self.ledger.rejections(trial.plugin_id)

    def _tell_void(self, trial: Trial | None) -> None:
        void = trial and self.ledger.generation(trial.plugin_id, trial.release)
        if void:
            self._tell("abandoned", void, "a run ended before it went live")


def _is_uncommitted_first(trial: Trial) -> bool:
    """Whether a first install died between its flip and its commit, which come at once."""
    return trial.previous is None and trial.is_over_at_once
