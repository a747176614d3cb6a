"""Finding the candidate: what a repository offers, which of it to try, whose head is believed."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import registry
from agent.candidate import Candidate, fetch_manifest, is_lasting, judge_head, read_head
from agent.context import Context
from agent.errors import AgentError, NotFoundError, translated
from agent.model import Generation
from agent.plan import Offer, Rules, Skip, choose, held, version_offers
from agent.requirement import parse_requirement
from agent.steps import Steps


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person or the schedule asked for.

    Attributes:
        named: A version or digest was named: rejections and cooldown do not bind it.
        unattended: An update run: cooldown and hold bind it.
        activate: False: stage only.
        dry_run: Stop before the payload.
    """

    reference: registry.Reference
    named: bool = False
    unattended: bool = False
    allow_downgrade: bool = False
    activate: bool = True
    dry_run: bool = False


class Search:
    """Finds the first offer that the rules admit and trust believes.

    Args:
        context: The installation.
        steps: Where the search shows its place.
    """

    def __init__(self, context: Context, steps: Steps) -> None:
        self._context = context
        self._steps = steps

    def first_believed(
        self, repository: registry.Repository, wish: Wish, serving: Generation | None
    ) -> tuple[Candidate | None, tuple[Skip, ...]]:
        """The first offer whose head is believed; the others' reasons."""
        plugin_id = wish.reference.plugin_id
        with self._steps.stepping(plugin_id, "check"):
            offers, skips = self._offers(repository, wish, serving)
        refused: list[AgentError] = []
        for offer in offers:
            try:
                return self._head(repository, offer), skips
            except Exception as error:
                cause = translated(error)
                if cause is None or not is_lasting(cause):
                    raise
                refused.append(cause)
                skips = (*skips, Skip(offer.version, cause.code, cause.message))
        if refused:
            self._steps.version = offers[0].version
            raise refused[0]
        return None, skips

    def _offers(
        self, repository: registry.Repository, wish: Wish, serving: Generation | None
    ) -> tuple[tuple[Offer, ...], tuple[Skip, ...]]:
        reference = wish.reference
        if reference.digest is not None:
            return (Offer(reference.tag, reference.version, reference.digest),), ()
        if reference.version is not None:
            return (Offer(reference.tag, reference.version),), ()
        if reference.tag is not None:
            return self._channel_offer(repository, wish, serving)
        return self._version_offers(repository, wish, serving)

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
        why = held(rules.hold_until, rules.now)
        if why is not None:
            return (), (Skip(None, "held", why, waits=True),)
        if rules.now - rules.first_seen[digest] < rules.cooldown_s:
            return (), (Skip(None, "cooldown", "cooldown of the channel's release", waits=True),)
        refusals = self._refusals(repository)
        if wish.unattended and digest in refusals:
            return (), (Skip(None, "refused", f"refused before: {refusals[digest]}"),)
        return (Offer(tag, None, digest),), ()

    def _version_offers(
        self, repository: registry.Repository, wish: Wish, serving: Generation | None
    ) -> tuple[tuple[Offer, ...], tuple[Skip, ...]]:
        """Versions: one listing of the tags, chosen among by the pure rules."""
        offers = version_offers(repository.tags())
        if not offers:
            raise NotFoundError(
                f"cannot find a version of {wish.reference.plugin_id} in "
                f"{repository.location.text}: no tag is a version",
                hint=f"agent tags {wish.reference.text}",
            )
        rules = self._rules(repository, wish, serving, [str(offer.tag) for offer in offers])
        return choose(offers, rules)

    def _rules(
        self,
        repository: registry.Repository,
        wish: Wish,
        serving: Generation | None,
        tags: Sequence[str],
    ) -> Rules:
        context, plugin_id = self._context, wish.reference.plugin_id
        where, now = repository.location.text, context.clock()
        context.ledger.see_tags(where, tags, at=now)
        seen = context.ledger.seen(where)
        refusals = self._refusals(repository)
        section = context.config.plugin(plugin_id)
        installed = context.ledger.installed(plugin_id)
        return Rules(
            installed=serving.version if serving else None,
            floor=installed.floor if installed and not wish.allow_downgrade else None,
            constraint=parse_requirement(section.constraint) if section.constraint else None,
            rejected={r.version: r.reason for r in context.ledger.rejections(plugin_id).values()},
            refused={
                tag.replace("_", "+"): refusals[digest]
                for tag, (digest, _) in seen.items()
                if digest in refusals
            },
            first_seen={tag: at for tag, (_, at) in seen.items()},
            cooldown_s=context.config.update.cooldown if wish.unattended else 0,
            hold_until=section.hold_until if wish.unattended else None,
            now=now,
        )

    def _refusals(self, repository: registry.Repository) -> dict[str, str]:
        return self._context.ledger.refusals(
            repository.location.text, terms=self._context.refusal_terms()
        )

    @contextlib.contextmanager
    def _remembering(self, repository: registry.Repository, digest: str) -> Iterator[None]:
        """Remember a candidate that is refused inside, by digest."""
        try:
            yield
        except Exception as error:
            cause = translated(error)
            if cause is not None and is_lasting(cause):
                self._context.ledger.refuse(
                    repository.location.text,
                    digest,
                    terms=self._context.refusal_terms(),
                    reason=cause.message,
                    at=self._context.clock(),
                )
            raise

    def _head(self, repository: registry.Repository, offer: Offer) -> Candidate:
        context, plugin_id = self._context, repository.location.plugin_id
        self._steps.version = offer.version
        with self._steps.stepping(plugin_id, "fetch"):
            manifest = fetch_manifest(context, repository, offer)
            with self._remembering(repository, manifest.digest):
                artifact = registry.read_artifact(
                    manifest, max_artifact_bytes=context.config.registry.max_artifact_bytes
                )
            head = read_head(context, repository, offer, artifact)
        with (
            self._steps.stepping(plugin_id, "verify"),
            self._remembering(repository, manifest.digest),
        ):
            return judge_head(context, repository, offer, head)
