"""What earlier runs found out about candidates, so that an unchanged check is one request."""

import contextlib
from collections.abc import Iterator, Mapping

import registry
from agent.context import Context
from agent.errors import TrustError, translated
from agent.model import Outcome, Refusal
from agent.pipeline.candidate import Offered
from agent.pipeline.faults import is_lasting
from agent.pipeline.plan import Offer, Skip
from agent.pipeline.terms import consent_terms, refusal_terms
from agent.pipeline.wish import Wish

_FOR_S = 86_400
"""A refused tag is looked at again after a day: the publisher may have mended it."""


class Earlier:
    """Remembers candidates that were not taken, each under the terms of the day.

    Args:
        context: The installation.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def refusals(self, repository: registry.Repository, wish: Wish) -> Mapping[str, Refusal]:
        """Tag → why it was refused, under the terms of the day."""
        terms = refusal_terms(self._context, wish.reference.plugin_id)
        where, since = repository.location.text, self._context.clock() - _FOR_S
        found = self._context.ledger.refusals(where, terms=terms, since=since)
        # What this host can't run may be fetched all the same.
        return {r.tag: r for r in found if wish.installs or r.code == TrustError.code}

    @contextlib.contextmanager
    def refusing(
        self, repository: registry.Repository, wish: Wish, offer: Offer, digest: str | None
    ) -> Iterator[None]:
        """Remember a candidate that is refused inside, so that the next run passes it over."""
        try:
            yield
        except Exception as error:
            cause = translated(error)
            if cause is not None and is_lasting(error) and not wish.dry_run and offer.tag:
                self._refuse(repository, wish, offer.tag, digest, cause.code, cause.message)
                self._context.audit.refused(
                    wish.reference.plugin_id, offer.version, cause, digest=digest
                )
            raise

    def leave(
        self, repository: registry.Repository, wish: Wish, candidate: Offered, skip: Skip
    ) -> None:
        """Remember a believed candidate that a rule leaves alone."""
        tag = candidate.offer.tag
        if tag is not None and not wish.dry_run:
            self._refuse(repository, wish, tag, candidate.digest, skip.code, skip.detail)

    def pending(self, repository: registry.Repository, wish: Wish, offer: Offer) -> Outcome | None:
        """What an update run said of an offer that waits for consent, if that still holds."""
        if not wish.unattended or offer.tag is None:
            return None
        context, plugin_id = self._context, wish.reference.plugin_id
        found = context.ledger.pending(
            repository.location.text,
            offer.tag,
            plugin_id=plugin_id,
            terms=consent_terms(context, plugin_id),
            since=context.clock() - _FOR_S,
        )
        if found is None or offer.digest not in (None, found.digest):
            return None
        return found

    def wait(
        self, repository: registry.Repository, wish: Wish, offer: Offer, pending: Outcome
    ) -> None:
        """Remember an offer that waits for consent; a dry run does, too: it asks nothing more."""
        if wish.unattended and offer.tag is not None:
            self._context.ledger.note_pending(
                repository.location.text,
                offer.tag,
                pending,
                terms=consent_terms(self._context, wish.reference.plugin_id),
                at=self._context.clock(),
            )

    def _refuse(
        self,
        repository: registry.Repository,
        wish: Wish,
        tag: str,
        digest: str | None,
        code: str,
        reason: str,
    ) -> None:
        refusal = Refusal(tag, digest, code, reason, self._context.clock())
        terms = refusal_terms(self._context, wish.reference.plugin_id)
        self._context.ledger.refuse(repository.location.text, refusal, terms=terms)
