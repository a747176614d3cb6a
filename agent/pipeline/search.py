"""Finding the candidate: what a repository offers, which of it to try, whose head is believed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import registry
from agent.context import Context
from agent.errors import AgentError, NotFoundError, translated
from agent.model import Generation, Outcome
from agent.pipeline.admission import is_signed_well
from agent.pipeline.ahead import Ahead
from agent.pipeline.candidate import (
    Offered,
    check_head,
    has_moved,
    judge_head,
    read_head,
    refuse_large_module,
    refuse_other_release,
)
from agent.pipeline.earlier import Earlier
from agent.pipeline.faults import blocks_nobody
from agent.pipeline.plan import (
    Offer,
    Rules,
    Skip,
    choose,
    cooling,
    held,
    newest_above,
    refused_before,
    version_offers,
)
from agent.pipeline.requirement import parse_requirement
from agent.pipeline.steps import Steps
from agent.pipeline.wish import Wish
from agent.verbs.holding import hold_on
from agent.verbs.inventory import is_whole

_MOST_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        candidate: The release to take; None where there is none.
        skips: Why others were passed over.
        newest: The highest version above what serves, taken or not.
    """

    candidate: Offered | None
    skips: tuple[Skip, ...]
    newest: str | None


_Offers = tuple[tuple[Offer, ...], tuple[Skip, ...], str | None]


