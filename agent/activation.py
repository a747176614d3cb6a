"""Going live and going back: activate, commit, roll back, recover.

Each is a visibly ordered list of effects. Two rules carry crash safety: the intention is
durable before the flip, the rejection is durable before flipping back. So *whatever is live is
in the ledger at every instant* and *a rejected release never goes live again unasked*, and
``recover`` can finish or undo what a crash left. All are called under the tree's lock.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.generations import Tree
from agent.ledger import Ledger
from agent.model import Event, Generation, Samples, Trial
from agent.probation import Judgement, Verdict, judge
from agent.requirement import is_newer


@dataclass(frozen=True, slots=True)
class Activation:
    """The effects that change which release serves.

    Args:
        ledger: Where intentions and rejections are written first.
        tree: Where ``current`` moves.
        clock: Seconds since the epoch.
    """

    ledger: Ledger
    tree: Tree
    clock: Callable[[], float]

    def live(self, plugin_id: str) -> Generation | None:
        """The generation that serves; None where there is none, or the ledger lost it."""
        name = self.tree.current(plugin_id)
        for generation in self.ledger.generations(plugin_id):
            if generation.folder_name == name:
                return generation
        return None

    def in_use(self, plugin_id: str) -> frozenset[str]:
        """The releases that must stay whole: what serves, and what may be gone back to."""
        live, trial = self.live(plugin_id), self.ledger.trial(plugin_id)
        installed = self.ledger.installed(plugin_id)
        used = {live.release if live else None, installed.good if installed else None}
        if trial is not None:
            used |= {trial.release, trial.previous}
        return frozenset(release for release in used if release is not None)

    def activate(self, generation: Generation, *, probation_s: int, channel: str | None) -> Trial:
        """Make a sealed generation serve, on trial; a first install commits at once.

        Returns:
            The trial; over already where ``ends_at`` equals ``started_at``.
        """
        now = self.clock()
        previous = self._good(generation.plugin_id)
        length_s = probation_s if previous is not None else 0
        trial = Trial(
            generation.plugin_id,
            generation.release,
            previous.release if previous else None,
            started_at=now,
            ends_at=now + length_s,
        )
        self.ledger.intend(generation, trial, channel=channel)
        self.tree.flip(generation)
        self._project(generation)
        self._record(generation, "activated", f"on trial for {length_s} s" if length_s else "")
        if not length_s:
            self.commit(trial)
        return trial

    def commit(self, trial: Trial) -> None:
        """The trial ended well: the release is good and the floor rises to its version."""
        generation = self._generation(trial.plugin_id, trial.release)
        installed = self.ledger.installed(trial.plugin_id)
        floor = installed.floor if installed else None
        if floor is None or is_newer(generation.version, floor):
            floor = generation.version
        self.ledger.commit(generation, floor=floor, at=self.clock())
        self._record(generation, "committed", f"floor {floor}")

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
        self.ledger.turn_back(
            leaving, target=target.release if target else None, reason=reason, at=self.clock()
        )
        self._serve(leaving.plugin_id, target, leaving.stem)
        self._record(leaving, kind, reason)

    def judge(self, plugin_id: str) -> tuple[Trial, Judgement] | None:
        """Judge the open trial by the recorded samples, and act on the verdict.

        Returns:
            The trial and the judgement; None where no trial is open.
        """
        trial = self.ledger.trial(plugin_id)
        if trial is None:
            return None
        judgement = self.judgement(trial)
        if judgement.verdict is Verdict.HEALTHY:
            self.commit(trial)
        elif judgement.verdict is Verdict.UNHEALTHY:
            self.fail_trial(trial, reason=judgement.detail)
        return trial, judgement

    def fail_trial(self, trial: Trial, *, reason: str) -> None:
        """The trial ended badly: reject its release and go back to the one before."""
        leaving = self._generation(trial.plugin_id, trial.release)
        target = self._generation(trial.plugin_id, trial.previous) if trial.previous else None
        self.turn_back(leaving, target, kind="rolled back", reason=reason)

    def judgement(self, trial: Trial) -> Judgement:
        """What the samples say of a trial; no effect."""
        new = self.ledger.samples(trial.plugin_id, trial.release)
        old = Samples()
        if trial.previous is not None:
            old = self.ledger.samples(trial.plugin_id, trial.previous)
        return judge(trial, new, old, self.clock())

    def recover(self) -> None:
        """Finish or undo what a crash left half done; idempotent. A trial is not a crash."""
        for plugin_id in self.ledger.plugin_ids():
            self._recover(plugin_id)

    def _recover(self, plugin_id: str) -> None:
        installed = self.ledger.installed(plugin_id)
        if installed is None:
            return
        trial = self.ledger.trial(plugin_id)
        live = self.live(plugin_id)
        serving = live.release if live else None
        # Void: the flip never happened. The row goes last, so that what serves until then is
        # never without one.
        is_void = trial is not None and trial.release != serving
        if (trial is None or is_void) and serving != installed.good:
            good = self._good(plugin_id)
            self._serve(plugin_id, good, live.stem if live else None)
        elif installed.projection_due and live is not None:
            self._project(live)
        if is_void:
            self.ledger.abandon_trial(plugin_id)
        elif trial is not None and trial.previous is None:
            self.commit(trial)

    def _serve(self, plugin_id: str, target: Generation | None, stem: str | None) -> None:
        if target is not None:
            self.tree.flip(target)
            self._project(target)
            return
        # The copies go while `current` still names their stem: after a crash in between it
        # is all there again to be undone.
        if stem is not None:
            self.tree.unproject(stem)
        self.tree.unflip(plugin_id)
        self.ledger.projected(plugin_id, None)

    def _project(self, generation: Generation) -> None:
        self.tree.project(generation)
        self.ledger.projected(generation.plugin_id, generation.release)

    def _good(self, plugin_id: str) -> Generation | None:
        installed = self.ledger.installed(plugin_id)
        if installed is None or installed.good is None:
            return None
        return self.ledger.generation(plugin_id, installed.good)

    def _generation(self, plugin_id: str, release: str) -> Generation:
        generation = self.ledger.generation(plugin_id, release)
        if generation is None:
            message = f"the ledger lost generation {release[:12]} of {plugin_id}"
            raise LookupError(message)
        return generation

    def _record(self, generation: Generation, kind: str, detail: str) -> None:
        self.ledger.record(
            Event(
                self.clock(),
                generation.plugin_id,
                kind,
                generation.version,
                generation.release,
                detail,
            )
        )
