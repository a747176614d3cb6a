"""The update pipeline over registries, top to bottom.

Check, plan, fetch head, verify here; consent, fetch payload, compile, stage, probe, activate in
``agent.pipeline.taking``. The network comes before the tree's lock. Every run leaves, per plugin,
the criterion that decided (``agent why``).
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import registry
from agent.context import Context
from agent.errors import NotFoundError
from agent.model import Generation, Installed, Kind, Outcome, PluginSet, Trial
from agent.pipeline.admission import is_bare, is_signed_well
from agent.pipeline.ahead import Ahead
from agent.pipeline.candidate import Offered
from agent.pipeline.earlier import Earlier
from agent.pipeline.fetching import fetch_payload, write_out
from agent.pipeline.outcomes import (
    nothing_to_take,
    on_trial,
    outcome_of,
    reverted,
    with_passed_over,
)
from agent.pipeline.probation import Judgement, Verdict
from agent.pipeline.resealing import take_again
from agent.pipeline.restraint import Restrains, nothing_restrains, restrained
from agent.pipeline.rules import not_by_itself, refuse_if_disabled
from agent.pipeline.runs import run
from agent.pipeline.search import Found, Search
from agent.pipeline.settling import refuse_strangers, settle
from agent.pipeline.source import followed
from agent.pipeline.steps import Progress, Steps
from agent.pipeline.taking import Taking, incoming
from agent.pipeline.unserved import finish
from agent.pipeline.wish import Wish
from agent.telemetry import Telemetry
from agent.tree.effects import Standing
from agent.tree.remembering import refuse_behind
from agent.verbs.inventory import is_whole


class Pipeline:
    """Runs the pipeline for one plugin at a time; one's failure never touches another's.

    Args:
        context: The installation.
        telemetry: Where spans go.
        progress: How the caller shows what goes on.
        ahead: Looks up what comes next in a run over many plugins.
        restrains: Asked before an update looks, and again before what it found goes live.
    """

    def __init__(
        self,
        context: Context,
        telemetry: Telemetry,
        progress: Progress | None = None,
        ahead: Ahead | None = None,
        *,
        restrains: Restrains = nothing_restrains,
    ) -> None:
        self._context = context
        self._restrains = restrains
        self._steps = Steps(telemetry, progress or Progress.silent())
        self._earlier = Earlier(context)
        self._search = Search(context, self._earlier, self._steps, ahead)
        self._taking = Taking(context, self._steps, restrains=restrains)

    def pull(self, wish: Wish) -> Outcome:
        """Take what a reference names; errors become the outcome's ``error``."""
        plugin_id = wish.reference.plugin_id
        live = self._context.activation.live(plugin_id)
        pull = functools.partial(self._pull, wish)
        return self._run(plugin_id, live, pull, decides=not wish.dry_run)

    def update(self, plugin_id: str, *, named: bool, dry_run: bool = False) -> Outcome:
        """Update one installed plugin from where it came from.

        Args:
            plugin_id: The plugin.
            named: A person named it: an open trial is judged and passed over.
            dry_run: Stop before the payload.
        """
        bound = self._restrains()
        is_dry = dry_run or bound is not None
        seen = self._context.activation.standing(plugin_id)

        def update() -> Outcome:
            outcome = self._update(plugin_id, seen, named=named, dry_run=is_dry)
            return outcome if bound is None else restrained(outcome, bound)

        return self._run(plugin_id, seen.live, update, decides=not dry_run)

    def fetch_to(
        self, reference: registry.Reference, folder: Path, *, dry_run: bool = False
    ) -> Outcome:
        """``pull --output``: write the verified files into a folder, install nothing.

        What lies in the folder under these names is replaced once all is verified, or not at
        all.
        """
        named = reference.version is not None or reference.digest is not None
        wish = Wish(reference, named=named, dry_run=dry_run, installs=False)

        def fetch() -> Outcome:
            with self._search.open(reference.location) as repository:
                write = functools.partial(
                    write_out, self._context, self._steps, repository, wish, folder
                )
                return self._search.first_taken(repository, wish, None, write)

        live = self._context.activation.live(reference.plugin_id)
        return self._run(reference.plugin_id, live, fetch, decides=False)

    def _run(
        self,
        plugin_id: str,
        live: Generation | None,
        work: Callable[[], Outcome],
        *,
        decides: bool,
    ) -> Outcome:
        return run(self._context, self._steps, plugin_id, live, work, decides=decides)

    # -- update: what was remembered becomes a wish

    def _update(self, plugin_id: str, seen: Standing, *, named: bool, dry_run: bool) -> Outcome:
        refuse_strangers(self._context)
        refuse_behind(self._context.ledger, self._context.tree, plugin_id)
        activation = self._context.activation
        if seen.stop is not None or seen.live is None:
            telemetry = self._steps.telemetry
            left = finish(self._context, telemetry, plugin_id, seen, dry_run=dry_run)
            if left is not None:
                return left
            seen = activation.standing(plugin_id)
        if seen.installed is None or seen.live is None:
            raise NotFoundError(
                f"cannot update {plugin_id}: it is not installed", hint=f"agent pull {plugin_id}"
            )
        installed = seen.installed
        due = None if named or not dry_run else self._foreseen(seen.trial)
        if due is not None:
            return due
        if not dry_run and (named or seen.trial is not None or activation.is_torn(seen)):
            judged = self._settle(plugin_id)
            seen = activation.standing(plugin_id)
            if judged is not None and judged[1].verdict is Verdict.UNHEALTHY and not named:
                return reverted(plugin_id, seen.live, judged[1])
        if named:
            return self._follow(installed, seen.live, dry_run=dry_run)
        # A trial never keeps away what puts right a release that hosts refuse.
        is_waiting = seen.trial is not None
        if is_waiting and seen.live is not None and is_signed_well(self._context, seen.live):
            return on_trial(plugin_id)
        if seen.live is not None and is_bare(self._context, seen.live):
            detail = "signed bare: it never updates by itself"
            return Outcome(plugin_id, Kind.CURRENT, "plan", detail, after=seen.live.version)
        outcome = self._follow(installed, seen.live, dry_run=dry_run)
        is_left = outcome.kind is Kind.CURRENT and outcome.step != "activate"
        return on_trial(plugin_id) if is_waiting and is_left else outcome

    def _follow(
        self, installed: Installed, serving: Generation | None, *, dry_run: bool
    ) -> Outcome:
        """Take what the place offers that an installed plugin updates from."""
        reference = followed(self._context, installed)
        try:
            return self._take(Wish(reference, unattended=True, dry_run=dry_run), serving)
        except registry.NotFoundError as error:
            if installed.repository is not None or self._steps.now != "check":
                raise
            detail = f"it came as files, and no registry has it: {error}"
            return Outcome(installed.plugin_id, Kind.CURRENT, "check", detail)

    def _foreseen(self, trial: Trial | None) -> Outcome | None:
        """How a run would judge an open trial; None where it would not. Nothing is done."""
        if trial is None:
            return None
        judgement = self._context.activation.verdict(trial)
        if judgement.verdict is Verdict.TOO_EARLY:
            return None
        word = "commit it" if judgement.verdict is Verdict.HEALTHY else "go back"
        return on_trial(trial.plugin_id, f"trial due: would {word}, {judgement.detail}")

    # -- the pipeline

    def _pull(self, wish: Wish) -> Outcome:
        context, plugin_id = self._context, wish.reference.plugin_id
        refuse_strangers(context)
        refuse_behind(context.ledger, context.tree, plugin_id)
        if not wish.dry_run:
            self._settle(plugin_id)
        self._steps.now = "plan"
        refuse_if_disabled(context, plugin_id, "take")
        return self._take(wish, context.activation.live(plugin_id))

    def _take(self, wish: Wish, serving: Generation | None) -> Outcome:
        self._steps.now = "plan"
        with self._search.open(wish.reference.location) as repository:
            take = functools.partial(self._take_found, repository, wish, serving)
            return self._search.first_taken(repository, wish, serving, take)

    def _take_found(
        self,
        repository: registry.Repository,
        wish: Wish,
        serving: Generation | None,
        found: Found,
    ) -> Outcome:
        """Take what a search found; or say why there is nothing to be taken."""
        plugin_id, candidate = wish.reference.plugin_id, found.candidate
        if candidate is None and serving is not None:
            candidate = self._search.installed_again(repository, wish, serving)
        if candidate is None:
            return nothing_to_take(plugin_id, serving, found)
        self._steps.now = "plan"
        if serving is not None and candidate.release == serving.release:
            outcome = self._take_again(repository, candidate, wish, serving)
            return replace(outcome, newest=found.newest)
        if wish.unattended:
            skip = not_by_itself(self._context, candidate, serving)
            if skip is not None:
                self._earlier.leave(repository, wish, candidate, skip)
                return nothing_to_take(plugin_id, serving, replace(found, skips=(skip,)))
        outcome = self._taking.take(
            candidate,
            wish,
            serving,
            functools.partial(fetch_payload, self._steps, repository, candidate),
            channel=self._channel(wish),
        )
        if outcome.kind is Kind.PENDING and outcome.step == "consent":
            self._earlier.wait(repository, wish, candidate.offer, outcome)
            return replace(outcome, newest=found.newest)
        return with_passed_over(outcome, found)

    def _take_again(
        self,
        repository: registry.Repository,
        candidate: Offered,
        wish: Wish,
        serving: Generation,
    ) -> Outcome:
        """The release that serves, believed once more: signed anew, or to be mended."""
        context = self._context
        sealed = context.tree.folder(serving) / f"{serving.stem}.wasm"
        is_broken = not wish.unattended and not is_whole(context, serving)
        if wish.dry_run:
            planned = "would be mended" if is_broken else None
            if candidate.key_id != serving.key_id:
                planned = "its signature would be replaced"
            kind = Kind.PLANNED if planned else Kind.CURRENT
            return outcome_of(candidate, kind, "plan", planned or "this release is installed")
        with incoming(context) as folder:
            plugin = PluginSet(serving.stem, sealed, candidate.signature, candidate.manifest_bytes)
            if is_broken:
                plugin = fetch_payload(self._steps, repository, candidate, folder)
            return take_again(context, candidate, serving, plugin)

    def _channel(self, wish: Wish) -> str | None:
        """The tag to follow from now on: the one that was named; an update run keeps it."""
        reference = wish.reference
        if wish.unattended:
            installed = self._context.ledger.installed(reference.plugin_id)
            return installed.channel if installed else None
        return None if reference.version or reference.digest else reference.tag

    def _settle(self, plugin_id: str) -> tuple[Trial, Judgement] | None:
        return settle(self._context, self._steps.telemetry, plugin_id)
