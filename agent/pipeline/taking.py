"""From a believed candidate to a release that serves, wherever it came from.

Rules, consent, payload, compile, veto, stage, probe, activate. Code is compiled, and the operator's
hook run, before the tree's lock is taken; under it the plan is checked again.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from agent.context import LOCK_TIMEOUT_S, Context
from agent.durations import format_duration
from agent.model import Asked, Generation, Kind, Outcome, PluginSet
from agent.pipeline.candidate import Candidate
from agent.pipeline.outcomes import outcome_of
from agent.pipeline.restraint import Restrains, nothing_restrains, restrained
from agent.pipeline.rules import refuse_by_rule, refuse_if_changed, ungranted, waiting_for_consent
from agent.pipeline.staging import Stage
from agent.pipeline.steps import Steps
from agent.pipeline.veto import ask_operator
from agent.tree.pruning import prune

Fetch = Callable[[Path], PluginSet]
"""Brings the files of a believed candidate into a folder."""


class Taking:
    """Takes one candidate at a time.

    Args:
        context: The installation.
        steps: Where it shows its place.
        lock_timeout_s: How long it waits for the tree; None = as long as a command does.
        restrains: Asked before anything goes live: a window may have closed since.
    """

    def __init__(
        self,
        context: Context,
        steps: Steps,
        *,
        lock_timeout_s: float | None = None,
        restrains: Restrains = nothing_restrains,
    ) -> None:
        self._context = context
        self._restrains = restrains
        self._steps = steps
        self._lock_timeout_s = LOCK_TIMEOUT_S if lock_timeout_s is None else lock_timeout_s

    def take(
        self,
        candidate: Candidate,
        asked: Asked,
        serving: Generation | None,
        fetch: Fetch,
        *,
        channel: str | None,
    ) -> Outcome:
        """Make a candidate serve, as far as rules and consent let it.

        Args:
            candidate: What is believed.
            asked: How it was asked for.
            serving: What serves now; the plan is made beside it.
            fetch: Brings the files.
            channel: The tag that is followed from now on.

        Raises:
            AgentError, registry.RegistryError, sandbox.SandboxError, OSError: It is refused,
                or could not be done.
        """
        self._steps.now = "plan"
        self._steps.version = candidate.manifest.version
        refuse_by_rule(self._context, candidate, asked)
        pending = waiting_for_consent(self._context, candidate, serving)
        if pending is not None:
            return pending
        if asked.dry_run:
            return outcome_of(candidate, Kind.PLANNED, "plan", "would be taken")
        with incoming(self._context) as folder:
            stage = self._stage(candidate, fetch(folder))
            outcome = self._install(stage, candidate, asked, serving, channel)
        if serving is None:
            outcome = replace(outcome, ungranted=ungranted(self._context, candidate.manifest.id))
        return outcome

    def _stage(self, candidate: Candidate, plugin: PluginSet) -> Stage:
        generation = candidate.generation(installed_at=self._context.clock())
        return Stage(self._context, generation, plugin, self._steps)

    def _install(
        self,
        stage: Stage,
        candidate: Candidate,
        asked: Asked,
        serving: Generation | None,
        channel: str | None,
    ) -> Outcome:
        """Compile and ask, then under the lock: check the plan again, seal, probe, go live."""
        context, plugin_id = self._context, candidate.manifest.id
        try:
            self._steps.now = "compile"
            stage.compile()
            if asked.activate:
                self._steps.now = "veto"
                ask_operator(context, candidate, serving)
            with context.tree.lock(timeout_s=self._lock_timeout_s):
                self._steps.now = "plan"
                context.activation.recover_one(plugin_id)
                live = context.activation.live(plugin_id)
                if live is not None and live.release == candidate.release:
                    return outcome_of(candidate, Kind.CURRENT, "plan", "another agent took it")
                refuse_by_rule(context, candidate, asked)
                refuse_if_changed(plugin_id, serving, live)
                bound = self._restrains()
                if bound is not None:
                    return restrained(outcome_of(candidate, Kind.PLANNED, "plan", ""), bound)
                stage.seal_and_probe()
                if not asked.activate:
                    return outcome_of(candidate, Kind.STAGED, "stage", "sealed, not activated")
                self._steps.now = "verify"
                stage.refuse_if_taken_back()
                trial = stage.activate(channel=channel)
                if trial.is_over_at_once:
                    # What can't be removed now is removed the next time.
                    with self._steps.stepping(plugin_id, "commit"), contextlib.suppress(OSError):
                        prune(context, plugin_id)
                    return outcome_of(candidate, Kind.COMMITTED, "commit", "serving")
        except Exception as error:
            stage.fail(error)
            raise
        left = format_duration(context.config.update.probation)
        return outcome_of(candidate, Kind.TRIAL, "activate", f"serving, on trial for {left}")


@contextlib.contextmanager
def incoming(context: Context) -> Iterator[Path]:
    """A folder for what arrives; gone at the end, inert if a crash leaves it."""
    base = context.places.cache / "incoming"
    context.files.make_folder(base, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=base) as folder:
        yield Path(folder)
