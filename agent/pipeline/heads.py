"""What a reference names in its registry: the head of one release, looked at and not taken."""

import contextlib
from collections.abc import Iterator

import registry
from agent.context import Context
from agent.errors import NotFoundError, PolicyError
from agent.pipeline.candidate import Head, check_head, read_head
from agent.pipeline.plan import Offer, Rules, choose, version_offers
from agent.pipeline.requirement import parse_requirement


def find_head(context: Context, text: str) -> tuple[registry.Reference, Head]:
    """Fetch the head of the release that a reference names (contract §4, "References").

    Args:
        context: The installation.
        text: As a user typed it; without a version the newest that the plugin's constraint
            admits, pre-releases only where that asks for them.

    Returns:
        The reference, and the small files of the artifact, checked for shape and not judged.

    Raises:
        NotFoundError: There is no version.
        PolicyError: No version may be taken: the constraint, or pre-releases only.
        AgentError, registry.RegistryError, sandbox.SandboxError: As ``read_head`` and
            ``check_head`` raise.
    """
    reference = registry.parse_reference(text, context.bases())
    with open_looking(context, reference) as repository:
        offer = named_offer(context, repository, reference)
        return reference, head_at(context, repository, offer)


def head_at(context: Context, repository: registry.Readable, offer: Offer) -> Head:
    """Fetch the head of what a repository offers; see ``find_head``."""
    artifact = registry.read_artifact(
        repository.manifest(offer.digest or str(offer.tag)),
        max_artifact_bytes=context.config.registry.max_artifact_bytes,
    )
    head = read_head(context, repository, artifact)
    check_head(repository.location, offer, head)
    return head


def named_offer(
    context: Context, repository: registry.Repository, reference: registry.Reference
) -> Offer:
    """What a reference names; without version, channel and digest the newest that may be taken.

    Raises:
        NotFoundError: There is no version.
        PolicyError: No version may be taken.
        registry.RegistryError: As of the repository.
    """
    if reference.tag is None and reference.digest is None:
        return _newest(context, repository)
    return Offer(reference.tag, reference.version, reference.digest)


@contextlib.contextmanager
def open_looking(context: Context, reference: registry.Reference) -> Iterator[registry.Repository]:
    """Open the repository of a reference that somebody typed, for a look; see ``looking``."""
    with looking(reference), context.open_repository(reference.location) as repository:
        yield repository


@contextlib.contextmanager
def looking(reference: registry.Reference) -> Iterator[None]:
    """Look for what a reference names, as somebody typed it.

    Raises:
        NotFoundError: What is looked for is not there; says what to type instead.
    """
    try:
        yield
    except registry.NotFoundError as error:
        named = reference.tag is not None or reference.digest is not None
        hint = "agent config show --effective shows where plugins are looked for"
        if named:
            hint = f"agent tags {reference.location.text} shows what may be named"
        raise NotFoundError(str(error), hint=hint) from error


def _newest(context: Context, repository: registry.Repository) -> Offer:
    """The offer that a first install would try first; nothing but the constraint binds it."""
    location = repository.location
    constraint = context.config.plugin(location.plugin_id).constraint
    rules = Rules(
        installed=None,
        floor=None,
        constraint=parse_requirement(constraint) if constraint else None,
        rejected={},
        refused={},
        first_seen={},
        cooldown_s=0,
        hold=None,
        now=context.clock(),
    )
    tries, skips = choose(version_offers(repository.tags()), rules)
    if tries:
        return tries[0]
    hint = f"agent tags {location.text} shows what may be named"
    if not skips:
        raise NotFoundError(f"cannot find a version in {location.text}", hint=hint)
    raise PolicyError(
        f"cannot choose a version in {location.text}: {skips[0].version} is the newest, and "
        f"{skips[0].detail}",
        reason=skips[0].reason,
        hint=hint,
    )