class Search:
    """Finds the first offer that the rules admit, trust believes and this host can take.

    Args:
        context: The installation.
        earlier: What earlier runs found out.
        steps: Where the search shows its place.
        ahead: Has listed tags already; None = nobody has.
    """

    def __init__(
        self, context: Context, earlier: Earlier, steps: Steps, ahead: Ahead | None
    ) -> None:
        self._context = context
        self._earlier = earlier
        self._steps = steps
        self._ahead = ahead

    def open(self, location: registry.Location) -> registry.Repository:
        """Open a repository, unless it was opened ahead; see ``Context.open_repository``."""
        opened = self._ahead.opened(location) if self._ahead else None
        return opened or self._context.open_repository(location)

    def first_taken(
        self,
        repository: registry.Repository,
        wish: Wish,
        serving: Generation | None,
        take: Callable[[Found], Outcome],
    ) -> Outcome:
        """Take the first offer whose head is believed and whose code can be taken.

        Args:
            repository: Where.
            wish: What is asked for.
            serving: What serves; None where nothing does, or nothing is to be installed.
            take: Takes a candidate, or says what is to be done where there is none; what it
                refuses by the candidate's own fault is remembered, and the next one tried.

        Raises:
            AgentError, registry.RegistryError, sandbox.SandboxError: The offer that was named
                is refused, or all that were tried are (the first one's error).
        """
        plugin_id = wish.reference.plugin_id
        with self._steps.stepping(plugin_id, "check"):
            offers, skips, newest = self._offers(repository, wish, serving)
        first: tuple[AgentError, str] | None = None
        for offer in offers:
            pending = self._earlier.pending(repository, wish, offer)
            if pending is not None:
                return replace(pending, newest=newest)
            try:
                candidate = self._head(repository, wish, offer)
                with self._earlier.refusing(repository, wish, offer, candidate.digest):
                    return take(Found(candidate, skips, newest))
            except Exception as error:
                cause = translated(error)
                if cause is None or not blocks_nobody(error):
                    raise
                first = first or (cause, self._steps.now)
                self._steps.passed_over.append(cause)
                skips = (*skips, Skip(offer.version, cause.code, cause.message))
        if first is not None:
            refusal, self._steps.now = first
            self._steps.version = offers[0].version
            raise refusal
        return take(Found(None, skips, newest))

    def installed_again(
        self, repository: registry.Repository, wish: Wish, serving: Generation
    ) -> Offered | None:
        """The release that serves as the repository has it now, where that is worth a look.

        A person who asks for the plugin is worth one request; an update run looks only where
        what serves is not believed any more. Its bytes are not hashed for that.

        Returns:
            None where nothing is to be done, or the repository does not have it any more.

        Raises:
            AgentError, registry.RegistryError, sandbox.SandboxError: What is there now is
                refused, or could not be fetched.
        """
        context = self._context
        is_believed = is_signed_well(context, serving)
        if wish.unattended and is_believed:
            return None
        tag = serving.version.replace("+", "_")
        offer = Offer(tag, serving.version)
        try:
            digest = repository.resolve(tag).digest
            if digest == serving.digest and is_believed and is_whole(context, serving):
                return None
            return self._head(repository, wish, offer)
        except registry.NotFoundError:
            if serving.digest is None or is_whole(context, serving):
                return None
            return self._head(repository, wish, replace(offer, tag=None, digest=serving.digest))

    def _offers(
        self, repository: registry.Repository, wish: Wish, serving: Generation | None
    ) -> _Offers:
        """What to try in order, what is passed over, and the newest of all."""
        reference = wish.reference
        if reference.digest is not None:
            return (Offer(reference.tag, reference.version, reference.digest),), (), None
        if reference.version is not None:
            return (Offer(reference.tag, reference.version),), (), None
        if reference.tag is not None:
            return (*self._channel_offer(repository, wish, serving), None)
        offers = self._version_offers(repository, wish)
        # The highest are enough: nobody takes the hundredth, and a listing can be endless.
        highest = offers[:_MOST_LOOKED_AT]
        rules = self._rules(repository, wish, serving, [str(offer.tag) for offer in highest])
        tries, skips = choose(highest, rules)
        return tries, skips, newest_above(offers, rules.installed)

    def _channel_offer(
        self, repository: registry.Repository, wish: Wish, serving: Generation | None
    ) -> tuple[tuple[Offer, ...], tuple[Skip, ...]]:
        """A channel: one HEAD; the same digest as installed = nothing to do."""
        tag = str(wish.reference.tag)
        digest = repository.resolve(tag).digest
        if serving is not None and serving.digest == digest:
            return (), ()
        # What a channel names is identified by its digest: that is what was first seen when.
        rules = self._rules(repository, wish, serving, (digest,))
        why = held(rules.hold, rules.now)
        if why is not None:
            return (), (Skip(None, "held", why, waits=True),)
        left_s = rules.cooldown_s - (rules.now - rules.first_seen[digest])
        if left_s > 0:
            return (), (Skip(None, "cooldown", cooling(left_s), waits=True),)
        refusal = rules.refused.get(tag)
        if wish.unattended and refusal is not None and refusal.digest == digest:
            return (), (refused_before(None, refusal),)
        return (Offer(tag, None, digest),), ()

    def _version_offers(self, repository: registry.Repository, wish: Wish) -> tuple[Offer, ...]:
        """All versions, highest first, by one listing of the tags."""
        tags = self._ahead.tags(repository) if self._ahead else repository.tags()
        offers = version_offers(tags)
        if not offers:
            raise NotFoundError(
                f"cannot find a version of {wish.reference.plugin_id} in "
                f"{repository.location.text}: no tag is a version",
                hint=f"agent tags {wish.reference.text}",
            )
        return offers

    def _rules(
        self,
        repository: registry.Repository,
        wish: Wish,
        serving: Generation | None,
        tags: Sequence[str],
    ) -> Rules:
        context, plugin_id = self._context, wish.reference.plugin_id
        where, now = repository.location.text, context.clock()
        seen = context.ledger.see_tags(where, tags, at=now)
        section = context.config.plugin(plugin_id)
        installed = context.ledger.installed(plugin_id) if wish.installs else None
        rejected = context.ledger.rejections(plugin_id).values() if wish.installs else ()
        return Rules(
            installed=serving.version if serving else None,
            floor=installed.floor if installed and not wish.allow_downgrade else None,
            constraint=parse_requirement(section.constraint) if section.constraint else None,
            rejected={r.version: r.reason for r in rejected},
            refused=self._earlier.refusals(repository, wish),
            first_seen={tag: first.at for tag, first in seen.items()},
            cooldown_s=context.config.update.cooldown if wish.unattended else 0,
            hold=hold_on(context, plugin_id) if wish.unattended else None,
            now=now,
        )

    def _head(self, repository: registry.Repository, wish: Wish, offer: Offer) -> Offered:
        context, location = self._context, repository.location
        self._steps.version = offer.version
        pinned = offer.version is not None and offer.digest is None
        with self._steps.stepping(location.plugin_id, "fetch") as span:
            with self._earlier.refusing(repository, wish, offer, None):
                manifest = repository.manifest(offer.digest or str(offer.tag))
            span.set_attribute("oci.manifest.digest", manifest.digest)
            moved = pinned and has_moved(context, location, offer, manifest.digest)
            with self._earlier.refusing(repository, wish, offer, manifest.digest):
                artifact = registry.read_artifact(
                    manifest, max_artifact_bytes=context.config.registry.max_artifact_bytes
                )
                if wish.installs:
                    refuse_large_module(context, artifact)
                head = read_head(context, repository, artifact)
                check_head(location, offer, head)
            if moved:
                refuse_other_release(context, location, offer, head)
        with (
            self._steps.stepping(location.plugin_id, "verify"),
            self._earlier.refusing(repository, wish, offer, manifest.digest),
        ):
            candidate = judge_head(context, repository, offer, head)
        if pinned:
            # Only what is believed: a forged look must not bar the genuine bytes for ever.
            context.ledger.see_release(
                *(location.text, str(offer.tag), manifest.digest, candidate.release),
                at=context.clock(),
            )
        return candidate
