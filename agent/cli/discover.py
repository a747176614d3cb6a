"""discover: what is attached to an artifact, as a tree."""

from collections.abc import Iterator, Sequence

import click

import registry
from agent.cli.app import App, format_flag, require_no_path, verb
from agent.cli.output import sizes
from agent.pipeline.heads import named_offer, open_looking
from registry.attached import Attached, at_cosign_tags, attached_to

# Sigstore's bundles are all of one type: this says whether it is a signature or what it attests.
_PREDICATE = "dev.sigstore.bundle.predicateType"
_MAX_WORD_CHARS = 100


@verb(
    name="discover",
    examples="agent discover org.example.hello\n"
    "agent discover org.example.hello:0.2.0 --artifact-type application/spdx+json",
)
@click.argument("reference_text", metavar="REF")
@click.option("--artifact-type", metavar="TYPE", help="Show those of this type alone.")
@format_flag
def discover_command(app: App, reference_text: str, *, artifact_type: str | None) -> None:
    """Show what refers to an artifact, and to that in turn: signatures, attestations, SBOMs.

    Each is fetched, and shown with its reason where it is not what the registry's list says. What
    cosign kept at tags of its own is shown, too. Nothing is believed by that: see verify.
    """
    require_no_path("discover", reference_text)
    context = app.context
    reference = registry.parse_reference(reference_text, context.bases())
    with open_looking(context, reference) as repository:
        offer = named_offer(context, repository, reference)
        # The manifest itself is asked for: a list of what refers to nothing is empty, too.
        digest = repository.manifest(offer.digest or str(offer.tag)).digest
        tagged = at_cosign_tags(repository, digest)
        found = (
            *attached_to(repository, digest, artifact_type=artifact_type),
            *(one for one in tagged if artifact_type in (None, one.kind)),
        )
    tag = "" if offer.tag is None else f":{offer.tag}"
    ref = f"{reference.location.text}{tag}@{digest}"
    if app.out.as_json:
        app.out.document(ref=ref, digest=digest, referrers=rows_of(found))
        return
    app.out.line(ref)
    for line in _lines(found):
        app.out.line(line)
    if not found:
        app.out.message("nothing is attached")


def rows_of(found: Sequence[Attached]) -> list[dict[str, object]]:
    """What is attached as JSON."""
    return [
        {
            "digest": one.descriptor.digest,
            "artifact_type": one.kind,
            "tag": one.tag,
            "size_bytes": one.descriptor.size_bytes,
            "annotations": dict(
                one.descriptor.annotations if one.manifest is None else one.manifest.annotations
            ),
            "problem": one.problem,
            "referrers": rows_of(one.referrers),
        }
        for one in found
    ]


def line_of(one: Attached) -> str:
    """One that is attached, for people."""
    said = f"{one.kind}  {one.descriptor.digest}"
    if one.manifest is None:
        return f"{said}  not used: {one.problem}"
    predicate = one.manifest.annotations.get(_PREDICATE)
    more = "" if predicate is None else f"  {predicate[:_MAX_WORD_CHARS]}"
    if one.tag is not None:
        more = f"  at the tag {one.tag}"
    return f"{said}  {sizes(sum(blob.size_bytes for blob in one.manifest.blobs))}{more}"


def _lines(found: Sequence[Attached], before: str = "") -> Iterator[str]:
    for number, one in enumerate(found, 1):
        branch, below = ("└── ", "    ") if number == len(found) else ("├── ", "│   ")
        yield f"{before}{branch}{line_of(one)}"
        yield from _lines(one.referrers, before + below)
